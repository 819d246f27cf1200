"""The decoder in few operations computes what transformers computes, and so do prompts that are computed once."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
)

from cohobate.models import logprobs
from cohobate.models.batching import batches, can_share, hidden_states
from cohobate.models.decoder.decoder import Decoder
from cohobate.models.decoder.fused import rms_norm, rotate, swiglu
from cohobate.models.decoder.shared_prefix import SharedLayout
from cohobate.models.sequence import TrainingSequence


def rows_of(groups: list[tuple[int, list[int]]]) -> list[TrainingSequence]:
    """(prompt length, response lengths) of each group; rows in an order that mixes the groups."""
    draw = torch.Generator().manual_seed(1)
    rows = []
    for length, responses in groups:
        prompt = torch.randint(50, (length,), generator=draw).tolist()
        rows += [
            TrainingSequence([*prompt, *torch.randint(50, (n,), generator=draw).tolist()], length) for n in responses
        ]
    return [rows[i] for i in torch.randperm(len(rows), generator=draw).tolist()]


GROUPS = rows_of([(7, [5, 1, 9, 30]), (1, [2, 2]), (12, [1, 1]), (7, [4]), (3, [17, 6, 8])])


SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ROPE = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
KNOWN: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL, rope_parameters={**ROPE, "original_max_position_embeddings": 16}),
    "mistral": MistralConfig(**SMALL, sliding_window=None),
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "a token that is also padding": Qwen3Config(**SMALL, head_dim=8, pad_token_id=GROUPS[0].ids[0]),
}
UNKNOWN: dict[str, Any] = {
    "sliding": MistralConfig(**SMALL, sliding_window=4),
    "sliding layers": Qwen3Config(**SMALL, head_dim=8, sliding_window=4, use_sliding_window=True, max_window_layers=1),
    "mixture of experts": MixtralConfig(**SMALL, num_local_experts=2),
    "another norm": Gemma2Config(**SMALL, head_dim=8),
    "another activation": LlamaConfig(**SMALL, hidden_act="gelu"),
    "biases": LlamaConfig(**SMALL, mlp_bias=True),
    "angles of the length": LlamaConfig(**SMALL, rope_parameters={**ROPE, "rope_type": "dynamic"}),
}


def made(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model


def by_transformers(model: Any, row: TrainingSequence) -> torch.Tensor:
    states: torch.Tensor = model.get_decoder()(input_ids=torch.tensor([row.ids]), use_cache=False).last_hidden_state
    return states[0, row.context - 1 : -1]


def gradients(model: Any, states: torch.Tensor) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    weight = torch.linspace(-1, 1, states.numel()).view_as(states)
    (states * weight).sum().backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("config", KNOWN.values(), ids=KNOWN.keys())
def test_states_and_gradients_are_those_of_transformers(config: Any, share: bool) -> None:
    model = made(config)
    assert can_share(model)
    expected = torch.cat([by_transformers(model, row) for row in GROUPS])
    theirs = gradients(model, expected)
    ours: dict[int, torch.Tensor] = {}
    for batch in batches(GROUPS, 60, 0, "cpu", share=share):
        assert isinstance(batch.layout, SharedLayout) is share
        parts = hidden_states(model, batch).split([len(GROUPS[i].response) for i in batch.order])
        ours.update(zip(batch.order, parts, strict=True))
    found = torch.cat([ours[i] for i in range(len(GROUPS))])
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-5)
    torch.testing.assert_close(gradients(model, found), theirs, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("config", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_known_goes_through_the_module(config: Any) -> None:
    assert Decoder.of(made(config)) is None


def _hooked(model: Any) -> None:
    model.get_decoder().layers[1].mlp.register_forward_hook(lambda module, args, output: output * 2)


def _recomputed(model: Any) -> None:
    model.train().gradient_checkpointing_enable({"use_reentrant": False})


def _replaced(model: Any) -> None:
    attention = model.get_decoder().layers[0].self_attn
    attention.q_proj = torch.nn.Sequential(attention.q_proj)


def _dropping(model: Any) -> None:
    model.train().config.attention_dropout = 0.5


@pytest.mark.parametrize("change", [_hooked, _recomputed, _replaced, _dropping])
def test_a_model_that_does_more_than_its_class_says_goes_through_the_module(change: Callable[[Any], None]) -> None:
    model = made(KNOWN["qwen3"])
    change(model)
    assert Decoder.of(model) is None


def _apart(found: dict[str, torch.Tensor | None], right: dict[str, torch.Tensor | None]) -> float:
    """The distance of all gradients together, as a share of their norm."""
    pairs = [(found[name], value) for name, value in right.items() if value is not None]
    squares = sum(float((a - b).square().sum()) for a, b in pairs if a is not None)
    return float((squares / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5)


@pytest.mark.parametrize("config", KNOWN.values(), ids=KNOWN.keys())
def test_products_in_half_precision_are_those_of_transformers_up_to_its_own_error(config: Any) -> None:
    model = made(config)
    exact = torch.cat([by_transformers(model, row) for row in GROUPS])
    with torch.autocast("cpu", torch.bfloat16):
        theirs = torch.cat([by_transformers(model, row) for row in GROUPS])
        ours: dict[int, torch.Tensor] = {}
        for batch in batches(GROUPS, 60, 0, "cpu"):
            parts = hidden_states(model, batch).split([len(GROUPS[i].response) for i in batch.order])
            ours.update(zip(batch.order, parts, strict=True))
    found = torch.cat([ours[i] for i in range(len(GROUPS))])
    assert found.dtype == torch.float32
    rough = (theirs - exact).square().mean().sqrt()
    assert 0 < (found - exact).square().mean().sqrt() <= 1.1 * rough
    of_ours, of_theirs, right = (gradients(model, states) for states in (found, theirs, exact))
    ours_apart, theirs_apart = (_apart(of, right) for of in (of_ours, of_theirs))
    assert 0 < ours_apart <= 1.1 * theirs_apart
    assert ours_apart < 0.05


def test_a_half_precision_model_is_scored_as_transformers_scores_it() -> None:
    model = made(KNOWN["qwen3"]).bfloat16().eval()
    scores = logprobs.score(model, GROUPS, 1000, 0)
    assert len(scores) == 4 + 2 + 2 + 1 + 3
    for row, score in zip(GROUPS, scores, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(score.hidden, by_transformers(model, row), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("budget", [1, 25, 10_000])
def test_every_response_is_read_once_and_no_batch_is_over_its_budget(budget: int) -> None:
    seen: list[int] = []
    for batch in batches(GROUPS, budget, 0, "cpu", share=True):
        assert isinstance(batch.layout, SharedLayout)
        assert len(batch.layout.ids) <= budget or len(batch.order) == 1
        assert batch.tokens.ids.tolist() == [token for i in batch.order for token in GROUPS[i].response]
        seen += batch.order
    assert sorted(seen) == list(range(len(GROUPS)))


def test_each_prompt_is_computed_once() -> None:
    prompt, others = list(range(20)), [[30, 31, 32], [33, 34], [35]]
    [batch] = batches([TrainingSequence([*prompt, *other], 20) for other in others], 1000, 0, "cpu", share=True)
    assert isinstance(batch.layout, SharedLayout)
    assert batch.layout.ids.tolist() == [*prompt, *(token for i in batch.order for token in others[i][:-1])]


def test_prompts_that_are_seldom_equal_are_padded() -> None:
    rows = [TrainingSequence([*range(i, i + 20), 1, 2, 3], 20) for i in range(20)]
    kinds: set[type] = {type(batch.layout) for batch in batches([*rows, rows[0]], 1000, 0, "cpu", share=True)}
    assert SharedLayout not in kinds
    assert isinstance(next(batches(rows * 2, 1000, 0, "cpu", share=True)).layout, SharedLayout)


@pytest.mark.parametrize("heads", [False, True])
def test_gradients_by_formula_are_those_of_finite_differences(heads: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8) if heads else torch.randn(5, 8)
    weight = torch.rand(x.shape[1:]) if heads else torch.rand(8)
    cos, sin = (torch.rand(5, 1, 4).repeat(1, 1, 2) for _ in range(2))
    steps: dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]] = {
        "norm": (lambda a, b: rms_norm(a, b, 1e-6), [x, weight]),
        "rotation": (lambda a: rotate(a.view(5, -1, 8), cos, sin), [x]),
        "swiglu": (lambda a: swiglu(a.view(5, -1)), [x]),
    }
    for name, (function, inputs) in steps.items():
        learnt = [value.clone().requires_grad_() for value in inputs]
        out = function(*learnt)
        weights = torch.randn_like(out)
        found = torch.autograd.grad((out * weights).sum(), learnt)
        assert [gradient.shape for gradient in found] == [value.shape for value in inputs]
        for place, gradient in enumerate(found):
            for where in range(0, gradient.numel(), 7):
                moved = []
                for by in (0.01, -0.01):
                    changed = [value.clone() for value in inputs]
                    changed[place].view(-1)[where] += by
                    with torch.no_grad():
                        moved.append(float((function(*changed) * weights).sum()))
                difference = (moved[0] - moved[1]) / 0.02
                assert float(gradient.reshape(-1)[where]) == pytest.approx(difference, abs=5e-3), name
