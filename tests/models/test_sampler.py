"""Rollouts against transformers: its greedy generation, its forward pass, its truncation."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from cohobate.core.errors import ModelError
from cohobate.models import logprobs
from cohobate.models.loading import LoadedModel, load
from cohobate.models.sampling import sampler
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import encode
from tests.support.sampling_runs import GREEDY, KEYS, drawn

# Which tokens.


def test_greedy_rollouts_are_those_of_transformers(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    found = drawn(teacher, prompts, GREEDY)
    for prompt, response in zip(prompts, found, strict=True):
        whole = teacher.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=48,
        )
        assert response.response_ids == whole[0, len(prompt) :].tolist()
    assert len({len(response.response_ids) for response in found}) > 2  # rows ended at different times


def test_padding_shifts_no_position_of_a_model_that_knows_absolute_ones() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=1.0, bos_token_id=None, eos_token_id=None))
    prompts = [[3], [7, 8, 9, 10, 11, 12], [20, 30, 40]]
    found = sample(model.eval(), prompts, Decoding(12, temperature=0), None, eos_ids=[], pad_id=0)
    for prompt, response in zip(prompts, found, strict=True):
        inputs, mask = torch.tensor([prompt]), torch.ones(1, len(prompt))
        whole = model.generate(inputs, attention_mask=mask, do_sample=False, max_new_tokens=12)
        assert response.response_ids == whole[0, len(prompt) :].tolist()


@torch.no_grad()
def test_each_token_is_the_inverse_cdf_of_its_own_noise(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    """A slow twin: a whole forward pass a token, and a walk along the vocabulary."""
    hot = Decoding(8, temperature=3)
    noise = uniforms(0, KEYS, 8)
    found = drawn(teacher, prompts, hot)
    assert len(found) == len(KEYS) and all(response.response_ids for response in found)
    for row, response in enumerate(found):
        for place, token in enumerate(response.response_ids):
            ids = torch.tensor([[*prompts[row], *response.response_ids[:place]]])
            chances = (teacher.model(ids).logits[0, -1].double() / 3).softmax(-1)
            below = float(chances[:token].sum())
            assert below - 1e-6 < noise[row, place] < below + float(chances[token]) + 1e-6


def test_the_same_noise_draws_the_same_bits(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    assert drawn(teacher, prompts, Decoding(32)) == drawn(teacher, prompts, Decoding(32))


def test_other_noise_draws_other_tokens(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    hot = Decoding(16, temperature=5.0)
    first, second, third = (r.response_ids for r in drawn(teacher, [prompts[0]] * 3, hot, ["a", "b", "c"]))
    assert first != second != third != first


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_token_is_drawn_from_the_softmax(teacher: LoadedModel, temperature: float) -> None:
    """3,000 draws: all counts lie within 4 standard errors, and at another temperature they would not."""
    count, model = 3000, load("world/base", device="cpu")
    prompt = encode(model.tokenizer, "The")
    noise = uniforms(7, [str(i) for i in range(count)], 1)
    found = sample(
        model.model,
        [prompt] * count,
        Decoding(1, temperature),
        noise,
        eos_ids=model.eos_ids,
        pad_id=model.pad_id,
    )
    with torch.no_grad():
        logits = model.model(torch.tensor([prompt])).logits[0, -1].double()
    seen = torch.bincount(torch.tensor([r.response_ids[0] for r in found]), minlength=len(logits))

    def worst(probabilities: torch.Tensor) -> float:
        common = probabilities * count > 10
        assert common.sum() >= 5
        p = torch.cat([probabilities[common], probabilities[~common].sum()[None]])
        n = torch.cat([seen[common], seen[~common].sum()[None]])
        return float(((n - count * p).abs() / (count * p * (1 - p)).sqrt()).max())

    assert worst((logits / temperature).softmax(-1)) < 4
    assert worst((logits / (temperature * 1.3)).softmax(-1)) > 4


def by_generate(model: Any, prompt: list[int], tokens: int) -> list[int]:
    inputs = torch.tensor([prompt])
    mask = torch.ones_like(inputs)
    whole = model.generate(inputs, attention_mask=mask, do_sample=False, max_new_tokens=tokens, eos_token_id=None)
    response: list[int] = whole[0, len(prompt) :].tolist()
    return response


SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
DECODERS: dict[str, Any] = {
    "llama, grouped heads": LlamaConfig(**SMALL),
    "mistral, sliding": MistralConfig(**SMALL, sliding_window=7),
    "qwen, full and sliding": Qwen3Config(**SMALL, use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "gemma, capped logits": Gemma2Config(**SMALL, sliding_window=7),
}


@pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())
def test_any_decoder_is_sampled_as_transformers_does(config: Any) -> None:
    """100 tokens: beyond what the cache holds at first, and beyond every window."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompts = [[3], [7, 8, 9, 10, 11, 12], [20] * 12, [1, 2, 3]]
    found = sample(model, prompts, Decoding(100, temperature=0), None, eos_ids=[], pad_id=0, batch_size=3)
    for prompt, response in zip(prompts, found, strict=True):
        expected = by_generate(model, prompt, 100)
        assert response.response_ids == expected
    assert len({tuple(row.response_ids[-5:]) for row in found}) > 1


