"""Models that the cache of slots does not hold: draws are those of the model's own forward pass over a row alone."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cohobate.core.errors import CohobateError
from cohobate.models.sampling.sampler import Decoding, Sampled, sample, uniforms, way_in_words
from tests.support import zoo
from tests.support.zoo import build

LENGTHS = (5, 17, 8, 17, 1)
KEYS = [str(length) + each for each, length in zip("abcde", LENGTHS, strict=True)]


def _prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(3, 508, (length,), generator=draw).tolist() for length in LENGTHS]


def _drawn(model: Any, chosen: list[int], tokens: int = 12, eos: tuple[int, ...] = ()) -> list[Sampled]:
    prompts, noise = [_prompts()[i] for i in chosen], uniforms(0, [KEYS[i] for i in chosen], tokens)
    return sample(model, prompts, Decoding(tokens), noise, eos_ids=eos, pad_id=0)


@torch.no_grad()
def _by_hand(model: Any, prompt: list[int], key: str, tokens: int) -> list[int]:
    """The inverse CDF of each step's own noise, a whole pass a token."""
    noise, ids = uniforms(0, [key], tokens)[0], list(prompt)
    for place in range(tokens):
        chances = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double().softmax(-1).cumsum(-1)
        ids.append(int(torch.searchsorted(chances, torch.tensor(noise[place]) * chances[-1], right=True)))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3", ""),
        ("gemma4_unified_text", ""),
        ("lfm2", "own cache"),
        ("bloom", "own cache"),
        ("xlstm", "without a cache"),
        ("gpt_neo", "own cache"),
    ],
)
def test_draws_are_those_of_the_models_own_passes(name: str, words: str) -> None:
    model = build(name)
    assert words in way_in_words(model) and bool(words) == bool(way_in_words(model))
    drawn = _drawn(model, [0, 1, 2, 3, 4], 6)
    assert len(drawn) == 5
    for prompt, key, row in zip(_prompts(), KEYS, drawn, strict=True):
        assert row.response_ids == _by_hand(model, prompt, key, 6)
        assert row.finish_reason == "length"


def test_windows_that_differ_from_layer_to_layer_are_refused_in_a_sentence() -> None:
    """Transformers builds such a Mistral, and cannot make its masks."""
    config = AutoConfig.for_model("mistral", **zoo.SIZE, sliding_window=8, per_layer_config={1: {"sliding_window": 3}})
    with pytest.raises(CohobateError, match="cannot be sampled in this process") as refusal:
        _drawn(AutoModelForCausalLM.from_config(config).eval(), [0])
    assert "\n" not in str(refusal.value)


def test_a_recurrent_row_does_not_depend_on_the_rows_beside_it() -> None:
    model = build("mamba")
    together = _drawn(model, [0, 1, 2, 3, 4])
    for i in range(5):
        [alone] = _drawn(model, [i])
        assert alone.response_ids == together[i].response_ids
        assert alone.logprobs == pytest.approx(together[i].logprobs, abs=1e-5)


def test_a_row_ends_at_its_own_end() -> None:
    model = build("lfm2")
    free = _drawn(model, [0, 1, 2, 3, 4])
    end = free[1].response_ids[4]
    assert len(free) == 5
    for row, whole in zip(_drawn(model, [0, 1, 2, 3, 4], eos=(end,)), free, strict=True):
        ids = whole.response_ids
        cut = ids.index(end) + 1 if end in ids else len(ids)
        assert row.response_ids == ids[:cut]
        assert row.finish_reason == ("stop" if end in ids else "length")
        assert row.logprobs == pytest.approx(whole.logprobs[:cut], abs=1e-5)


def test_settings_of_the_models_folder_do_not_touch_a_draw() -> None:
    """A repetition penalty, forced or suppressed tokens and ends of its generation config are no part of the policy."""
    model = build("bloom")
    plain = _drawn(model, [1, 2])
    own = model.generation_config
    own.update(
        repetition_penalty=3.0, suppress_tokens=[5, 6], temperature=0.1, do_sample=True, eos_token_id=list(range(512))
    )
    assert [row.response_ids for row in _drawn(model, [1, 2])] == [row.response_ids for row in plain]
    assert model.generation_config is own


def test_what_interrupts_a_generation_is_not_taken_for_a_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from cohobate.core import interrupts

    model = build("lfm2")
    way_in_words(model)

    def wanted_no_more() -> None:
        raise CohobateError("wanted no more")

    monkeypatch.setattr(interrupts, "check", wanted_no_more)
    with pytest.raises(CohobateError, match="wanted no more"):
        _drawn(model, [0])
