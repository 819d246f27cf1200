"""Log-probabilities of given tokens over the completions wire: token ids in, `prompt_logprobs` out.

vLLM echoes the ids; each position of its reply also names the token that it scored. Both must be the ids sent: a reply
that is shifted by one, or of other tokens, would be plausible garbage.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cohobate.config import Teacher
from cohobate.models.sequence import TrainingSequence
from cohobate.teachers.endpoint.chat_reply import short
from cohobate.teachers.endpoint.served_model import served_name
from cohobate.teachers.endpoint.wire import FailureCause, ReplyError, Timing

_NO_LOGPROBS = (
    "returns no log-probabilities of given tokens (prompt_logprobs), as Ollama, llama.cpp and most providers do not, "
    "so it cannot score; serve the teacher with vLLM, learn from its text (opd.objective = 'dpo'), or set opd.steps = 0"
)
_LEAST_BODY, _BYTES_AN_ENTRY = 1 << 20, 512


@dataclass(frozen=True)
class ScoreRequest:
    """Rows, by their numbers, that are scored together, each with the `top_k` likeliest tokens at each place."""

    rows: Mapping[int, TrainingSequence]
    top_k: int


@dataclass(frozen=True)
class PromptLogprobs:
    """The server's scores of the R response tokens of row `number`: logprobs [R], and the likeliest tokens [R, top_k].

    decoded: [R], the server's texts of these tokens; None where it sends none.
    """

    number: int
    logprobs: list[float]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]
    decoded: list[str | None]


@dataclass(frozen=True)
class Unscored:
    """A request without scores, and the reason."""

    request: ScoreRequest
    why: FailureCause


class ScoreWire:
    """Prompts as token ids; only the one token that the interface demands is generated."""

    path = "/completions"

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def body(self, request: ScoreRequest) -> dict[str, Any]:
        return {
            "model": self.teacher.model,
            "prompt": [list(row.ids) for row in request.rows.values()],
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": request.top_k,
            "return_token_ids": True,
        }

    def parameters(self, request: ScoreRequest) -> Collection[str]:
        return ()

    def longest_body(self, request: ScoreRequest) -> int:
        tokens = sum(len(row.ids) for row in request.rows.values())
        return _LEAST_BODY + tokens * (request.top_k + 2) * _BYTES_AN_ENTRY

    def outcome(self, request: ScoreRequest, payload: Any, timing: Timing) -> list[PromptLogprobs] | Unscored:
        try:
            return self._scores(request, payload)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            raise ReplyError("MalformedReply", f"no completion with scores: {short(payload)}") from None

    def _scores(self, request: ScoreRequest, payload: Any) -> list[PromptLogprobs]:
        choices = sorted(payload["choices"], key=lambda choice: int(choice["index"]))
        served_name(payload, self.teacher)
        if any(choice.get("prompt_logprobs") is None for choice in choices):
            raise ReplyError("NoLogprobs", _NO_LOGPROBS, hopeless=True)
        if len(choices) != len(request.rows):
            raise ReplyError("MalformedReply", f"{len(choices)} answers to {len(request.rows)} rows")
        pairs = zip(request.rows.items(), choices, strict=True)
        return [_score(number, row, choice, request.top_k) for (number, row), choice in pairs]

    def failure(self, request: ScoreRequest, cause: FailureCause) -> list[PromptLogprobs] | Unscored:
        return Unscored(request, cause)


def _score(number: int, row: TrainingSequence, choice: dict[str, Any], top_k: int) -> PromptLogprobs:
    positions, echo = choice["prompt_logprobs"], choice.get("prompt_token_ids")
    if len(positions) != len(row.ids) or positions[0] is not None or (echo is not None and echo != list(row.ids)):
        raise _other_tokens(len(row.ids), len(positions))
    score = PromptLogprobs(number, [], [], [], [])
    for token, position in zip(row.ids[row.context :], positions[row.context :], strict=True):
        own = position.get(str(token)) if position else None
        if own is None:
            raise _other_tokens(len(row.ids), len(positions))
        score.logprobs.append(_logprob(own))
        text = own.get("decoded_token")
        score.decoded.append(text if isinstance(text, str) else None)
        # The token itself is there in addition where it is not among the likeliest.
        likeliest = [
            (_logprob(entry), int(id_))
            for id_, entry in position.items()
            if len(position) <= top_k or id_ != str(token)
        ]
        likeliest.sort(key=lambda pair: (-pair[0], pair[1]))
        if len(likeliest) < top_k:
            raise ReplyError("TooFewLogprobs", f"gives {len(likeliest)} likeliest tokens, not {top_k}", hopeless=True)
        score.top_logprobs.append([logprob for logprob, _ in likeliest[:top_k]])
        score.top_ids.append([id_ for _, id_ in likeliest[:top_k]])
    return score


def _logprob(entry: dict[str, Any]) -> float:
    """Raises ValueError for what is no log-probability; rounding may leave one just above 0."""
    value = float(entry["logprob"])
    if not math.isfinite(value) or value > 1e-3:
        raise ValueError(value)
    return value


def _other_tokens(sent: int, scored: int) -> ReplyError:
    return ReplyError(
        "OtherTokens",
        f"scores other tokens than it was sent ({sent} ids were sent, {scored} scores came), so its scores cannot be "
        "trusted; serve the teacher with vLLM",
        hopeless=True,
    )
