"""Scores by several teachers: of each response by the teacher that its question is routed to, or by a mixture of all.

log q(y) = log sum_i w_i q_i(y)     of one token, over the vocabulary that all share; w_i: shares of 1
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from cohobate.core.model_shape import ModelShape
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import TokenScores
from cohobate.models.output_layer import OutputLayer
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import Scorer, ScoringInput, TeacherScorer
from cohobate.training.scoring.local import needed_of

Ask = Callable[[TeacherScorer, Sequence[ScoringInput]], list[TokenScores] | None]


class MixedHead:
    """Log-probabilities of several teachers, from their last hidden states side by side.

    states [N, d_1 + ... + d_n + n]: of n teachers; the last n columns are 1 where a teacher's states are there, and 0
    where it does not score the token. weights: of the teachers that score a token together; of one alone no weight
    counts.
    """

    def __init__(self, teachers: Sequence[LoadedModel], weights: Sequence[float] | None = None) -> None:
        self.outputs = [OutputLayer(each.model) for each in teachers]
        self.widths = [ModelShape.of(each.config).width for each in teachers]
        self.dtypes = [each.model.dtype for each in teachers]
        # Rows beyond the tokenizer that all have are padding, and models may have more or fewer of them.
        self.vocabulary = min(output.vocabulary for output in self.outputs)
        self.logs = [0.0] * len(teachers) if weights is None else [math.log(weight) for weight in weights]

    def states(self, hidden: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Hidden states [R, d_i] of some teachers, by their numbers, side by side with zeros for the others."""
        first = next(iter(hidden.values()))
        dtype = first.dtype
        for own in hidden.values():
            dtype = torch.promote_types(dtype, own.dtype)
        parts = [
            hidden[i].to(dtype) if i in hidden else first.new_zeros(len(first), width, dtype=dtype)
            for i, width in enumerate(self.widths)
        ]
        there = torch.tensor([float(i in hidden) for i in range(len(self.widths))], dtype=dtype, device=first.device)
        return torch.cat([*parts, there.expand(len(first), -1)], -1)

    @torch.no_grad()
    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """The mixture log sum_i w_i q_i [N, V] in float32, which are logits of that distribution."""
        *parts, there = states.split([*self.widths, len(self.widths)], -1)
        mixed = states.new_full((len(states), self.vocabulary), -math.inf, dtype=torch.float32)
        for i, (output, own) in enumerate(zip(self.outputs, parts, strict=True)):
            rows = there[:, i].nonzero()[:, 0]
            if len(rows):
                logits = output(own[rows].to(self.dtypes[i])).float()[:, : self.vocabulary]
                mixed[rows] = torch.logaddexp(mixed[rows], logits.log_softmax(-1) + self.logs[i])
        return mixed


class _Several(Scorer):
    """Scorers by the names of their teachers; labels: what the ledger calls these. head: of those that are here."""

    def __init__(self, scorers: Mapping[str, TeacherScorer], labels: Mapping[str, str], head: MixedHead | None) -> None:
        self.scorers, self.labels, self.head = scorers, labels, head
        self.world = next(iter(scorers.values())).world

    def score(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores]:
        scores = self._gathered(inputs, lambda scorer, own: scorer.score(step, own))
        assert scores is not None
        return scores

    def load(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores] | None:
        return self._gathered(inputs, lambda scorer, own: scorer.load(step, own))

    @abstractmethod
    def _gathered(self, inputs: Sequence[ScoringInput], ask: Ask) -> list[TokenScores] | None:
        """The scores of `inputs` from what each scorer gives for its own; None where one lacks some."""

    def stop(self) -> None:
        for scorer in self.scorers.values():
            scorer.stop()

    def forget(self, step: int) -> None:
        for scorer in self.scorers.values():
            scorer.forget(step)