def test_a_model_of_another_kind_of_layers_is_refused() -> None:
    config = Qwen3Config(**SMALL)
    config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    model = AutoModelForCausalLM.from_config(Qwen3Config(**SMALL)).eval()
    model.config.layer_types = config.layer_types
    with pytest.raises(ModelError, match=r"cannot be sampled in this process .*serve the model"):
        sample(model, [[1, 2]], Decoding(1, temperature=0), None, eos_ids=[], pad_id=0)


def test_half_precision_products_change_little(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    plain = drawn(teacher, prompts, GREEDY)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = drawn(teacher, prompts, GREEDY)
    for ours, theirs in zip(plain, rough, strict=True):
        assert theirs.logprobs[0] == pytest.approx(ours.logprobs[0], abs=0.1)
    assert [row.logprobs for row in plain] != [row.logprobs for row in rough]


def test_sampling_without_noise_is_refused(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="uniforms"):
        sample(teacher.model, prompts, Decoding(4), None, eos_ids=[2], pad_id=0)


# How a rollout ends.


def test_a_rollout_stops_with_its_end_or_at_the_limit(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    free = drawn(teacher, prompts[:1], GREEDY)[0]
    size = len(free.response_ids)
    assert free.finish_reason == "stop"
    assert free.response_ids.index(teacher.eos_ids[0]) == size - 1 == len(free.logprobs) - 1
    for limit, reason in [(size, "stop"), (size - 1, "length"), (1, "length")]:
        [found] = drawn(teacher, prompts[:1], Decoding(limit, temperature=0))
        assert found.response_ids == free.response_ids[:limit]
        assert len(found.logprobs) == limit
        assert found.finish_reason == reason


def test_any_of_several_end_tokens_stops_a_rollout(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    free = [r.response_ids for r in drawn(teacher, prompts, GREEDY, eos_ids=[])]
    assert all(len(ids) == 48 for ids in free)
    ends = [free[0][2], free[1][4]]
    for whole, found in zip(free, drawn(teacher, prompts, GREEDY, eos_ids=ends), strict=True):
        first = next((i for i, token in enumerate(whole) if token in ends), None)
        assert found.response_ids == whole[: None if first is None else first + 1]
        assert found.finish_reason == ("length" if first is None else "stop")


@pytest.mark.parametrize("training", [True, False])
def test_sampling_and_scoring_leave_the_mode_of_the_model_as_it_was(
    teacher: LoadedModel, prompts: list[list[int]], training: bool
) -> None:
    modes: list[bool] = []
    decoder = teacher.model.get_decoder()
    hook = decoder.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    teacher.model.train(training)
    try:
        drawn(teacher, prompts, Decoding(2))
        rollouts_mode = teacher.model.training
        logprobs.score(teacher.model, [TrainingSequence(prompts[0], 1)], 100, 0)
        scores_mode = teacher.model.training
    finally:
        hook.remove()
        teacher.model.eval()
    assert rollouts_mode is scores_mode is training
    assert modes and not any(modes)  # dropout must not touch a log-probability


def test_progress_is_told_in_rows(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    told: list[int] = []
    drawn(teacher, prompts, Decoding(1), batch_size=3, done=told.append)
    assert told == [3, 3, 1]


def test_no_prompts_have_no_rollouts(teacher: LoadedModel) -> None:
    assert sampler.sample(teacher.model, [], GREEDY, None, eos_ids=[2], pad_id=0) == []
    assert logprobs.score(teacher.model, [], 100, 0) == []
