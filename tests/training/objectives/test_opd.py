"""On-policy distillation at one state: the sum over the vocabulary, every next token, the cap and the clip."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from cohobate.models.token_loss import Terms, TokenLoss, Tokens
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.sampled import SampledReverseKL, discounted_advantages
from tests.support.tree import close, gradient, logits_of

# A teacher whose last hidden states are its logits.
EXACT = ExactReverseKL(lambda hidden: hidden)
NO_CAP = 1e9


def kl_gradient(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """d KL(p || q) / d logits of p, by hand: p_v (log p_v - log q_v - KL)."""
    p, gap = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    return p * (gap - (p * gap).sum(-1, keepdim=True))


def full_knowledge(teacher: torch.Tensor) -> Tokens:
    """What the exact objective is told: the teacher's logits. Which token was sampled is nothing to it."""
    count = len(teacher)
    return Tokens(torch.zeros(count, dtype=torch.long), torch.zeros(count), teacher_hidden=teacher)


# Exact reverse KL.


def test_exact_is_the_kl_of_two_categorical_distributions() -> None:
    student, teacher = logits_of(20, 9, seed=1, scale=3), logits_of(20, 9, seed=2, scale=3)
    expected = kl_divergence(Categorical(logits=student), Categorical(logits=teacher)).sum()
    terms = EXACT(student.float(), full_knowledge(teacher))
    close(terms["loss"], expected)
    close(terms["reverse_kl"], expected)
    assert not terms["reverse_kl"].requires_grad


def test_exact_is_reverse_and_not_forward_kl() -> None:
    student = torch.tensor([[0.5, 0.5]]).log()
    teacher = torch.tensor([[0.25, 0.75]]).log()
    terms = EXACT(student, full_knowledge(teacher))
    close(terms["loss"], torch.tensor(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)))


def test_exact_has_the_gradient_of_the_closed_form() -> None:
    student, teacher = logits_of(20, 9, seed=1, scale=3), logits_of(20, 9, seed=2, scale=3)
    leaf = student.clone().requires_grad_()
    kl_divergence(Categorical(logits=leaf), Categorical(logits=teacher)).sum().backward()
    assert leaf.grad is not None
    found = gradient(EXACT, student.float(), full_knowledge(teacher))
    close(found, leaf.grad, 2e-6)
    close(found, kl_gradient(student, teacher), 2e-6)


def test_equal_distributions_have_neither_loss_nor_gradient() -> None:
    logits = logits_of(5, 9, seed=1).float()
    shifted = logits + torch.arange(5.0)[:, None]  # the same distributions
    close(EXACT(logits, full_knowledge(shifted))["loss"], torch.tensor(0.0))
    close(gradient(EXACT, logits, full_knowledge(shifted)), torch.zeros(5, 9))


def test_the_rows_with_which_a_teacher_pads_its_vocabulary_do_not_count() -> None:
    student, teacher = logits_of(6, 9, seed=1).float(), logits_of(6, 9, seed=2).float()
    padded = torch.cat([teacher, torch.full((6, 4), 50.0)], dim=-1)
    close(EXACT(student, full_knowledge(padded))["loss"], EXACT(student, full_knowledge(teacher))["loss"])
    close(gradient(EXACT, student, full_knowledge(padded)), kl_gradient(student, teacher))


def test_the_rows_with_which_a_student_pads_its_vocabulary_do_not_count() -> None:
    student, teacher = logits_of(6, 9, seed=1).float(), logits_of(6, 9, seed=2).float()
    padded = torch.cat([student, torch.full((6, 4), -5.0)], dim=-1)
    close(EXACT(padded, full_knowledge(teacher))["loss"], EXACT(student, full_knowledge(teacher))["loss"])
    # The sampler has them as well, so that they are part of its log-probabilities.
    own = padded.log_softmax(-1)[:, 0]
    assert EXACT(padded, replace(full_knowledge(teacher), sampler_logprobs=own))["mismatch_max"] == 0
    found = gradient(EXACT, padded, full_knowledge(teacher))
    close(found[:, :9], kl_gradient(student, teacher))
    assert not found[:, 9:].any()


