"""Every objective in a tree of responses: its mean gradient is the gradient of what it says it minimises.

What it says is written once more here, over all responses or prefixes, with torch.distributions or plain
probabilities; the objective sees sampled responses only.
"""

import functools
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from cohobate.models.token_loss import Terms, TokenLoss, Tokens
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.distributions import FullVocabulary, most_probable_listed, top_k_and_tail
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.ghost import GhostPolicy, align
from cohobate.training.objectives.gkd import GeneralisedJSD
from cohobate.training.objectives.grpo import GroupRelative
from cohobate.training.objectives.judge import JudgeReinforcement, judge_advantages, lock_in_weights
from cohobate.training.objectives.logit_kd import LogitDistillation
from cohobate.training.objectives.policy_gradient import group_advantages
from cohobate.training.objectives.sampled import SampledReverseKL, discounted_advantages
from cohobate.training.objectives.topk import TopKKL
from tests.support.tree import (
    DEPTH,
    PLACES,
    RESPONSES,
    Case,
    chances,
    close,
    index,
    places_of,
    policy,
    token_logprobs,
    visits,
)

STUDENT, TEACHER, OTHER = policy(1), policy(2), policy(3, scale=0.7)
NO_CAP, K = 1e9, 2
# A teacher whose last hidden states are its logits.
FULL = FullVocabulary(lambda hidden: hidden)
TOP = TEACHER.log_softmax(-1).topk(K)
GHOSTS = TEACHER.argmax(-1)
# The reward of a response, and the same as a judge gives it.
REWARDS = (RESPONSES.sum(-1) % 3 == 0).double()
SIGNS = 2 * REWARDS - 1


def know(responses: torch.Tensor, sampler: torch.Tensor) -> dict[str, torch.Tensor]:
    at = places_of(responses).flatten()
    return {
        "sampler_logprobs": token_logprobs(sampler, responses).flatten(),
        "teacher_logprobs": token_logprobs(TEACHER, responses).flatten(),
        "teacher_hidden": TEACHER[at],
        "teacher_top_ids": TOP.indices[at],
        "teacher_top_logprobs": TOP.values[at],
        "ghost_ids": GHOSTS[at],
    }


def case(objective: TokenLoss, expected: Any, sampler: torch.Tensor = STUDENT) -> Case:
    return Case(objective, functools.partial(know, sampler=sampler), expected, STUDENT, sampler)


# What is minimised, by prefix: expectation over the prefixes that the sampler visits.


def visited(values: torch.Tensor, sampler: torch.Tensor) -> torch.Tensor:
    return (visits(sampler) * values).sum()


def reverse(logits: torch.Tensor) -> torch.Tensor:
    return kl_divergence(Categorical(logits=logits), Categorical(logits=TEACHER))


