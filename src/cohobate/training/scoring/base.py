"""The teacher's scores of a step's tokens: log-probabilities, hidden states, most probable tokens.

The scores of a server, which may be paid, are saved as they arrive, in files of the step, until a snapshot makes a
replay of that step impossible: a run that was killed, or of which a file was altered, asks only for the rest. A model
in this process scores the rollouts of a replay again, which on a CPU gives the same bits; a run may keep the scores of
the step under way and of the one before. The rollout log has a copy of the log-probabilities for its readers; whole
distributions are too large for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cohobate.core.conversation import Query
from cohobate.core.sealed_files import is_whole, remove, replacing_sealed
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.logprobs import TokenScores
from cohobate.models.sequence import TrainingSequence
from cohobate.store.compute_ledger import LedgerEntry, ModelCost, entry
from cohobate.training.distributed import World
from cohobate.training.objectives.base import TeacherNeeds


@dataclass(frozen=True)
class ScoringInput:
    """A response to score: its row in the step, what was asked, its token ids; the teacher's name, of several."""

    row: int
    question: Query
    response_ids: Sequence[int]
    teacher: str | None = None


class Scorer(ABC):
    """What scores the responses of a stage: one teacher, or several."""

    world: World

    @abstractmethod
    def has_room(self, item: ScoringInput) -> bool:
        """Whether prompt and response fit into the teacher's context."""

    @abstractmethod
    def prompt_tokens(self, item: ScoringInput) -> int:
        """Length of the prompt under which the teacher scores the response."""

    @abstractmethod
    def score(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores]:
        """The scores of `inputs`: those that are saved of `step`, and of the others new ones."""

    @abstractmethod
    def load(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores] | None:
        """The saved scores of `inputs`, whichever process made them; None if one is missing."""

    @abstractmethod
    def readers(self) -> list[tuple[str | None, TeacherScorer]]:
        """Who must have room for a response, each with the name of the teacher whose questions it scores; None: all."""

    @abstractmethod
    def stop(self) -> None:
        """Abandon the scoring that another thread waits for; what is saved stays."""

    @abstractmethod
    def forget(self, step: int) -> None:
        """Drop what this process saved of the steps before `step`."""

    @abstractmethod
    def entries(self, stage: str, inputs: Sequence[ScoringInput], under: Sequence[int]) -> list[LedgerEntry]:
        """The ledger's entries for scoring `inputs`; under: `prompt_tokens` of each."""


class TeacherScorer(Scorer):
    """Scores given tokens under the teacher's own prompt; keeps: the scores of a step are saved in `folder`."""

    def __init__(
        self,
        tokenizer: Any,
        prompt_format: PromptFormat,
        needs: TeacherNeeds,
        folder: Path,
        world: World,
        cost: ModelCost,
        *,
        keeps: bool,
    ) -> None:
        self.tokenizer, self.prompt_format, self.needs = tokenizer, prompt_format, needs
        self.folder, self.world, self.cost, self.keeps = folder, world, cost, keeps
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def score_rows(self, rows: Mapping[int, TrainingSequence]) -> Iterable[dict[int, TokenScores]]:
        """The scores of `rows` by their numbers, some at a time: log-probabilities and what `needs` names."""

    @property
    @abstractmethod
    def context(self) -> int | None:
        """Most tokens of a prompt and its response together; None where there is no limit, or none is known."""

    def has_room(self, item: ScoringInput) -> bool:
        context = self.context
        return context is None or self.prompt_tokens(item) + len(self.teacher_ids(item.response_ids)) <= context

    def prompt_tokens(self, item: ScoringInput) -> int:
        return len(question_ids(self.tokenizer, item.question, self.prompt_format))

    def teacher_ids(self, response_ids: Sequence[int]) -> Sequence[int]:
        """The tokens that the teacher scores for the student's `response_ids`."""
        return response_ids

    def score(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores]:
        scores = self._saved(step)
        rows = {}
        for item in inputs:
            if item.row not in scores:
                prompt = question_ids(self.tokenizer, item.question, self.prompt_format)
                rows[item.row] = TrainingSequence([*prompt, *self.teacher_ids(item.response_ids)], len(prompt))
        parts = [int(path.stem.split("-")[3]) for path in self._files(step, self.world.rank)]
        part = max(parts, default=-1) + 1
        for arrived in self.score_rows(rows) if rows else ():
            if self.keeps:
                self._save(arrived, self.folder / f"step-{step:06d}-{self.world.rank}-{part:05d}.safetensors")
            scores |= arrived
            part += 1
        return [self.aligned(item, scores[item.row]) for item in inputs]

    @staticmethod
    def _save(scores: Mapping[int, TokenScores], path: Path) -> None:
        parts = {f"{row}.{name}": value for row, item in scores.items() for name, value in item.features().items()}
        with replacing_sealed(path) as temporary:
            save_file(parts, temporary)

    def load(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores] | None:
        scores = self._saved(step)
        if any(item.row not in scores for item in inputs):
            return None
        return [self.aligned(item, scores[item.row]) for item in inputs]

    def aligned(self, item: ScoringInput, scores: TokenScores) -> TokenScores:
        """Scores of the student's tokens from those of `teacher_ids`."""
        return scores

    def readers(self) -> list[tuple[str | None, TeacherScorer]]:
        return [(None, self)]

    def stop(self) -> None:
        """A model in this process ends by itself."""

    def forget(self, step: int) -> None:
        for path in self.folder.glob(f"step-*-{self.world.rank}-*.safetensors"):
            if int(path.stem.split("-")[1]) < step:
                remove(path)

    def entries(self, stage: str, inputs: Sequence[ScoringInput], under: Sequence[int]) -> list[LedgerEntry]:
        lengths = [len(self.teacher_ids(item.response_ids)) for item in inputs]
        return [entry(stage, "teacher", "scoring", self.cost, under, lengths)]

    def _saved(self, step: int) -> dict[int, TokenScores]:
        features: dict[int, dict[str, torch.Tensor]] = {}
        for path in self._files(step, "*"):
            if is_whole(path):
                for key, value in load_file(path).items():
                    row, _, name = key.partition(".")
                    features.setdefault(int(row), {})[name] = value
        return {row: TokenScores.from_features(values) for row, values in features.items()}

    def _files(self, step: int, rank: int | str) -> list[Path]:
        return sorted(self.folder.glob(f"step-{step:06d}-{rank}-*.safetensors"))
