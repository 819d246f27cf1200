"""The teacher's scores from a server, which is sent rows in requests of a limited number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from cohobate.config import Recipe
from cohobate.core.errors import TeacherError
from cohobate.models.loading import LoadedModel, outline
from cohobate.models.logprobs import TokenScores
from cohobate.models.model_cost import cost_of
from cohobate.models.privileged import format_of_scoring
from cohobate.models.sequence import TrainingSequence
from cohobate.store.compute_ledger import UNKNOWN
from cohobate.teachers.endpoint.client import Exchange
from cohobate.teachers.endpoint.prompt_logprobs import PromptLogprobs, ScoreRequest, ScoreWire, Unscored
from cohobate.teachers.endpoint.scoring_checks import context_limit, scoring_tokenizer
from cohobate.training.distributed import World
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.objectives.distributions import most_probable_listed
from cohobate.training.scoring.base import TeacherScorer


class ServerScorer(TeacherScorer):
    """Scores by the servers at teacher.base_url, in requests of at most `token_budget` tokens (a longer row is one).

    Concurrency, patience and attempts are those of [triples]. Raises EndpointError where the server does not score,
    TeacherError when it has been away for too long; the scores that came before are saved.
    """

    def __init__(
        self, recipe: Recipe, student: LoadedModel, needs: TeacherNeeds, folder: Path, token_budget: int, world: World
    ) -> None:
        teacher = recipe.teacher
        cost = cost_of(outline(teacher.model).config) if teacher.is_folder else UNKNOWN
        tokenizer, prompt_format = scoring_tokenizer(teacher, student), format_of_scoring(recipe, student.tokenizer)
        super().__init__(tokenizer, prompt_format, needs, folder, world, cost, keeps=True)
        self.teacher = teacher
        self.token_budget, self.shared = token_budget, len(tokenizer)
        self.top_k = min(needs.listed, self.shared)
        self.exchange: Exchange[ScoreRequest, list[PromptLogprobs] | Unscored]
        self.exchange = Exchange(teacher, recipe.triples, ScoreWire(teacher))

    @cached_property
    def context(self) -> int | None:
        """As the servers publish it, less the token that a request for scores generates."""
        published = (context_limit(url, self.teacher) for url in self.teacher.base_urls)
        limits = [limit for limit in published if limit is not None]
        return min(limits) - 1 if limits else None

    def score_rows(self, rows: Mapping[int, TrainingSequence]) -> Iterator[dict[int, TokenScores]]:
        requests = list(in_requests(rows, self.token_budget, self.top_k))
        failed: list[Unscored] = []
        try:
            for batch in self.exchange.answer(requests):
                failed += [item for item in batch if isinstance(item, Unscored)]
                scores = [score for item in batch if not isinstance(item, Unscored) for score in item]
                if scores:
                    yield {score.number: self._token_scores(score) for score in scores}
        finally:
            self.exchange.stop()
        if failed:
            raise _unscored(failed[0])

    def stop(self) -> None:
        self.exchange.cancel()

    def _token_scores(self, row: PromptLogprobs) -> TokenScores:
        scores = TokenScores(torch.tensor(row.logprobs))
        if not self.top_k:
            return scores
        shape = (len(row.logprobs), self.top_k)
        ids = torch.tensor(row.top_ids, dtype=torch.long).reshape(shape)
        logprobs = torch.tensor(row.top_logprobs).reshape(shape)
        if self.needs.ghosts:
            scores = replace(scores, ghost_ids=most_probable_listed(ids, logprobs, self.shared))
        if self.needs.top_k is not None:
            scores = replace(scores, top_ids=ids, top_logprobs=logprobs)
        return scores


def in_requests(rows: Mapping[int, TrainingSequence], token_budget: int, top_k: int) -> Iterator[ScoreRequest]:
    """`rows`, in order, in requests of at most `token_budget` tokens each; a longer row goes alone."""
    part: dict[int, TrainingSequence] = {}
    tokens = 0
    for number, row in rows.items():
        if part and tokens + len(row.ids) > token_budget:
            yield ScoreRequest(part, top_k)
            part, tokens = {}, 0
        part[number] = row
        tokens += len(row.ids)
    if part:
        yield ScoreRequest(part, top_k)


def _unscored(item: Unscored) -> TeacherError:
    longest = max(len(row.ids) for row in item.request.rows.values())
    return TeacherError(
        f"the server does not score {len(item.request.rows)} rollouts of up to {longest} tokens, prompt included, "
        f"after {item.why.attempts} attempts ({item.why.error_class}: {item.why.message}); what it scored is kept, so "
        "put that right and run again"
    )