def forward(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return kl_divergence(Categorical(logits=TEACHER / temperature), Categorical(logits=logits / temperature))


def buckets(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities [prefixes, K + 1]: the teacher's most probable tokens, and all others."""
    inside = logits.softmax(-1).gather(-1, TOP.indices)
    return torch.cat([inside, 1 - inside.sum(-1, keepdim=True)], -1)


def between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return kl_divergence(Categorical(probs=a), Categorical(probs=b))


def jensen_shannon(p: torch.Tensor, q: torch.Tensor, beta: float) -> torch.Tensor:
    m = (1 - beta) * p + beta * q
    return (beta * between(q, m) + (1 - beta) * between(p, m)) / (beta * (1 - beta))


def towards_ghosts(logits: torch.Tensor) -> torch.Tensor:
    return -logits.log_softmax(-1).gather(-1, GHOSTS[:, None])[:, 0]


# What is minimised, by response.


def sequence_kl(logits: torch.Tensor) -> torch.Tensor:
    """KL between the distributions over whole responses."""
    return kl_divergence(Categorical(probs=chances(logits)), Categorical(probs=chances(TEACHER)))


def discounted(discount: float, logits: torch.Tensor) -> torch.Tensor:
    """-E[sum_t A_t log p(y_t)] with A_t from its values by dynamic programming, leaves first; A_t has no gradient."""
    logprobs, theirs = logits.log_softmax(-1), TEACHER.log_softmax(-1)
    own, values = logprobs.detach(), torch.zeros(len(PLACES))
    gains = torch.zeros_like(own)
    for prefix, place in reversed(PLACES.items()):
        later = torch.tensor([float(values[PLACES[(*prefix, v)]]) if (*prefix, v) in PLACES else 0 for v in range(5)])
        gains[place] = (theirs - own)[place] + discount * later
        values[place] = (own[place].exp() * gains[place]).sum()
    return -visited((own.exp() * gains * logprobs).sum(-1), STUDENT)


def lost_reward(logits: torch.Tensor, rewards: torch.Tensor = REWARDS) -> torch.Tensor:
    return -(chances(logits) * rewards).sum()


def judged(logits: torch.Tensor) -> torch.Tensor:
    locked_in = -(chances(logits).detach() * (SIGNS > 0) * token_logprobs(logits, RESPONSES).sum(-1)).sum()
    return lost_reward(logits, SIGNS) + 2 * locked_in


def clipped_pairs(logits: torch.Tensor) -> torch.Tensor:
    """GRPO's surrogate over all pairs of responses, off policy: p_old = OTHER, sampled by a third policy."""
    mu, old, own = (token_logprobs(x, RESPONSES) for x in (DRIFTED, OTHER, logits))
    truncated = torch.where(old - mu > torch.tensor(1.5).log(), 1.5, (old - mu).exp())
    rho = (own - old).exp()
    chance = chances(DRIFTED)
    total = torch.zeros(())
    for reward, weight in ((r, chance[r == REWARDS].sum()) for r in (0.0, 1.0)):
        advantage = (REWARDS - reward)[:, None] / 2  # the other response of the pair has this reward
        bounded = torch.where(advantage > 0, rho.clamp(max=1.28), rho.clamp(min=0.8))
        total = total - weight * (chance[:, None] * truncated * bounded * advantage).sum()
    return total


DRIFTED = OTHER + policy(4, scale=0.3)


def grouped(responses: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
    sampler = options.pop("sampler", STUDENT)
    rewards = REWARDS[index(responses)].reshape(-1, 2)
    values = group_advantages(rewards, **options).values.flatten()
    return {**know(responses, sampler), "advantages": values.repeat_interleave(DEPTH)}


def from_old(responses: torch.Tensor) -> dict[str, torch.Tensor]:
    old = token_logprobs(OTHER, responses).flatten()
    return {**grouped(responses, sampler=DRIFTED), "old_logprobs": old}


def with_judge(responses: torch.Tensor, leave_one_out: bool) -> dict[str, torch.Tensor]:
    rewards = SIGNS[index(responses)].reshape(-1, 2).tolist()
    rows = judge_advantages(rewards, leave_one_out).values, lock_in_weights(rewards)
    advantages, weights = (x.flatten().repeat_interleave(DEPTH) for x in rows)
    return {**know(responses, STUDENT), "advantages": advantages, "weights": weights}


def with_returns(responses: torch.Tensor, discount: float) -> dict[str, torch.Tensor]:
    known = know(responses, STUDENT)
    teacher, sampler = (known[name].split(DEPTH) for name in ("teacher_logprobs", "sampler_logprobs"))
    return {**known, "advantages": torch.cat(discounted_advantages(teacher, sampler, discount))}


def returns(discount: float, **options: Any) -> Case:
    objective = SampledReverseKL(advantage_clip=None, precomputed=True, **options)
    expected = sequence_kl if discount == 1 else functools.partial(discounted, discount)
    return Case(objective, functools.partial(with_returns, discount=discount), expected)


GHOST = torch.tensor([3, 1, 4])


def on_the_ghost(responses: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rows of the ghost's text, each beside a response of the student."""
    logprobs = token_logprobs(OTHER, responses)
    pairs = [align(r, lp, GHOST.tolist()) for r, lp in zip(responses.tolist(), logprobs, strict=True)]
    ids, sampler = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return {"ids": GHOST.repeat(len(responses)), "student_ids": ids, "sampler_logprobs": sampler}


ON_POLICY = {
    "opd sampled": case(SampledReverseKL(), lambda p: visited(reverse(p), STUDENT)),
    "opd sampled, control variate": case(
        SampledReverseKL(control_variate=True), lambda p: visited(reverse(p), STUDENT)
    ),
    "opd discount 1": returns(1.0),
    "opd discount 0.5": returns(0.5),
    "opd discount 1, control variate": returns(1.0, control_variate=True),
    "grpo leave one out": Case(
        GroupRelative(), functools.partial(grouped, baseline="leave_one_out"), lost_reward, group=2
    ),
    "grpo mean": Case(GroupRelative(), grouped, lambda p: lost_reward(p) / 2, group=2),
    "grpo and teacher": Case(
        GroupRelative(alpha=0.3),
        functools.partial(grouped, baseline="leave_one_out"),
        lambda p: lost_reward(p) + 0.3 * visited(reverse(p), STUDENT),
        group=2,
    ),
    "ghost": case(GhostPolicy(), lambda p: visited(towards_ghosts(p), STUDENT)),
    "judge": Case(JudgeReinforcement(), functools.partial(with_judge, leave_one_out=True), judged, group=2),
    "judge, no baseline": Case(
        JudgeReinforcement(), functools.partial(with_judge, leave_one_out=False), judged, group=2
    ),
}
OFF_POLICY = {
    "sft": case(cross_entropy, lambda p: -(chances(TEACHER) * token_logprobs(p, RESPONSES).sum(-1)).sum(), TEACHER),
    "logit_kd": case(
        LogitDistillation(FULL, temperature=2.0, alpha=0.7),
        lambda p: visited(0.7 * 4 * forward(p, 2.0) - 0.3 * (TEACHER.softmax(-1) * p.log_softmax(-1)).sum(-1), TEACHER),
        TEACHER,
    ),
    "logit_kd top-k": case(
        LogitDistillation(top_k_and_tail), lambda p: visited(between(buckets(TEACHER), buckets(p)), TEACHER), TEACHER
    ),
    "opd exact": case(ExactReverseKL(FULL.teacher_head), lambda p: visited(reverse(p), OTHER), OTHER),
    "opd sampled": case(SampledReverseKL(importance_cap=NO_CAP), lambda p: visited(reverse(p), OTHER), OTHER),
    "opd sampled, control variate": case(
        SampledReverseKL(importance_cap=NO_CAP, control_variate=True), lambda p: visited(reverse(p), OTHER), OTHER
    ),
    "topk reverse": case(TopKKL(), lambda p: visited(between(buckets(p), buckets(TEACHER)), OTHER), OTHER),
    "topk forward": case(TopKKL("forward"), lambda p: visited(between(buckets(TEACHER), buckets(p)), OTHER), OTHER),
    "gkd forward": case(GeneralisedJSD(FULL, 0), lambda p: visited(forward(p), OTHER), OTHER),
    "gkd reverse": case(GeneralisedJSD(FULL, 1), lambda p: visited(reverse(p), OTHER), OTHER),
    "gkd": case(
        GeneralisedJSD(FULL, 0.3),
        lambda p: visited(jensen_shannon(p.softmax(-1), TEACHER.softmax(-1), 0.3), OTHER),
        OTHER,
    ),
    "gkd top-k": case(
        GeneralisedJSD(top_k_and_tail, 0.8),
        lambda p: visited(jensen_shannon(buckets(p), buckets(TEACHER), 0.8), OTHER),
        OTHER,
    ),
    "grpo clipped": Case(GroupRelative(importance_cap=1.5), from_old, clipped_pairs, sampler=DRIFTED, group=2),
    "ghost": case(GhostPolicy(NO_CAP), lambda p: visited(towards_ghosts(p), OTHER), OTHER),
    "ghost with bonus": case(
        GhostPolicy(NO_CAP, entropy_bonus=0.4),
        lambda p: visited(towards_ghosts(p) - 0.4 * Categorical(logits=p).entropy(), OTHER),
        OTHER,
    ),
    "ghost's prefix": Case(
        GhostPolicy(NO_CAP),
        on_the_ghost,
        lambda p: -token_logprobs(p, GHOST[None]).sum(),
        sampler=OTHER,
        at=lambda responses: places_of(GHOST[None]).expand(len(responses), DEPTH),
    ),
}
CASES = {f"{name} {where}": c for where, cs in (("on", ON_POLICY), ("off", OFF_POLICY)) for name, c in cs.items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_expected_gradient_over_all_responses_is_that_of_the_formula(case: Case) -> None:
    expected = case.expected_gradient()
    assert expected.abs().max() > 0.01
    close(case.enumerated_gradient(), expected, 1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_mean_gradient_of_sampled_responses_is_within_four_standard_errors(case: Case) -> None:
    assert case.worst_deviation() < 4


def test_the_comparison_sees_a_biased_estimator() -> None:
    capped = case(SampledReverseKL(importance_cap=1.0), lambda p: visited(reverse(p), OTHER), OTHER)
    assert capped.worst_deviation() > 8
    sampled_token_listed = Case(
        SampledReverseKL(control_variate=True), with_sampled_token, ON_POLICY["opd sampled"].expected
    )
    assert sampled_token_listed.worst_deviation() > 8


def with_sampled_token(responses: torch.Tensor) -> dict[str, torch.Tensor]:
    """The top-1 of the teacher and, against the rule, the token that was sampled."""
    known = know(responses, STUDENT)
    ids, best = responses.flatten(), known["teacher_top_ids"][:, 0]
    known["teacher_top_ids"] = torch.stack([best, ids], 1)
    logprobs = torch.stack([known["teacher_top_logprobs"][:, 0], known["teacher_logprobs"]], 1)
    logprobs[best == ids, 1] = -torch.inf
    return {**known, "teacher_top_logprobs": logprobs}


def test_the_control_variate_lowers_the_variance() -> None:
    def variance(name: str) -> float:
        found, chance = ON_POLICY[name].gradients(RESPONSES), chances(STUDENT)
        mean = torch.einsum("n,npv->pv", chance, found)
        return float(torch.einsum("n,npv->", chance, (found - mean) ** 2))

    assert variance("opd sampled, control variate") < 0.9 * variance("opd sampled")


# The k-estimators as losses: which KL's gradient they have.


def of_log_ratio(shape: Any) -> TokenLoss:
    def objective(logits: torch.Tensor, tokens: Tokens) -> Terms:
        assert tokens.teacher_logprobs is not None
        own = logits.log_softmax(-1).gather(-1, tokens.ids[:, None])[:, 0]
        return {"loss": shape(tokens.teacher_logprobs - own).sum()}

    return objective


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (lambda gap: -gap, lambda p: 0 * p.sum()),
        (lambda gap: gap**2 / 2, lambda p: visited(reverse(p), STUDENT)),
        (lambda gap: gap.exp() - 1 - gap, lambda p: visited(forward(p), STUDENT)),
    ],
    ids=["k1: none", "k2: reverse", "k3: forward"],
)
def test_as_a_loss_each_estimator_has_another_gradient(shape: Any, expected: Any) -> None:
    estimator = case(of_log_ratio(shape), expected)
    close(estimator.enumerated_gradient(), estimator.expected_gradient(), 1e-10)


def test_the_logged_estimates_have_the_kl_as_their_mean() -> None:
    count = len(RESPONSES)
    known = know(RESPONSES, STUDENT)
    sums = {"reverse_kl": 0.0, "reverse_kl_k3": 0.0, "reverse_kl_k2": 0.0}
    for i in range(count):
        part = Tokens(RESPONSES.flatten(), **known).slice(DEPTH * i, DEPTH * (i + 1))
        terms = SampledReverseKL()(STUDENT[places_of(RESPONSES[i : i + 1])[0]], part)
        sums = {name: value + float(chances(STUDENT)[i] * terms[name]) for name, value in sums.items()}
    exact = float(visited(reverse(STUDENT), STUDENT))
    assert sums["reverse_kl"] == pytest.approx(exact, rel=1e-9)
    assert sums["reverse_kl_k3"] == pytest.approx(exact, rel=1e-9)
    p, gap = STUDENT.softmax(-1), (STUDENT.log_softmax(-1) - TEACHER.log_softmax(-1))
    assert sums["reverse_kl_k2"] == pytest.approx(float(visited((p * gap**2 / 2).sum(-1), STUDENT)), rel=1e-9)


def test_the_top_token_of_the_teacher_is_its_ghost() -> None:
    assert most_probable_listed(TOP.indices, TOP.values, vocabulary=5).equal(GHOSTS)
