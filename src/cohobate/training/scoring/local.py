"""What the teacher says to the tokens of a step: log-probabilities, hidden states, likeliest tokens.

It is kept as it arrives, in files of the step, until a snapshot makes a replay of that step impossible: a run that was
killed asks only for the rest. (Whole distributions, as last hidden states or top-k, are too large for the rollout log.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cohobate.core.atomic_files import replacing
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import Score, score
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import CHUNK_ELEMENTS
from cohobate.store.ledger import LedgerEntry, ModelCost, entry
from cohobate.training.distributed import World
from cohobate.training.objectives.ghost import teacher_ghosts

# What is known of each token of a row, by the name of the field of `Tokens`.
Known = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Needs:
    """What an objective needs of the teacher beside the log-probabilities of the tokens themselves."""

    hidden: bool = False
    top_k: int | None = None
    ghosts: bool = False

    @property
    def kept(self) -> bool:
        """Whether there is anything that the rollout log does not hold."""
        return self.hidden or self.ghosts or self.top_k is not None


@dataclass(frozen=True)
class Asked:
    """A response to score: its number in the step, the question, its token ids."""

    row: int
    question: str
    response_ids: Sequence[int]


class Scores(ABC):
    """The teacher's view of given tokens, under its own prompt; what it says to a step is kept in `folder`."""

    def __init__(
        self, tokenizer: Any, prompt_format: PromptFormat, needs: Needs, folder: Path, world: World, cost: ModelCost
    ) -> None:
        self.tokenizer, self.prompt_format, self.needs = tokenizer, prompt_format, needs
        self.folder, self.world, self.cost = folder, world, cost
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def ask(self, rows: Mapping[int, TrainingSequence]) -> Iterable[dict[int, Known]]:
        """The teacher's answers to numbered rows, some at a time; each has teacher_logprobs and what `needs` names."""

    def prompt_tokens(self, question: str) -> int:
        """Length of the prompt under which it scores."""
        return len(question_ids(self.tokenizer, question, self.prompt_format))

    def response_tokens(self, response_ids: Sequence[int]) -> int:
        """Tokens of a response as it reads it."""
        return len(response_ids)

    def score(self, step: int, asked: Sequence[Asked]) -> list[Known]:
        """What the teacher says to `asked`; what is not kept yet of `step` is asked now, and kept."""
        found = self._found(step)
        rows = {}
        for item in asked:
            if item.row not in found:
                prompt = question_ids(self.tokenizer, item.question, self.prompt_format)
                rows[item.row] = TrainingSequence([*prompt, *item.response_ids], len(prompt))
        part = len(self._files(step, self.world.rank))
        for answers in self.ask(rows) if rows else ():
            tensors = {f"{row}.{name}": value for row, known in answers.items() for name, value in known.items()}
            with replacing(self.folder / f"step-{step:06d}-{self.world.rank}-{part:05d}.safetensors") as temporary:
                save_file(tensors, temporary)
            found |= answers
            part += 1
        return [found[item.row] for item in asked]

    def stop(self) -> None:  # noqa: B027  a model in this process ends by itself
        """Give up what another thread asks; what it was told is kept."""

    def kept(self, step: int, rows: Sequence[int]) -> list[Known] | None:
        """What was kept of these rows, whichever process scored them; None if one is missing."""
        found = self._found(step)
        return [found[row] for row in rows] if all(row in found for row in rows) else None

    def forget(self, step: int) -> None:
        """Drop what this process kept of the steps before `step`."""
        for path in self.folder.glob(f"step-*-{self.world.rank}-*.safetensors"):
            if int(path.stem.split("-")[1]) < step:
                path.unlink()

    def entry(self, stage: str, prompts: Sequence[int], responses: Sequence[int]) -> LedgerEntry:
        """The ledger's entry for scoring sequences of these lengths."""
        return entry(stage, "teacher", "scoring", self.cost, prompts, responses)

    def _found(self, step: int) -> dict[int, Known]:
        found: dict[int, Known] = {}
        for path in self._files(step, "*"):
            for key, value in load_file(path).items():
                row, _, name = key.partition(".")
                found.setdefault(int(row), {})[name] = value
        return found

    def _files(self, step: int, rank: int | str) -> list[Path]:
        return sorted(self.folder.glob(f"step-{step:06d}-{rank}-*.safetensors"))


class TeacherScores(Scores):
    """Scores by a model in this process, which passes `token_budget` padded tokens through it at a time."""

    def __init__(
        self,
        teacher: LoadedModel,
        prompt_format: PromptFormat,
        needs: Needs,
        folder: Path,
        token_budget: int,
        world: World,
    ) -> None:
        super().__init__(teacher.tokenizer, prompt_format, needs, folder, world, ModelCost.of(teacher.model.config))
        self.teacher, self.token_budget = teacher, token_budget

    def ask(self, rows: Mapping[int, TrainingSequence]) -> Iterator[dict[int, Known]]:
        scores = score(self.teacher.model, list(rows.values()), self.token_budget, self.teacher.pad_id)
        yield {number: self._known(one) for number, one in zip(rows, scores, strict=True)}

    @torch.no_grad()
    def _known(self, found: Score) -> Known:
        known = {"teacher_logprobs": found.logprobs}
        head, device = self.teacher.model.get_output_embeddings(), self.teacher.device
        vocabulary = len(self.teacher.tokenizer)
        if self.needs.hidden:
            known["teacher_hidden"] = found.hidden
        if self.needs.ghosts:
            known["ghost_ids"] = teacher_ghosts(head, found.hidden.to(device), vocabulary).cpu()
        if self.needs.top_k is not None:
            k, size = min(self.needs.top_k, vocabulary), max(1, CHUNK_ELEMENTS // vocabulary)
            logits = (head(part.to(device)).float()[:, :vocabulary] for part in found.hidden.split(size))
            parts = [part.log_softmax(-1).topk(k) for part in logits]
            known["teacher_top_logprobs"] = torch.cat([part.values for part in parts]).cpu()
            known["teacher_top_ids"] = torch.cat([part.indices for part in parts]).cpu()
        return known
