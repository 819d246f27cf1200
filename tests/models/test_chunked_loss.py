"""Losses in chunks against the same loss on all logits at once: terms, gradients, precision, and what is held."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cohobate.models.token_loss import Terms, TokenLoss, Tokens, evaluate_in_chunks
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.sampled import SampledReverseKL

WIDTH, VOCABULARY, COUNT = 16, 50, 23
Gradients = list[torch.Tensor]


def layer(*, bias: bool) -> torch.nn.Linear:
    return torch.nn.Linear(WIDTH, VOCABULARY, bias=bias)


HEADS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: layer(bias=False),
    "with a bias": lambda: layer(bias=True),
    "any module": lambda: torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 5), torch.nn.Tanh(), torch.nn.Linear(5, VOCABULARY)
    ),
    "frozen": lambda: layer(bias=False).requires_grad_(False),
}
OBJECTIVES: dict[str, TokenLoss] = {
    "exact": ExactReverseKL(layer(bias=False).requires_grad_(False)),
    "sampled": SampledReverseKL(),
    "sft": cross_entropy,
}


def given(seed: int = 0) -> tuple[torch.Tensor, Tokens]:
    """Hidden states, and what is known about their tokens."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ids = torch.randint(VOCABULARY, (COUNT,), generator=generator)
    known = {"sampler_logprobs": -random(COUNT).abs(), "teacher_logprobs": -random(COUNT).abs()}
    return random(COUNT, WIDTH), Tokens(ids, teacher_hidden=random(COUNT, WIDTH), **known)


def learn(objective: TokenLoss, head: torch.nn.Module, rows: int, scale: float = 1.0) -> tuple[Terms, Gradients]:
    """Terms with `rows` tokens a chunk, and the gradients of the loss times `scale`."""
    hidden, tokens = given()
    hidden.requires_grad_()
    head.zero_grad()
    terms = evaluate_in_chunks(objective, head, hidden, tokens, VOCABULARY, rows * VOCABULARY)
    (terms["loss"] * scale).backward()
    found = [hidden.grad, *(p.grad for p in head.parameters() if p.requires_grad)]
    return terms, [gradient.clone() for gradient in found if gradient is not None]


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("rows", [1, 7, 22])
def test_chunks_give_the_terms_and_gradients_of_the_whole(
    objective: TokenLoss, head: Callable[[], torch.nn.Module], rows: int
) -> None:
    torch.manual_seed(1)
    module = head()
    whole, expected = learn(objective, module, COUNT, scale=1 / COUNT)
    terms, found = learn(objective, module, rows, scale=1 / COUNT)
    assert terms.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)
    assert len(found) == len(expected) == 1 + sum(p.requires_grad for p in module.parameters())
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_gradients_are_added_to_those_that_are_there() -> None:
    head = layer(bias=True)
    hidden, tokens = given()
    for rows in (5, 9):
        evaluate_in_chunks(cross_entropy, head, hidden, tokens, VOCABULARY, rows * VOCABULARY)["loss"].backward()
    twice = [p.grad.clone() for p in head.parameters() if p.grad is not None]
    head.zero_grad()
    cross_entropy(head(hidden), tokens)["loss"].backward()
    once = [p.grad for p in head.parameters() if p.grad is not None]
    assert len(once) == 2
    for found, expected in zip(twice, once, strict=True):
        torch.testing.assert_close(found, 2 * expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_under_autocast_products_are_in_half_precision_as_in_the_whole(head: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(2)
    module = head()
    kinds: list[torch.dtype] = []

    def watched(logits: torch.Tensor, part: Tokens) -> Terms:
        kinds.append(logits.dtype)
        rounded = logits.detach().bfloat16().float()
        assert torch.equal(rounded, logits)
        return cross_entropy(logits, part)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, expected = learn(watched, module, COUNT)
        terms, found = learn(watched, module, 7)
    assert set(kinds) == {torch.float32}
    torch.testing.assert_close(terms["loss"], whole["loss"], rtol=1e-3, atol=0)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * float(theirs.abs().max()))


def test_without_gradients_nothing_is_differentiated() -> None:
    hidden, tokens = given()
    head = layer(bias=False)
    with torch.no_grad():
        terms = evaluate_in_chunks(cross_entropy, head, hidden, tokens, VOCABULARY, 5 * VOCABULARY)
    assert not terms["loss"].requires_grad
    torch.testing.assert_close(terms["loss"], cross_entropy(head(hidden), tokens)["loss"].detach())


def test_a_second_backward_pass_is_refused() -> None:
    """The gradient is scaled in place, so a second one would be scaled twice."""
    hidden, tokens = given()
    loss = evaluate_in_chunks(cross_entropy, layer(bias=False), hidden, tokens, VOCABULARY, VOCABULARY)["loss"]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


class Largest(TorchDispatchMode):
    """The most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_nothing_larger_than_the_head_is_ever_made() -> None:
    """Neither forward nor backward: the largest thing is the gradient of the head, chunks are a fifth of it."""
    head, teacher = (torch.nn.Linear(32, 2000, bias=False) for _ in range(2))
    hidden = torch.randn(300, 32, requires_grad=True)
    tokens = Tokens(torch.randint(2000, (300,)), sampler_logprobs=-torch.ones(300), teacher_hidden=torch.randn(300, 32))
    with Largest() as largest:  # type: ignore[no-untyped-call]
        objective = ExactReverseKL(teacher.requires_grad_(False))
        evaluate_in_chunks(objective, head, hidden, tokens, 2000, 6 * 2000)["loss"].backward()
    assert largest.elements == 32 * 2000
