"""Rollouts and scores against transformers: its greedy generation, its forward pass, its truncation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from cohobate.models.batching import Row
from cohobate.models.chat_template import PromptFormat, encode, question_ids
from cohobate.models.loading import LoadedModel, load
from cohobate.models.sampling import sampler
from cohobate.models.sampling.sampler import Decoding, Sampled, sample, uniforms

PROMPT_FORMAT = PromptFormat("{question} Think step by step.")
QUESTIONS = [
    "What is 3 + 4?",
    "What is (12 - 5) * 3?",
    "Why?",
    "Anna has 12 apples. She buys 5 more and gives 3 to Tom. How many apples does Anna have now?",
    "What is 8 * 7 - 6?",
    "Compute ((2 + 3) * 4) - 9.",
    "9 - 4",
]
KEYS = [f"question {i}" for i in range(len(QUESTIONS))]
GREEDY = Decoding(48, temperature=0)
DECODINGS = pytest.mark.parametrize(
    "decoding",
    [GREEDY, Decoding(48), Decoding(48, temperature=3), Decoding(48, temperature=2, top_p=0.9, top_k=9)],
    ids=["greedy", "plain", "hot", "truncated"],
)


@pytest.fixture(scope="module")
def teacher() -> LoadedModel:
    return load("world/teacher", device="cpu")


@pytest.fixture(scope="module")
def prompts(teacher: LoadedModel) -> list[list[int]]:
    """Prompts of unlike length, in no order."""
    return [question_ids(teacher.tokenizer, question, PROMPT_FORMAT) for question in QUESTIONS]


def drawn(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding, keys: list[str] = KEYS, **how: Any
) -> list[Sampled]:
    noise = uniforms(0, keys, decoding.max_tokens) if decoding.temperature else None
    settings = {"eos_ids": teacher.eos_ids, "pad_id": teacher.pad_id, **how}
    return sample(teacher.model, prompts, decoding, noise, **settings)


@torch.no_grad()
def logprobs_by_transformers(teacher: LoadedModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    """One full forward pass over one sequence, no padding and no cache."""
    logits = teacher.model(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
    before = logits[len(prompt) - 1 : -1].log_softmax(-1)
    chosen: torch.Tensor = before[torch.arange(len(response)), torch.tensor(response)]
    return chosen


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
    for row, response in enumerate(drawn(teacher, prompts, hot)):
        for place, token in enumerate(response.response_ids):
            ids = torch.tensor([[*prompts[row], *response.response_ids[:place]]])
            chances = (teacher.model(ids).logits[0, -1].double() / 3).softmax(-1)
            below = float(chances[:token].sum())
            assert below - 1e-6 < noise[row, place] < below + float(chances[token]) + 1e-6


TURNED = [3, 6, 0, 5, 1, 4, 2]


@DECODINGS
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_company_of_a_prompt_does_not_change_its_rollout(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding, batch_size: int
) -> None:
    together = drawn(teacher, prompts, decoding)
    apart = drawn(teacher, [prompts[i] for i in TURNED], decoding, [KEYS[i] for i in TURNED], batch_size=batch_size)
    for i, found in zip(TURNED, apart, strict=True):
        assert found.response_ids == together[i].response_ids
        assert found.finish_reason == together[i].finish_reason
        assert found.logprobs == pytest.approx(together[i].logprobs, abs=1e-4)


def products_depend_on_the_number_of_rows() -> bool:
    """Whether the matrix library gives a row of a product other bits when there are more rows."""
    generator = torch.Generator().manual_seed(0)
    for width, out in [(192, 192), (192, 512), (512, 192)]:
        rows, weight = torch.randn(300, width, generator=generator), torch.randn(out, width, generator=generator)
        whole = torch.nn.functional.linear(rows, weight)
        parts = [torch.nn.functional.linear(rows[:n].clone(), weight) for n in (8, 12, 20, 31, 64, 101, 256)]
        if not all(torch.equal(part, whole[: len(part)]) for part in parts):
            return True
    return False


@DECODINGS
def test_not_even_the_last_bit_depends_on_the_company(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding
) -> None:
    if torch.get_num_threads() > 1 or products_depend_on_the_number_of_rows():
        pytest.skip("the matrix library rounds a row otherwise when there are more rows")
    decoding = replace(decoding, max_tokens=12)
    asked, keys = [prompts[i % 7] for i in range(25)], [f"{i}" for i in range(25)]
    together = drawn(teacher, asked, decoding, keys)
    for batch_size in (1, 5, 16):
        chosen = [(11 * i) % 25 for i in range(5 if batch_size == 1 else 25)]
        found = drawn(teacher, [asked[i] for i in chosen], decoding, [keys[i] for i in chosen], batch_size=batch_size)
        assert found == [together[i] for i in chosen]


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


# How rows share the model.


@contextmanager
def passes(teacher: LoadedModel) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the inputs of each forward pass."""
    shapes: list[tuple[int, ...]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    hook = teacher.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


def test_a_row_enters_as_soon_as_another_leaves(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    """Two places: as many passes as two servers need for jobs of these lengths, the next job to whoever is free."""
    found = drawn(teacher, prompts, Decoding(48))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    busy = [0, 0]
    for i in order:
        busy[busy.index(min(busy))] += len(found[i].response_ids)
    with passes(teacher) as shapes:
        drawn(teacher, prompts, Decoding(48), batch_size=2)
    assert sum(shape[1] == 1 for shape in shapes) == max(busy)
    assert max(busy) < sum(len(found[i].response_ids) for i in order)


def test_a_prompt_that_is_asked_often_is_read_once(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    asked = [prompt for prompt in prompts[:3] for _ in range(8)]
    with passes(teacher) as shapes:
        found = drawn(teacher, asked, Decoding(4, temperature=2), [f"{i}" for i in range(24)])
    assert sum(rows for rows, width in shapes if width > 1) == 3
    alone = [
        drawn(teacher, [prompt], Decoding(4, temperature=2), [f"{i}"])[0]
        for i, prompt in enumerate(asked)
        if i % 5 == 0
    ]
    assert [row.response_ids for row in found[::5]] == [row.response_ids for row in alone]


def test_ended_rows_are_not_computed(teacher: LoadedModel, prompts: list[list[int]]) -> None:
    asked, keys = [prompts[i % 7] for i in range(28)], [f"{i}" for i in range(28)]
    found = drawn(teacher, asked, Decoding(48), keys)
    with passes(teacher) as shapes:
        drawn(teacher, asked, Decoding(48), keys)
    running = [sum(len(row.response_ids) > step for row in found) for step in range(48)]
    assert [rows for rows, width in shapes if width == 1] == [max(8, rows) for rows in running if rows]


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
    with pytest.raises(ModelError, match="this model has linear_attention layers; serve the model"):
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


# Log-probabilities.


@DECODINGS
def test_logprobs_are_those_of_a_fresh_forward_pass_at_temperature_one(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding
) -> None:
    found = drawn(teacher, prompts, decoding, batch_size=4)
    rows = [Row([*p, *r.response_ids], len(p)) for p, r in zip(prompts, found, strict=True)]
    scores = logprobs.score(teacher.model, rows, 200, teacher.pad_id)
    for prompt, response, score in zip(prompts, found, scores, strict=True):
        expected = logprobs_by_transformers(teacher, prompt, response.response_ids)
        assert response.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        assert score.logprobs.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("budget", [1, 150, 100_000])
def test_hidden_states_of_a_score_give_the_whole_distribution(
    teacher: LoadedModel, prompts: list[list[int]], budget: int
) -> None:
    rows = [Row([*prompt, *range(5, 6 + 3 * i)], len(prompt)) for i, prompt in enumerate(prompts)]
    for row, score in zip(rows, logprobs.score(teacher.model, rows, budget, teacher.pad_id), strict=True):
        with torch.no_grad():
            logits = teacher.model(torch.tensor([row.ids])).logits[0, row.context - 1 : -1]
            found = teacher.model.get_output_embeddings()(score.hidden)
        assert len(found) == len(row.response)
        torch.testing.assert_close(found.log_softmax(-1), logits.log_softmax(-1), rtol=0, atol=1e-4)


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
        logprobs.score(teacher.model, [Row(prompts[0], 1)], 100, 0)
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
