"""The preference objectives: gradients against their formulae and by enumeration, and the responses that they judge."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from cohobate.config import Opd, Sft
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Tokens
from cohobate.training.objectives.base import on_policy
from cohobate.training.objectives.dpo import DirectPreference
from cohobate.training.objectives.kto import ProspectTheory
from cohobate.training.objectives.preference import (
    Comparison,
    Judged,
    RolloutPreference,
    mismatched,
    weigh,
    weighted_likelihood,
)
from cohobate.training.objectives.simpo import SimplePreference
from cohobate.training.types import ScoredRollout
from tests.support.rollouts import scored_rollout
from tests.support.tree import RESPONSES, chances, close, gradient, logits_of, places_of, policy, token_logprobs

LENGTHS = [3, 5, 4, 1]  # of two pairs, each a good response and a bad one
GOOD = [True, False, True, False]
VOCABULARY = 7
STUDENT, REFERENCE = (logits_of(sum(LENGTHS), VOCABULARY, seed=seed, scale=2) for seed in (1, 2))
IDS = torch.randint(VOCABULARY, (sum(LENGTHS),), generator=torch.Generator().manual_seed(3))


def judged() -> list[Judged]:
    responses = [part.tolist() for part in IDS.split(LENGTHS)]
    return [Judged(TrainingSequence([1, *ids], 1), good) for ids, good in zip(responses, GOOD, strict=True)]


def logprobs(logits: torch.Tensor) -> list[torch.Tensor]:
    return list(logits.log_softmax(-1).gather(-1, IDS[:, None])[:, 0].split(LENGTHS))


def sigmoid(value: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (-value).exp())


def dpo(p: list[torch.Tensor], r: list[torch.Tensor]) -> torch.Tensor:
    gaps = [(a - b).sum() for a, b in zip(p, r, strict=True)]
    return -(sigmoid(0.3 * (gaps[0] - gaps[1])).log() + sigmoid(0.3 * (gaps[2] - gaps[3])).log()) / 2


def dpo_by_length(p: list[torch.Tensor], r: list[torch.Tensor]) -> torch.Tensor:
    gaps = [(a - b).mean() for a, b in zip(p, r, strict=True)]
    return -(sigmoid(3 * (gaps[0] - gaps[1])).log() + sigmoid(3 * (gaps[2] - gaps[3])).log()) / 2


def dpo_with_less_excess(p: list[torch.Tensor], r: list[torch.Tensor]) -> torch.Tensor:
    one, other, third, fourth = (a - b for a, b in zip(p, r, strict=True))
    first = one.sum() - (other[0] + other[1] + other[2] + 0.25 * (other[3] + other[4]))
    second = third[0] + 0.25 * (third[1] + third[2] + third[3]) - fourth[0]
    return -(sigmoid(0.3 * first).log() + sigmoid(0.3 * second).log()) / 2


def simpo(p: list[torch.Tensor], r: list[torch.Tensor]) -> torch.Tensor:
    means = [own.sum() / len(own) for own in p]
    return -(sigmoid(2 * (means[0] - means[1]) - 0.7).log() + sigmoid(2 * (means[2] - means[3]) - 0.7).log()) / 2


def kto(p: list[torch.Tensor], r: list[torch.Tensor]) -> torch.Tensor:
    gaps = [(a - b).sum() - 0.6 for a, b in zip(p, r, strict=True)]
    good = [1.5 * (1 - sigmoid(0.3 * gap)) for gap in gaps[0::2]]
    bad = [0.8 * (1 - sigmoid(-0.3 * gap)) for gap in gaps[1::2]]
    return torch.stack([*good, *bad]).mean()


Formula = Callable[[list[torch.Tensor], list[torch.Tensor]], torch.Tensor]
CASES: dict[str, tuple[Comparison, Formula]] = {
    "dpo": (DirectPreference(0.3), dpo),
    "dpo by length": (DirectPreference(3, by_length=True), dpo_by_length),
    "dpo with less excess": (DirectPreference(0.3, excess=0.25), dpo_with_less_excess),
    "simpo": (SimplePreference(2, 0.7), simpo),
    "kto": (ProspectTheory(0.3, 1.5, 0.8), kto),
}
each = pytest.mark.parametrize(("comparison", "formula"), CASES.values(), ids=CASES.keys())


def ratios(comparison: Comparison, student: torch.Tensor = STUDENT) -> list[torch.Tensor]:
    own, reference = logprobs(student), logprobs(REFERENCE)
    return [a - b for a, b in zip(own, reference, strict=True)] if comparison.has_reference else own


@each
def test_loss_and_gradient_are_those_of_the_published_formula(comparison: Comparison, formula: Formula) -> None:
    weighed = weigh(comparison, judged(), ratios(comparison), divergence=0.6)
    leaf = STUDENT.clone().requires_grad_()
    expected = formula(logprobs(leaf), logprobs(REFERENCE))
    expected.backward()
    assert weighed.statistics["loss"] == pytest.approx(float(expected.detach()), rel=1e-9)
    tokens = Tokens(IDS, weights=torch.cat([row.features["weights"] for row in weighed.rows]))
    assert leaf.grad is not None and leaf.grad.abs().max() > 1e-3
    # The loop divides by the number of the step's response tokens.
    close(gradient(weighted_likelihood, STUDENT, tokens) / len(IDS), leaf.grad)


@each
def test_a_step_that_is_split_between_the_sides_of_a_pair_has_the_same_gradient(
    comparison: Comparison, formula: Formula
) -> None:
    tokens = Tokens(
        IDS,
        weights=torch.cat([row.features["weights"] for row in weigh(comparison, judged(), ratios(comparison)).rows]),
    )
    whole = gradient(weighted_likelihood, STUDENT, tokens)
    cuts = [(0, 2), (2, 4), (4, 13)]
    parts = [gradient(weighted_likelihood, STUDENT[a:b], tokens.slice(a, b)) for a, b in cuts]
    close(torch.cat(parts), whole, 1e-12)


@each
def test_extreme_log_ratios_give_finite_losses_and_gradients(comparison: Comparison, formula: Formula) -> None:
    far = [torch.full((length,), -900.0 if good else 900.0) for length, good in zip(LENGTHS, GOOD, strict=True)]
    weighed = weigh(comparison, judged(), far)
    assert torch.tensor(list(weighed.statistics.values())).isfinite().all()
    assert torch.cat([row.features["weights"] for row in weighed.rows]).isfinite().all()
    assert weigh(comparison, [], []).rows == []


def test_the_statistics_are_means_of_each_side() -> None:
    statistics = weigh(DirectPreference(0.5), judged(), ratios(DirectPreference())).statistics
    sums = [float(ratio.sum()) for ratio in ratios(DirectPreference())]
    assert statistics["chosen_length"] == 3.5 and statistics["rejected_length"] == 3
    assert statistics["chosen_reward"] == pytest.approx(0.5 * (sums[0] + sums[2]) / 2)
    assert statistics["rejected_reward"] == pytest.approx(0.5 * (sums[1] + sums[3]) / 2)
    ahead = [sums[0] > sums[1], sums[2] > sums[3]]
    assert statistics["preference_accuracy"] == sum(ahead) / 2


# By enumeration: what the expected loss over all pairs of responses leads to.


def tree_policy_of(joint: torch.Tensor) -> torch.Tensor:
    """Logits [prefixes, V] of the policy that gives RESPONSES the probabilities `joint`."""
    mass = torch.zeros_like(policy(1))
    mass.index_put_((places_of(RESPONSES).flatten(), RESPONSES.flatten()), joint.repeat_interleave(3), accumulate=True)
    return mass.log()


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_under_bradley_terry_preferences_dpo_is_stationary_at_the_tilted_reference(beta: float) -> None:
    """Where P(a over b) = sigmoid(reward a - reward b), the best policy is r exp(reward / beta), normalised."""
    reference, rewards = policy(2), 0.3 * logits_of(len(RESPONSES), seed=5)
    best = tree_policy_of(
        (chances(reference) * (rewards / beta).exp()) / (chances(reference) * (rewards / beta).exp()).sum()
    )
    pairs = torch.combinations(torch.arange(len(RESPONSES)))[::97]
    preference = (rewards[pairs[:, 0]] - rewards[pairs[:, 1]]).sigmoid()

    def expected_gradient(student: torch.Tensor) -> torch.Tensor:
        own, others = token_logprobs(student, RESPONSES), token_logprobs(reference, RESPONSES)
        total = torch.zeros_like(student)
        for (one, other), chance in zip(pairs.tolist(), preference.tolist(), strict=True):
            for a, b, weight in ((one, other, chance), (other, one, 1 - chance)):
                sides = [Judged(TrainingSequence([0, *RESPONSES[i].tolist()], 1), i == a) for i in (a, b)]
                weighed = weigh(DirectPreference(beta), sides, [own[i] - others[i] for i in (a, b)])
                at, ids = places_of(RESPONSES[[a, b]]).flatten(), RESPONSES[[a, b]].flatten()
                weights = torch.cat([row.features["weights"] for row in weighed.rows])
                found = gradient(weighted_likelihood, student[at], Tokens(ids, weights=weights)) / 6
                total.index_put_((at,), weight * found, accumulate=True)
        return total

    assert expected_gradient(best).abs().max() < 1e-5
    assert expected_gradient(policy(1)).abs().max() > 0.1


# The responses that are judged.


def rounds(objective: str, pairs: str, group: int = 2) -> RolloutPreference[Any]:
    made = on_policy(Opd.model_validate({"objective": objective, objective: {"pairs": pairs}, "group": group}))
    assert isinstance(made, RolloutPreference)
    return made


def rolled(rewards: Sequence[float | None], lengths: Sequence[int], ghost: Sequence[int]) -> list[ScoredRollout]:
    return [
        scored_rollout(i, [10 + i] * length, [-0.5] * length, reward=reward, ghost_ids=ghost)
        for i, (reward, length) in enumerate(zip(rewards, lengths, strict=True))
    ]


def shown(items: Sequence[Judged]) -> list[tuple[list[int], bool]]:
    return [(list(item.sequence.response), item.good) for item in items]


def test_the_teachers_text_is_preferred_to_each_rollout_but_to_one_that_is_the_same() -> None:
    rollouts = rolled([None, None], [2, 3], [11, 11, 11])
    assert shown(rounds("dpo", "teacher").judged(rollouts)) == [([11, 11, 11], True), ([10, 10], False)]


def test_only_rollouts_that_the_verifier_calls_wrong_are_rejected() -> None:
    rollouts = rolled([1, 0, None, 0], [1, 2, 3, 1], [9])
    assert shown(rounds("simpo", "wrong").judged(rollouts)) == [
        *(([9], True), ([11, 11], False)),
        *(([9], True), ([13], False)),
    ]


def test_the_shortest_right_rollout_of_a_group_is_preferred_to_each_wrong_one() -> None:
    rollouts = rolled([1, 0, 1, 0, 0, 0, 1, None], [4, 1, 2, 3, 1, 1, 1, 1], [])
    found = shown(rounds("dpo", "own", group=4).judged(rollouts))
    best, alone = ([12, 12], True), ([16], True)
    assert found == [best, ([11], False), best, ([13] * 3, False), alone, ([14], False), alone, ([15], False)]


def test_kto_takes_each_verdict_by_itself() -> None:
    rollouts = rolled([1, 0, None, 0], [1, 1, 1, 1], [])
    assert shown(rounds("kto", "own", group=1).judged(rollouts)) == [([10], True), ([11], False), ([13], False)]


def test_partial_rollouts_are_held_against_as_much_of_the_teachers_text() -> None:
    config = Opd.model_validate({"objective": "dpo", "train_tokens": 2})
    objective = on_policy(config)
    assert isinstance(objective, RolloutPreference)
    assert shown(objective.judged(rolled([None], [4], [9, 8, 7]))) == [([9, 8], True), ([10, 10], False)]


def test_mismatched_sequences_have_another_prompts_response_and_are_no_longer_than_the_longest() -> None:
    rows = [TrainingSequence([1, 5, 5, 5], 1), TrainingSequence([1, 6], 1), TrainingSequence([2, 3, 7, 7, 7], 2)]
    assert [list(row.ids) for row in mismatched(rows)] == [[1, 7, 7, 7], [1, 7, 7, 7], [2, 3, 5, 5, 5]]
    alone = [TrainingSequence([1, 5], 1), TrainingSequence([1, 6, 6], 1)]
    assert [list(row.ids) for row in mismatched(alone)] == [[1, 6, 6], [1, 5]]
    assert mismatched([]) == []
    short = [TrainingSequence([1, 2, 3, 4], 3), TrainingSequence([9, 8, 8], 1)]
    assert [list(row.ids) for row in mismatched(short)] == [[1, 2, 3, 8], [9, 4]]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"objective": "dpo", "batch": 3}, "even number"),
        ({"objective": "simpo", "format": "plain"}, "format = 'chat'"),
        ({"objective": "kto", "turns": "all"}, "turns = 'last'"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Sft.model_validate(settings)
    with pytest.raises(ValueError, match="overlap does not go with this objective"):
        Opd(objective=str(settings["objective"]), overlap=True)


def test_pairs_of_own_rollouts_need_groups_and_other_preferences_do_not() -> None:
    with pytest.raises(ValueError, match="set group to 2 or more"):
        Opd.model_validate({"objective": "dpo", "dpo": {"pairs": "own"}, "group": 1})
    assert Opd.model_validate({"objective": "kto", "kto": {"pairs": "own"}, "group": 1}).is_rewarded
    assert not Opd(objective="dpo", group=1).is_rewarded
