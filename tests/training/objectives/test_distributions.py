"""Whole distributions, top-k with a tail, and their divergences: closed forms, limits, minima."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from cohobate.models.token_loss import TokenLoss, Tokens
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.distributions import FullVocabulary, kl, tempered, top_k_and_tail
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.gkd import GeneralisedJSD
from cohobate.training.objectives.logit_kd import LogitDistillation
from cohobate.training.objectives.topk import TopKKL
from tests.support.tree import close, gradient, logits_of

# A teacher whose last hidden states are its logits.
FULL = FullVocabulary(lambda hidden: hidden)
V = 9
STUDENT, TEACHER = logits_of(20, V, seed=1, scale=3).float(), logits_of(20, V, seed=2, scale=3).float()
IDS = torch.arange(20) % V


def knowing(teacher: torch.Tensor, k: int, ids: torch.Tensor | None = None) -> Tokens:
    """All of a teacher's logits [N, V], and its top-k."""
    top = teacher.log_softmax(-1).topk(k)
    ids = torch.zeros(len(teacher), dtype=torch.long) if ids is None else ids
    return Tokens(
        ids,
        torch.zeros(len(teacher)),
        teacher_hidden=teacher,
        teacher_top_ids=top.indices,
        teacher_top_logprobs=top.values,
    )


def same(a: TokenLoss, b: TokenLoss, tokens: Tokens, tolerance: float = 2e-5, student: torch.Tensor = STUDENT) -> None:
    close(a(student, tokens)["loss"], b(student, tokens)["loss"], tolerance)
    close(gradient(a, student, tokens), gradient(b, student, tokens), tolerance)


PAIRS: dict[str, Callable[[Any], TokenLoss]] = {
    "reverse": lambda view: TopKKL() if view is top_k_and_tail else ExactReverseKL(FULL.teacher_head),
    "forward": lambda view: TopKKL("forward") if view is top_k_and_tail else LogitDistillation(view),
    "tempered forward": lambda view: LogitDistillation(view, temperature=3.0, alpha=0.4),
    "jsd": lambda view: GeneralisedJSD(view, 0.3),
}


@pytest.mark.parametrize("k", [V - 1, V])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_with_all_tokens_listed_the_buckets_are_the_vocabulary(pair: Callable[[Any], TokenLoss], k: int) -> None:
    # Nearly flat, so that the last token is not lost in the rounding of 1 - sum.
    same(pair(top_k_and_tail), pair(FULL), knowing(TEACHER / 3, k, IDS), student=STUDENT / 3)


@pytest.mark.parametrize("k", [1, 3, V])
def test_equal_distributions_have_neither_loss_nor_gradient(k: int) -> None:
    shifted = STUDENT + torch.arange(20.0)[:, None]  # the same distributions
    tokens = knowing(shifted, k)
    for objective in (make(view) for make in PAIRS.values() for view in (FULL, top_k_and_tail)):
        if isinstance(objective, LogitDistillation) and objective.alpha < 1:
            continue  # its cross-entropy remains
        close(objective(STUDENT, tokens)["loss"], torch.tensor(0.0), 1e-5)
        close(gradient(objective, STUDENT, tokens), torch.zeros(20, V), 1e-5)


# Top-k and a tail.


def test_the_buckets_are_the_listed_probabilities_and_what_is_left() -> None:
    teacher = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    student, theirs = top_k_and_tail(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log(), knowing(teacher, 2))
    close(student.exp(), torch.tensor([[0.4, 0.3, 0.3]]))
    close(theirs.exp(), torch.tensor([[0.5, 0.25, 0.25]]))


def test_a_divergence_of_buckets_is_a_lower_bound_of_the_whole_one() -> None:
    tokens = knowing(TEACHER, 3)
    terms = TopKKL()(STUDENT, tokens)
    assert 0 < terms["loss"] < ExactReverseKL(FULL.teacher_head)(STUDENT, tokens)["loss"]
    close(terms["teacher_tail"], (1 - tokens.teacher_top_logprobs.exp().sum(-1)).sum())  # type: ignore[union-attr]
    close(terms["forward_kl"], TopKKL("forward")(STUDENT, tokens)["loss"])


