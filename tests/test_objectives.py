"""Objectives against enumeration: the sum over the vocabulary, every next token, a whole tree of rollouts."""

import math
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from cohobate.objectives.base import Objective, Terms, Tokens, evaluate_in_chunks
from cohobate.objectives.opd import ExactReverseKL, SampledReverseKL
from cohobate.objectives.sft import cross_entropy

# A teacher whose last hidden states are its logits.
EXACT = ExactReverseKL(lambda hidden: hidden)
NO_CAP = 1e9


def logits_of(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(objective: Objective, logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    objective(leaf, tokens)["loss"].backward()
    assert leaf.grad is not None
    return leaf.grad


def kl_gradient(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """d KL(p || q) / d logits of p, by hand: p_v (log p_v - log q_v - KL)."""
    p, gap = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    return p * (gap - (p * gap).sum(-1, keepdim=True))


def full_knowledge(teacher: torch.Tensor) -> Tokens:
    """What the exact objective is told: the teacher's logits. Which token was sampled is nothing to it."""
    count = len(teacher)
    return Tokens(torch.zeros(count, dtype=torch.long), torch.zeros(count), teacher_hidden=teacher)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


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
    padded = torch.cat([student, torch.full((6, 4), -50.0)], dim=-1)
    close(EXACT(padded, full_knowledge(teacher))["loss"], EXACT(student, full_knowledge(teacher))["loss"])
    found = gradient(EXACT, padded, full_knowledge(teacher))
    close(found[:, :9], kl_gradient(student, teacher))
    assert not found[:, 9:].any()


# Sampled reverse KL: all next tokens of one state.


def gradient_of_each_token(
    objective: Objective, student: torch.Tensor, teacher: torch.Tensor, sampler: torch.Tensor
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


# Sampled reverse KL: rollouts on a tree.


@dataclass(frozen=True)
class Tree:
    """Policies over all rollouts of `depth` tokens: a row of logits [V] for each prefix, breadth first."""

    student: torch.Tensor
    teacher: torch.Tensor
    sampler: torch.Tensor
    vocabulary: int = 3
    depth: int = 3

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        return [p for n in range(self.depth) for p in product(range(self.vocabulary), repeat=n)]

    def expected_gradient(self) -> torch.Tensor:
        """[prefixes, V] by enumeration: the KL gradient at each prefix times the chance of getting there."""
        chances, places = self.sampler.softmax(-1), {p: i for i, p in enumerate(self.prefixes)}
        visits = [
            math.prod(float(chances[places[prefix[:t]], token]) for t, token in enumerate(prefix))
            for prefix in self.prefixes
        ]
        return torch.tensor(visits)[:, None] * kl_gradient(self.student, self.teacher)

    def rollout_gradients(self, objective: Objective, count: int) -> torch.Tensor:
        """[count, prefixes, V]: the gradient of each of `count` rollouts of the sampler."""
        generator = torch.Generator().manual_seed(0)
        place, visited, chosen = torch.zeros(count, dtype=torch.long), [], []
        for _ in range(self.depth):
            token = torch.multinomial(self.sampler.softmax(-1)[place], 1, generator=generator)[:, 0]
            visited.append(place)
            chosen.append(token)
            place = self.vocabulary * place + 1 + token
        at, ids = torch.stack(visited, 1).flatten(), torch.stack(chosen, 1).flatten()
        tokens = Tokens(
            ids,
            self.sampler.log_softmax(-1)[at, ids],
            self.teacher.log_softmax(-1)[at, ids],
            teacher_hidden=self.teacher[at],
        )
        gradients = torch.zeros(count, len(self.prefixes), self.vocabulary, dtype=torch.float64)
        rollouts = torch.arange(count).repeat_interleave(self.depth)
        gradients[rollouts, at] = gradient(objective, self.student[at], tokens)
        return gradients

    def worst_deviation(self, objective: Objective) -> float:
        """The largest distance of the rollouts' mean gradient from its expectation, in standard errors."""
        found = self.rollout_gradients(objective, 40_000)
        # Where every rollout has the same gradient (exact, at the root) only rounding is left.
        error = (found.std(0) / math.sqrt(len(found))).clamp(min=1e-7)
        return float(((found.mean(0) - self.expected_gradient()).abs() / error).max())


ON_POLICY = Tree(logits_of(13, 3, seed=1), logits_of(13, 3, seed=2), logits_of(13, 3, seed=1))
OFF_POLICY = Tree(logits_of(13, 3, seed=1), logits_of(13, 3, seed=2), logits_of(13, 3, seed=3, scale=0.7))


@pytest.mark.parametrize(
    ("tree", "objective"),
    [
        (ON_POLICY, SampledReverseKL()),
        (OFF_POLICY, SampledReverseKL(importance_cap=NO_CAP)),
        (OFF_POLICY, EXACT),
    ],
    ids=["sampled on policy", "sampled off policy", "exact"],
)
def test_the_mean_gradient_of_rollouts_is_the_enumerated_one(tree: Tree, objective: Objective) -> None:
    assert tree.worst_deviation(objective) < 4


def test_the_comparison_with_the_enumerated_gradient_sees_a_biased_estimator() -> None:
    assert OFF_POLICY.worst_deviation(SampledReverseKL(importance_cap=1.0)) > 8


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


# What every objective shares.


@pytest.mark.parametrize("objective", [EXACT, SampledReverseKL()], ids=["exact", "sampled"])
def test_sampler_and_trainer_that_agree_have_no_mismatch(objective: Objective) -> None:
    logits, ids = logits_of(8, 5, seed=1), torch.arange(8) % 5
    own = logits.log_softmax(-1)[torch.arange(8), ids]
    terms = objective(logits, Tokens(ids, own, own, teacher_hidden=logits))
    assert terms["mismatch_k3"] == 0
    assert terms["mismatch_max"] == 0


@pytest.mark.parametrize("objective", [EXACT, SampledReverseKL()], ids=["exact", "sampled"])
def test_mismatch_and_entropy_are_those_of_their_definitions(objective: Objective) -> None:
    gaps = [0.5, -2.0, 0.0]  # log p - log mu
    logits = torch.zeros(3, 4, dtype=torch.float64)
    own = torch.full((3,), -math.log(4), dtype=torch.float64)
    tokens = Tokens(torch.tensor([0, 1, 2]), own - torch.tensor(gaps), own, teacher_hidden=logits)
    terms = objective(logits, tokens)
    assert float(terms["mismatch_k3"]) == pytest.approx(sum(math.exp(gap) - 1 - gap for gap in gaps))
    assert float(terms["mismatch_max"]) == pytest.approx(2.0)
    assert float(terms["entropy"]) == pytest.approx(3 * math.log(4))


def test_cross_entropy_is_the_summed_surprise() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
    tokens = Tokens(torch.tensor([0, 1]))
    assert float(cross_entropy(logits, tokens)["loss"]) == pytest.approx(math.log(2) + math.log(10))
    close(gradient(cross_entropy, logits, tokens), torch.tensor([[-0.5, 0.25, 0.25], [0.1, -0.9, 0.8]]))


@pytest.mark.parametrize(
    ("objective", "missing"),
    [(EXACT, "teacher_hidden"), (EXACT, "sampler_logprobs")]
    + [(SampledReverseKL(), name) for name in ("teacher_logprobs", "sampler_logprobs")],
)
def test_what_is_missing_is_named(objective: Objective, missing: str) -> None:
    known = {"sampler_logprobs": torch.zeros(2), "teacher_logprobs": torch.zeros(2)}
    known["teacher_hidden"] = torch.zeros(2, 3)
    del known[missing]
    with pytest.raises(ValueError, match=missing):
        objective(torch.zeros(2, 3), Tokens(torch.tensor([0, 1]), **known))


WIDTH, VOCABULARY, COUNT = 6, 11, 7
TEACHER_HEAD = torch.nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)


@pytest.mark.parametrize(
    "objective",
    [ExactReverseKL(TEACHER_HEAD), SampledReverseKL(), cross_entropy],
    ids=["exact", "sampled", "sft"],
)
@pytest.mark.parametrize(("elements", "rows"), [(1, 1), (2 * VOCABULARY, 2), (3 * VOCABULARY + 5, 3)])
def test_chunks_change_neither_terms_nor_gradients(objective: Objective, elements: int, rows: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    hidden = torch.randn(COUNT, WIDTH)
    ids = torch.randint(VOCABULARY, (COUNT,))
    tokens = Tokens(ids, -3 * torch.rand(COUNT), -3 * torch.rand(COUNT), torch.randn(COUNT, WIDTH))
    seen: list[int] = []

    def watched(logits: torch.Tensor, part: Tokens) -> Terms:
        seen.append(len(logits))
        return objective(logits, part)

    def learn(elements: int) -> tuple[Terms, list[torch.Tensor]]:
        seen.clear()
        states = hidden.clone().requires_grad_()
        head.zero_grad()
        terms = evaluate_in_chunks(watched, head, states, tokens, VOCABULARY, elements)
        terms["loss"].backward()
        assert states.grad is not None and head.weight.grad is not None
        return terms, [states.grad.clone(), head.weight.grad.clone()]

    whole, whole_gradients = learn(COUNT * VOCABULARY)
    assert set(seen) == {COUNT}
    chunked, gradients = learn(elements)
    assert max(seen) == rows
    assert chunked.keys() == whole.keys()
    for name, value in whole.items():
        close(chunked[name], value)
    for found, expected in zip(gradients, whole_gradients, strict=True):
        assert expected.abs().max() > 0.1
        close(found, expected, 1e-5)
