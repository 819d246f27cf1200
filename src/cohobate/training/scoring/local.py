"""The teacher's scores from a model in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cohobate.core.model_shape import context_of
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import TokenScores, score
from cohobate.models.memory_room import Room
from cohobate.models.model_cost import cost_of
from cohobate.models.output_layer import OutputLayer
from cohobate.models.precision import products
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Head, chunk_elements, chunk_tokens
from cohobate.training.distributed import World
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.objectives.distributions import most_probable
from cohobate.training.scoring.base import ScoringInput, TeacherScorer


class LocalScorer(TeacherScorer):
    """Passes `token_budget` padded tokens through `teacher` at a time.

    half: with bfloat16 products of weights that are float32, as the student's are.
    """

    def __init__(
        self,
        teacher: LoadedModel,
        prompt_format: PromptFormat,
        needs: TeacherNeeds,
        folder: Path,
        token_budget: int,
        world: World,
        *,
        keeps: bool,
        half: bool = False,
    ) -> None:
        cost = cost_of(teacher.model.config)
        super().__init__(teacher.tokenizer, prompt_format, needs, folder, world, cost, keeps=keeps)
        self.teacher, self.room = teacher, Room(token_budget, "tokens", "scoring")
        self.output = OutputLayer(teacher.model)
        self.precision = "bfloat16" if half and teacher.model.dtype == torch.float32 else "float32"

    @property
    def context(self) -> int | None:
        return context_of(self.teacher.config)

    def score(self, step: int, inputs: Sequence[ScoringInput]) -> list[TokenScores]:
        # A batch that is made ahead is scored while the step before it still needs its own.
        self.forget(step - 1)
        return super().score(step, inputs)

    def score_rows(self, rows: Mapping[int, TrainingSequence]) -> Iterator[dict[int, TokenScores]]:
        needs = self.needs
        hidden = needs.hidden or needs.ghosts or needs.top_k is not None
        teacher, sequences = self.teacher, list(rows.values())

        def attempt(budget: int) -> list[TokenScores]:
            with products(self.precision, teacher.device):
                return score(teacher.model, sequences, budget, teacher.pad_id, keep_hidden=hidden)

        scores = self.room.use(attempt, least=min(len(row.ids) for row in sequences))
        vocabulary = len(teacher.tokenizer)
        yield {row: needed_of(item, needs, self.output, vocabulary) for row, item in zip(rows, scores, strict=True)}


@torch.no_grad()
def needed_of(scores: TokenScores, needs: TeacherNeeds, output: Head, vocabulary: int) -> TokenScores:
    """The scores that `needs` names, from log-probabilities and hidden states, of which `output` makes logits."""
    hidden = scores.hidden
    if hidden is None:
        return scores
    if not needs.hidden:
        scores = replace(scores, hidden=None)
    if needs.ghosts:
        scores = replace(scores, ghost_ids=most_probable(output, hidden, vocabulary).cpu())
    if needs.top_k is not None:
        k, size = min(needs.top_k, vocabulary), chunk_tokens(vocabulary, chunk_elements(hidden.device))
        logits = (output(part).float()[:, :vocabulary] for part in hidden.split(size))
        parts = [part.log_softmax(-1).topk(k) for part in logits]
        ids, logprobs = ([getattr(part, name) for part in parts] for name in ("indices", "values"))
        scores = replace(scores, top_ids=torch.cat(ids).cpu(), top_logprobs=torch.cat(logprobs).cpu())
    return scores
