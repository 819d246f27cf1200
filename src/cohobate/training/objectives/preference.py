"""Learning from responses that were judged good or bad, or one over the other: what these objectives share.

rho_t = log p(y_t) - log r(y_t), or log p(y_t) alone     of each token of a response; r: the reference
L = mean of l(rewards of rho)                            `Comparison`: a formula for each objective

p: the student now; r: the student before the training, or before the round. L is one of whole responses, so that it
does not split into chunks of tokens. Its gradient does: it is sum_t (dL / d rho_t) d log p(y_t). So one pass without a
gradient gives rho, `weigh` differentiates L by it, and the update learns -w_t log p(y_t) with w_t = -N dL / d rho_t, N
being the step's response tokens. That is the exact gradient, however a step is split into batches and processes, as
long as both passes see the same weights without dropout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from cohobate.core.settings import Section
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import Objective, OffPolicyObjective, OnPolicyObjective
from cohobate.training.objectives.policy_gradient import entropy, token_logprobs

if TYPE_CHECKING:
    import torch

    from cohobate.models.sequence import TrainingSequence
    from cohobate.training.types import Metrics, Rollout, ScoredRollout


@dataclass(frozen=True)
class Judged:
    """A prompt with a response that was judged good or bad."""

    sequence: TrainingSequence
    good: bool


class Comparison(ABC):
    """The loss of judged responses, from the log-ratios rho [T] of each one's tokens."""

    in_pairs: ClassVar[bool] = True
    """Whether each good response is followed by a bad one to the same prompt, with which it is compared."""
    has_reference: ClassVar[bool] = True
    """Whether rho is relative to the reference."""
    needs_divergence: ClassVar[bool] = False
    """Whether it needs an estimate of KL(p || r)."""

    @abstractmethod
    def rewards(self, ratios: Sequence[torch.Tensor]) -> torch.Tensor:
        """The implicit reward [n] of each response, differentiable."""

    @abstractmethod
    def losses(self, rewards: torch.Tensor, good: torch.Tensor, divergence: float) -> torch.Tensor:
        """The loss of each pair [n / 2], or of each response [n]; good: [n], bool; divergence: nats per response."""


@dataclass(frozen=True)
class Weighed:
    """The sequences of a step with the feature `weights`, w_t of the loss -w_t log p(y_t); statistics: its means."""

    rows: list[TrainingSequence]
    statistics: Metrics


def weigh(
    comparison: Comparison, judged: Sequence[Judged], ratios: Sequence[torch.Tensor], divergence: float = 0.0
) -> Weighed:
    """The sequences of `judged` with the coefficients that give the gradient of the comparison's mean loss.

    ratios: rho [T] of each. The statistic `loss` is that mean, in place of the loss per token.
    """
    import torch

    if not judged:
        return Weighed([], {})
    leaves = [ratio.detach().double().requires_grad_() for ratio in ratios]
    good = torch.tensor([item.good for item in judged])
    with torch.enable_grad():
        rewards = comparison.rewards(leaves)
        loss = comparison.losses(rewards, good, divergence).mean()
    gradients = torch.autograd.grad(loss, leaves)
    tokens = sum(len(item.sequence.response) for item in judged)
    rows = [
        replace(item.sequence, features={"weights": (-tokens * own).float()})
        for item, own in zip(judged, gradients, strict=True)
    ]
    statistics = {"loss": float(loss.detach()), **_of_sides(judged, rewards.detach(), good)}
    if comparison.in_pairs:
        ahead = (rewards[0::2] - rewards[1::2]).detach().sign()  # a draw counts for a half
        statistics["preference_accuracy"] = float((ahead + 1).mean() / 2)
    return Weighed(rows, statistics)


def _of_sides(judged: Sequence[Judged], rewards: torch.Tensor, good: torch.Tensor) -> Metrics:
    """Mean reward and length of the good and of the bad responses; sums of log-ratios favour length."""
    import torch

    lengths = torch.tensor([len(item.sequence.response) for item in judged], dtype=torch.float64)
    sides = {name: side for name, side in (("chosen", good), ("rejected", ~good)) if side.any()}
    return {
        f"{name}_{what}": float(values[side].mean())
        for name, side in sides.items()
        for what, values in (("reward", rewards), ("length", lengths))
    }


def weighted_likelihood(logits: torch.Tensor, tokens: Tokens) -> Terms:
    """-w_t log p(y_t), summed over the tokens of `logits` [N, V]; needs weights."""
    weights = required(tokens.weights, "weights")
    student = logits.log_softmax(-1)
    return {
        "loss": -(weights * token_logprobs(student, tokens.ids)).sum(),
        "entropy": entropy(student.detach()).sum(),
    }


def log_sigmoid(values: torch.Tensor) -> torch.Tensor:
    """log(1 / (1 + e^-value)), which overflows nowhere."""
    from torch.nn import functional

    return functional.logsigmoid(values)