@pytest.mark.parametrize("missing_id", [-1, 0])
def test_missing_entries_and_tokens_of_the_teachers_padding_belong_to_the_tail(missing_id: int) -> None:
    """Two entries say nothing: one of probability 0, whatever its id, and one that the student has no row for."""
    teacher = TEACHER.log_softmax(-1)
    top = teacher.topk(2)
    said, missing = knowing(TEACHER, 2), torch.full((20, 1), missing_id)
    longer = Tokens(
        said.ids,
        teacher_top_ids=torch.cat([top.indices[:, :1], missing, top.indices[:, 1:], torch.full((20, 1), V + 3)], -1),
        teacher_top_logprobs=torch.cat(
            [top.values[:, :1], torch.full((20, 1), -math.inf), top.values[:, 1:], torch.full((20, 1), -20.0)], -1
        ),
    )
    for objective in (TopKKL(), TopKKL("forward"), LogitDistillation(top_k_and_tail, 2.0)):
        close(objective(STUDENT, longer)["loss"], objective(STUDENT, said)["loss"])
        close(gradient(objective, STUDENT, longer), gradient(objective, STUDENT, said))


@pytest.mark.parametrize("objective", [TopKKL(), TopKKL("forward"), GeneralisedJSD(top_k_and_tail)])
@pytest.mark.parametrize("total", [1 + 1e-6, 1.0, 1 - 1e-12])
def test_listed_masses_that_round_to_more_than_one_leave_a_small_tail(objective: TokenLoss, total: float) -> None:
    top = (total * torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)).log().float()
    tokens = Tokens(torch.tensor([0]), teacher_top_ids=torch.tensor([[3, 0, 1]]), teacher_top_logprobs=top)
    logits = torch.tensor([[0.3, 0.1, -1.0, 2.0, 0.5]])
    terms = objective(logits, tokens)
    assert 0.01 < float(terms["loss"]) < 10
    found = gradient(objective, logits, tokens)
    assert found.isfinite().all() and found.abs().max() < 10


def test_a_student_tail_below_rounding_has_the_gradient_of_its_own_tokens() -> None:
    """1 - sum_S p is 0 in float32, yet its logarithm and gradient are known: they come from the tail's tokens."""
    logits = torch.tensor([[20.0, 19.0, -5.0, -6.0]])
    top = torch.tensor([[0.5, 0.2]]).log()
    tokens = Tokens(torch.tensor([0]), teacher_top_ids=torch.tensor([[0, 1]]), teacher_top_logprobs=top)
    leaf = logits.double().requires_grad_()
    p = leaf.softmax(-1)[0]
    loss = 0.5 * (0.5 / p[0]).log() + 0.2 * (0.2 / p[1]).log() + 0.3 * (0.3 / (p[2] + p[3])).log()
    loss.backward()
    assert 1 - (p[0] + p[1]).float() == 0 and leaf.grad is not None
    close(TopKKL("forward")(logits, tokens)["loss"], loss.detach(), 1e-5)
    close(gradient(TopKKL("forward"), logits, tokens), leaf.grad, 1e-5)


QUARTERS = torch.tensor([[0.4, 0.2, 0.135, 0.1, 0.1, 0.065]]).log()  # 0.735 on the top 3