class RoutedScorer(_Several):
    """Each response is scored by the teacher that its question is routed to."""

    def has_room(self, item: ScoringInput) -> bool:
        return self._own(item).has_room(item)

    def prompt_tokens(self, item: ScoringInput) -> int:
        return self._own(item).prompt_tokens(item)

    def entries(self, stage: str, inputs: Sequence[ScoringInput], under: Sequence[int]) -> list[LedgerEntry]:
        entries = []
        for name, scorer in self.scorers.items():
            own = [place for place, item in enumerate(inputs) if item.teacher == name]
            if own:
                made = scorer.entries(stage, [inputs[i] for i in own], [under[i] for i in own])
                entries += [replace(each, model=self.labels[name]) for each in made]
        return entries

    def readers(self) -> list[tuple[str | None, TeacherScorer]]:
        return [*self.scorers.items()]

    def _own(self, item: ScoringInput) -> TeacherScorer:
        assert item.teacher is not None
        return self.scorers[item.teacher]

    def _gathered(self, inputs: Sequence[ScoringInput], ask: Ask) -> list[TokenScores] | None:
        gathered: list[TokenScores | None] = [None] * len(inputs)
        for number, (name, scorer) in enumerate(self.scorers.items()):
            own = [place for place, item in enumerate(inputs) if item.teacher == name]
            scores = ask(scorer, [inputs[place] for place in own])
            if scores is None:
                return None
            for place, each in zip(own, scores, strict=True):
                gathered[place] = self._with_states(number, each)
        return [each for each in gathered if each is not None]

    def _with_states(self, number: int, scores: TokenScores) -> TokenScores:
        if scores.hidden is None or self.head is None:
            return scores
        return replace(scores, hidden=self.head.states({number: scores.hidden}))


class MixtureScorer(_Several):
    """Each response is scored by the mixture of all teachers; weights: shares of 1, by name.

    The scorers give hidden states where `needs` asks for more than the log-probabilities of the tokens themselves.
    """

    def __init__(
        self,
        scorers: Mapping[str, TeacherScorer],
        labels: Mapping[str, str],
        head: MixedHead | None,
        needs: TeacherNeeds,
        weights: Mapping[str, float],
    ) -> None:
        super().__init__(scorers, labels, head)
        self.needs, self.logs = needs, torch.tensor([weights[name] for name in scorers]).log()[:, None]

    def has_room(self, item: ScoringInput) -> bool:
        return all(scorer.has_room(item) for scorer in self.scorers.values())

    def readers(self) -> list[tuple[str | None, TeacherScorer]]:
        return [(None, scorer) for scorer in self.scorers.values()]

    def prompt_tokens(self, item: ScoringInput) -> int:
        """Length of the first teacher's prompt."""
        return next(iter(self.scorers.values())).prompt_tokens(item)

    def entries(self, stage: str, inputs: Sequence[ScoringInput], under: Sequence[int]) -> list[LedgerEntry]:
        entries = []
        for name, scorer in self.scorers.items():
            made = scorer.entries(stage, inputs, [scorer.prompt_tokens(item) for item in inputs])
            entries += [replace(each, model=self.labels[name]) for each in made]
        return entries

    def _gathered(self, inputs: Sequence[ScoringInput], ask: Ask) -> list[TokenScores] | None:
        each = []
        for scorer in self.scorers.values():
            scores = ask(scorer, inputs)
            if scores is None:
                return None
            each.append(scores)
        return [self._mixed(scores) for scores in zip(*each, strict=True)]

    def _mixed(self, scores: Sequence[TokenScores]) -> TokenScores:
        logprobs = (torch.stack([own.logprobs for own in scores]) + self.logs).logsumexp(0)
        hidden = {number: own.hidden for number, own in enumerate(scores) if own.hidden is not None}
        if self.head is None or not hidden:
            return TokenScores(logprobs)
        vocabulary = len(next(iter(self.scorers.values())).tokenizer)
        return needed_of(TokenScores(logprobs, self.head.states(hidden)), self.needs, self.head, vocabulary)