def mismatched(rows: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Each prompt of `rows` with the response of the next row that has another prompt, of which there may be none.

    Their mean log-ratio estimates KL(p || r) without sampling (Ethayarajh et al. 2024, "KTO"). No sequence is
    made longer than the longest of `rows`.
    """
    longest = max((len(row.ids) for row in rows), default=0)
    prompts = [tuple(row.ids[: row.context]) for row in rows]
    others = [_next_other(prompts, at) for at in range(len(rows))]
    made = [
        replace(row, ids=[*row.ids[: row.context], *rows[other].response], features={})
        for row, other in zip(rows, others, strict=True)
    ]
    return [row.first(longest - row.context) for row in made]


def _next_other(prompts: Sequence[tuple[int, ...]], at: int) -> int:
    """The place, round the end, of the next prompt that differs from the one at `at`; else simply of the next."""
    following = ((at + step) % len(prompts) for step in range(1, len(prompts)))
    return next((other for other in following if prompts[other] != prompts[at]), (at + 1) % len(prompts))


class PreferenceSettings(Section, ABC):
    """The settings of a preference objective, on given responses and in rounds."""

    @property
    @abstractmethod
    def comparison(self) -> Comparison:
        """The formula with these settings."""


Settings = TypeVar("Settings", bound=PreferenceSettings)


class Preference(Objective[Settings]):
    """An objective whose loss is a `Comparison` of judged responses."""

    dropout = False

    @property
    def comparison(self) -> Comparison:
        """Its formula, with its settings."""
        return self.own.comparison

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return weighted_likelihood


class GivenPreference(Preference[Settings], OffPolicyObjective[Settings]):
    """A preference objective of [sft]: it learns from triples of both verdicts; the reference is the start."""

    @property
    def samples_needed(self) -> int:
        return 2 if self.comparison.in_pairs else 1

    def refusals(self) -> Iterator[str]:
        name = self.config.objective
        if self.config.format == "plain":
            yield f"objective = '{name}' learns responses behind their prompts; set format = 'chat'"
        if self.config.turns == "all":
            yield f"objective = '{name}' has judged last turns alone; set turns = 'last'"
        if self.comparison.in_pairs and self.config.batch % 2:
            yield f"objective = '{name}' learns pairs, and batch counts sequences; set batch to an even number"


class RoundSettings(Section):
    """Which responses of a round are held against each other."""

    pairs: Literal["teacher", "wrong", "own"] = "teacher"
    """teacher: the teacher's response, of the triples, over each of the student's rollouts on the same question. wrong:
    over those that the verifier calls wrong. own: right rollouts over wrong ones, on the fresh questions."""


class RolloutPreference(Preference[Settings], OnPolicyObjective[Settings]):
    """A preference objective of [opd]: a batch of rollouts is a round; the reference is the student at its start."""

    @property
    def pairs(self) -> Literal["teacher", "wrong", "own"]:
        """Which responses are held against each other."""
        assert isinstance(self.own, RoundSettings)
        return self.own.pairs

    @property
    def rewarded(self) -> bool:
        return self.pairs != "teacher"

    @property
    def compares_group(self) -> bool:
        return self.pairs == "own" and self.comparison.in_pairs

    @property
    def references(self) -> Literal["triples", "gold"] | None:
        return None if self.pairs == "own" else "triples"

    @property
    def prices_length(self) -> bool:
        return False

    def overlap_conflicts(self) -> dict[str, str]:
        return {"objective": "the reference is the student at the start of a round, which then has sampled the round"}

    def judged(self, rollouts: Sequence[ScoredRollout]) -> list[Judged]:
        """The judged responses of a round; pairs side by side, without those whose two sides are the same tokens."""
        items = [item for item in rollouts if item.rollout.response_ids]
        if self.pairs == "own":
            return self._own(items)
        shown = [item for item in items if self.pairs == "teacher" or item.rollout.reward == 0]
        pairs = [(self._given(item.rollout), self._sampled(item)) for item in shown if item.rollout.ghost_ids]
        return _judged(pairs)

    def _own(self, items: Sequence[ScoredRollout]) -> list[Judged]:
        if not self.comparison.in_pairs:
            return [
                Judged(self._sampled(item), item.rollout.reward == 1)
                for item in items
                if item.rollout.reward is not None
            ]
        groups: dict[int, list[ScoredRollout]] = {}
        for item in items:
            groups.setdefault(item.rollout.row // self.config.group, []).append(item)
        return [one for group in groups.values() for one in self._within(group)]

    def _within(self, group: Sequence[ScoredRollout]) -> list[Judged]:
        """The shortest right rollout over each wrong one."""
        right = [item for item in group if item.rollout.reward == 1]
        if not right:
            return []
        best = min(right, key=lambda item: (len(item.rollout.response_ids), item.rollout.row))
        return _judged([(self._sampled(best), self._sampled(item)) for item in group if item.rollout.reward == 0])

    def _sampled(self, item: ScoredRollout) -> TrainingSequence:
        return replace(item, teacher=None).sequence().first(self.config.train_tokens)

    def _given(self, rollout: Rollout) -> TrainingSequence:
        from cohobate.models.sequence import TrainingSequence

        row = TrainingSequence([*rollout.prompt_ids, *(rollout.ghost_ids or ())], len(rollout.prompt_ids))
        return row.first(self.config.train_tokens)


def _judged(pairs: Sequence[tuple[TrainingSequence, TrainingSequence]]) -> list[Judged]:
    different = [(one, other) for one, other in pairs if list(one.ids) != list(other.ids)]
    return [side for one, other in different for side in (Judged(one, True), Judged(other, False))]
