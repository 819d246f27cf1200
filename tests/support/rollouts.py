"""Rollouts as a sampler would give them, with only what a test is about."""

from collections.abc import Sequence
from typing import Any

from cohobate.models.logprobs import TokenScores
from cohobate.training.types import Rollout, ScoredRollout


def scored_rollout(
    row: int,
    response_ids: Sequence[int],
    sampler_logprobs: Sequence[float],
    teacher: TokenScores | None = None,
    *,
    prompt_ids: Sequence[int] = (1, 2),
    **values: Any,
) -> ScoredRollout:
    """A response to a question of its own, that ended by itself."""
    text = " ".join(map(str, response_ids))
    rollout = Rollout(0, row, f"q{row}", 0, prompt_ids, response_ids, text, sampler_logprobs, "stop", **values)
    return ScoredRollout(rollout, teacher)