def mass_after(loss: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The student's mass on the teacher's top 3 where `loss` of its logits is least."""
    logits = torch.zeros(1, 6, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits)
        value.backward()
        return value

    optimizer.step(closure)
    return float(logits.detach().softmax(-1)[0, :3].sum())


@pytest.mark.parametrize(
    "objective", [TopKKL(), TopKKL("forward"), LogitDistillation(top_k_and_tail), GeneralisedJSD(top_k_and_tail)]
)
def test_with_a_tail_the_minimum_has_the_teachers_mass(objective: TokenLoss) -> None:
    assert mass_after(lambda logits: objective(logits, knowing(QUARTERS, 3))["loss"]) == pytest.approx(0.735, abs=1e-3)


def test_without_a_tail_the_minimum_is_elsewhere() -> None:
    """d/dp p log(p / q) = 0 at p = q / e: mass escapes from the top-k; or, of the forward form, all goes there."""
    q = QUARTERS.softmax(-1)[:, :3]

    def truncated(logits: torch.Tensor) -> torch.Tensor:
        p = logits.softmax(-1)[:, :3]
        return (p * (p / q).log()).sum()

    def renormalised(logits: torch.Tensor) -> torch.Tensor:
        p = logits.softmax(-1)[:, :3]
        return (p * (p / (q / q.sum())).log()).sum()

    def truncated_forward(logits: torch.Tensor) -> torch.Tensor:
        return -(q * logits.log_softmax(-1)[:, :3]).sum()

    assert mass_after(truncated) == pytest.approx(0.735 / math.e, abs=1e-3)
    assert mass_after(renormalised) == pytest.approx(1 / math.e, abs=1e-3)
    assert mass_after(truncated_forward) > 0.99


# The Jensen-Shannon divergences.


def test_beta_gives_the_divergence_of_its_formula() -> None:
    p, q = Categorical(logits=STUDENT.double()), Categorical(logits=TEACHER.double())
    for beta in (0.1, 0.5, 0.9):
        m = Categorical(probs=(1 - beta) * p.probs + beta * q.probs)
        expected = beta * kl_divergence(q, m) + (1 - beta) * kl_divergence(p, m)
        close(
            GeneralisedJSD(FULL, beta)(STUDENT, knowing(TEACHER, 1))["loss"], expected.sum() / (beta * (1 - beta)), 1e-5
        )


@pytest.mark.parametrize("view", [FULL, top_k_and_tail], ids=["full", "top-k"])
@pytest.mark.parametrize(("end", "near"), [(0.0, 1e-4), (1.0, 1 - 1e-4)])
def test_beta_goes_continuously_into_forward_and_reverse_kl(view: Any, end: float, near: float) -> None:
    """Not so without the division by beta (1 - beta): the divergence near an end would be 0."""
    student, teacher = STUDENT.double() / 3, TEACHER.double() / 3
    same(GeneralisedJSD(view, near), GeneralisedJSD(view, end), knowing(teacher, 4), 2e-3, student)
    log_p, log_q = view(student, knowing(teacher, 4))
    expected = kl(log_q, log_p) if end == 0 else kl(log_p, log_q)
    close(GeneralisedJSD(view, end)(student, knowing(teacher, 4))["loss"], expected.sum(), 1e-6)


def test_a_beta_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        GeneralisedJSD(FULL, 1.5)


# Logit distillation.


def test_a_hard_label_is_the_case_of_one_certain_token() -> None:
    certain = Tokens(IDS, teacher_top_ids=IDS[:, None], teacher_top_logprobs=torch.zeros(20, 1))
    same(LogitDistillation(top_k_and_tail), cross_entropy, certain, 5e-5)
    same(LogitDistillation(FULL, alpha=0.0), cross_entropy, knowing(TEACHER, 1, IDS), 1e-6)


@pytest.mark.parametrize("view", [FULL, top_k_and_tail], ids=["full", "top-k"])
def test_the_loss_is_linear_in_alpha(view: Any) -> None:
    tokens = knowing(TEACHER, 3, IDS)
    soft, hard, mixed = (LogitDistillation(view, 2.0, alpha)(STUDENT, tokens)["loss"] for alpha in (1.0, 0.0, 0.25))
    close(mixed, 0.25 * soft + 0.75 * hard, 1e-5)


def test_the_square_of_the_temperature_keeps_the_size_of_the_gradient() -> None:
    """At a high temperature the gradient tends to (z - mean z - (t - mean t)) / V (Hinton et al. 2015, equation 4)."""
    found = gradient(LogitDistillation(FULL, temperature=1000.0), STUDENT.double(), knowing(TEACHER.double(), 1))
    centred = [x.double() - x.double().mean(-1, keepdim=True) for x in (STUDENT, TEACHER)]
    close(found, (centred[0] - centred[1]) / V, 0.01)


def test_a_temperature_of_one_is_none() -> None:
    close(tempered(STUDENT.log_softmax(-1), 1.0), STUDENT.log_softmax(-1))
    close(tempered(STUDENT, 2.0), (STUDENT / 2).log_softmax(-1))