# Sampled reverse KL: all next tokens of one state.


def gradient_of_each_token(
    objective: TokenLoss, student: torch.Tensor, teacher: torch.Tensor, sampler: torch.Tensor
) -> torch.Tensor:
    """[V, V] for logits [V]: in row v, the gradient if v is the token that was sampled."""
    count = len(student)
    tokens = Tokens(torch.arange(count), sampler.log_softmax(-1), teacher.log_softmax(-1))
    return gradient(objective, student.expand(count, count), tokens)


@pytest.mark.parametrize("state", range(10))
def test_on_policy_the_expected_gradient_is_the_exact_one(state: int) -> None:
    student, teacher = logits_of(7, seed=state), logits_of(7, seed=100 + state)
    each = gradient_of_each_token(SampledReverseKL(), student, teacher, student)
    close(student.softmax(-1) @ each, kl_gradient(student, teacher), 1e-12)


@pytest.mark.parametrize("state", range(10))
def test_off_policy_the_weights_make_up_for_another_sampler(state: int) -> None:
    student, teacher = logits_of(7, seed=state), logits_of(7, seed=100 + state)
    sampler = logits_of(7, seed=200 + state)
    expected = kl_gradient(student, teacher)
    each = gradient_of_each_token(SampledReverseKL(importance_cap=NO_CAP), student, teacher, sampler)
    close(sampler.softmax(-1) @ each, expected, 1e-12)
    unweighted = gradient_of_each_token(SampledReverseKL(), student, teacher, student)
    assert (sampler.softmax(-1) @ unweighted - expected).abs().max() > 1e-2


def test_on_policy_each_gradient_is_that_of_half_the_squared_log_ratio() -> None:
    """The estimator k2, whose gradient is that of the reverse KL: (log p - log q) d log p."""

    def k2(logits: torch.Tensor, tokens: Tokens) -> Terms:
        assert tokens.teacher_logprobs is not None
        own = logits.log_softmax(-1).gather(-1, tokens.ids[:, None])[:, 0]
        return {"loss": ((own - tokens.teacher_logprobs) ** 2 / 2).sum()}

    student, teacher = logits_of(7, seed=1), logits_of(7, seed=2)
    found = gradient_of_each_token(SampledReverseKL(), student, teacher, student)
    close(found, gradient_of_each_token(k2, student, teacher, student), 1e-12)


def test_the_sampled_kl_is_the_exact_one_on_average() -> None:
    student, teacher = logits_of(7, seed=1), logits_of(7, seed=2)
    mean = 0.0
    for token in range(7):
        own, theirs = student.log_softmax(-1)[token], teacher.log_softmax(-1)[token]
        tokens = Tokens(torch.tensor([token]), own[None], theirs[None])
        mean += float(own.exp() * SampledReverseKL()(student[None], tokens)["reverse_kl"])
    exact = kl_divergence(Categorical(logits=student), Categorical(logits=teacher))
    assert mean == pytest.approx(float(exact))


# Sampled reverse KL: the cap and the clip.


def one_token(own: float, sampler: float, teacher: float) -> tuple[torch.Tensor, Tokens]:
    """Logits of two tokens, of which the first was sampled and has probability `own`; what is known of it."""
    known = [torch.tensor([math.log(p)], dtype=torch.float64) for p in (sampler, teacher)]
    logits = torch.tensor([[own, 1 - own]], dtype=torch.float64).log()
    return logits, Tokens(torch.tensor([0]), *known)


@pytest.mark.parametrize(
    ("sampler", "cap", "weight"),
    [(1 / 8, 2.0, 2.0), (1 / 8, 3.0, 3.0), (1 / 8, 100.0, 4.0), (1 / 2, 2.0, 1.0), (4 / 5, 2.0, 5 / 8)],
)
def test_the_weight_is_the_ratio_up_to_the_cap(sampler: float, cap: float, weight: float) -> None:
    logits, tokens = one_token(own=1 / 2, sampler=sampler, teacher=1 / 4)
    objective = SampledReverseKL(importance_cap=cap)
    # A = log(1/4) - log(1/2) = -log 2; the loss is -w A log p, its gradient -w A (onehot - p).
    close(objective(logits, tokens)["loss"], torch.tensor(-weight * math.log(2) ** 2), 1e-6)
    expected = weight * math.log(2) * torch.tensor([[0.5, -0.5]])
    close(gradient(objective, logits, tokens), expected)


def test_the_log_ratio_is_bounded_at_twenty() -> None:
    logits, tokens = one_token(own=1 / 2, sampler=math.exp(-30), teacher=1 / 4)
    loss = SampledReverseKL(importance_cap=1e30)(logits, tokens)["loss"]
    close(loss, torch.tensor(-math.exp(20) * math.log(2) ** 2))


@pytest.mark.parametrize(
    ("advantage", "clip", "used", "clipped"),
    [
        (-14.0, 10.0, -10.0, 1),
        (14.0, 10.0, 10.0, 1),
        (-14.0, None, -14.0, 0),
        (9.5, 10.0, 9.5, 0),
        (3.0, 1.0, 1.0, 1),
    ],
)
def test_the_advantage_is_clipped_on_both_sides_and_counted(
    advantage: float, clip: float | None, used: float, clipped: int
) -> None:
    own = math.exp(-15)
    logits, tokens = one_token(own=own, sampler=own, teacher=math.exp(-15 + advantage))
    objective = SampledReverseKL(advantage_clip=clip)
    terms = objective(logits, tokens)
    close(terms["loss"], torch.tensor(15 * used))
    close(gradient(objective, logits, tokens), -used * torch.tensor([[1 - own, own - 1]]))
    assert terms["clipped"] == clipped
    close(terms["reverse_kl"], torch.tensor(-advantage))  # the metric is not clipped


# Advantages from whole responses.


def test_returns_are_discounted_sums_over_the_rest_of_a_response() -> None:
    teacher = [torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([-3.0]), torch.tensor([])]
    sampler = [torch.tensor([-2.0, -2.0, -1.0]), torch.tensor([-1.0]), torch.tensor([])]
    expected = {
        0.0: [[1.0, 0.0, -3.0], [-2.0], []],
        0.5: [[0.25, -1.5, -3.0], [-2.0], []],
        1.0: [[-2.0, -3.0, -3.0], [-2.0], []],
    }
    for discount, values in expected.items():
        assert [x.tolist() for x in discounted_advantages(teacher, sampler, discount)] == values


def test_precomputed_advantages_take_the_place_of_the_log_ratio() -> None:
    logits, tokens = one_token(own=1 / 2, sampler=1 / 2, teacher=1 / 4)
    given = replace(tokens, advantages=torch.tensor([3.0]))
    terms = SampledReverseKL(precomputed=True)(logits, given)
    close(terms["loss"], torch.tensor(3 * math.log(2)))
    close(terms["reverse_kl"], torch.tensor(math.log(2)))  # the metric remains that of the tokens
    # Other fields than those asked for change nothing.
    assert SampledReverseKL()(logits, given)["loss"].equal(SampledReverseKL()(logits, tokens)["loss"])


def test_a_token_that_the_teacher_excludes_gives_a_finite_return() -> None:
    [found] = discounted_advantages([torch.tensor([-1.0, -torch.inf])], [torch.tensor([-1.0, -1.0])], 0.5)
    assert found.tolist() == [-49.5, -99.0]


def test_the_logged_estimates_are_those_of_their_definitions() -> None:
    logits, tokens = one_token(own=1 / 2, sampler=1 / 2, teacher=1 / 8)
    terms, gap = SampledReverseKL()(logits, tokens), math.log(1 / 4)
    assert float(terms["reverse_kl"]) == pytest.approx(-gap)
    assert float(terms["reverse_kl_k2"]) == pytest.approx(gap**2 / 2)
    assert float(terms["reverse_kl_k3"]) == pytest.approx(1 / 4 - 1 - gap)
