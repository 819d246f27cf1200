"""Log-probabilities of given tokens over the completions wire: token ids in, `prompt_logprobs` out.

vLLM echoes the ids; each place of its answer also names the token that it scored. Both must be what was sent: an
answer that is shifted by one, or of other tokens, would be plausible garbage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cohobate.config import Teacher
from cohobate.models.sequence import TrainingSequence
from cohobate.teachers.endpoint.chat_completions import Ended, GivenUp, ReplyError, refuse_other_model

_NO_LOGPROBS = (
    "returns no log-probabilities of given tokens (prompt_logprobs), as Ollama, llama.cpp and most providers do not, "
    "so it cannot score; serve the teacher with vLLM, or set opd.steps = 0"
)


@dataclass(frozen=True)
class ScoreRequest:
    """Rows, by their numbers, that are scored together, each with the `top_k` likeliest tokens at each place."""

    rows: Mapping[int, TrainingSequence]
    top_k: int


@dataclass(frozen=True)
class RowScore:
    """The score of the R response tokens of row `number`: log-probabilities [R], and of the likeliest [R, top_k].

    decoded: [R], what the server calls these tokens; None where it does not say.
    """

    number: int
    logprobs: list[float]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]
    decoded: list[str | None]


@dataclass(frozen=True)
class Unscored:
    """A request that has no scores, and why."""

    request: ScoreRequest
    why: GivenUp


class ScoreWire:
    """Prompts as token ids, of which nothing is generated but the one token that the interface demands."""

    path = "/completions"

    def __init__(self, settings: Teacher) -> None:
        self.settings = settings

    def body(self, request: ScoreRequest) -> dict[str, Any]:
        return {
            "model": self.settings.model,
            "prompt": [list(row.ids) for row in request.rows.values()],
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": request.top_k,
            "return_token_ids": True,
        }

    def answered(self, request: ScoreRequest, payload: Any, ended: Ended) -> list[RowScore] | Unscored:
        try:
            choices = sorted(payload["choices"], key=lambda choice: int(choice["index"]))
            served = payload.get("model")
        except (LookupError, TypeError, AttributeError, ValueError):
            raise ReplyError("MalformedReply", f"no completion: {str(payload)[:200]}") from None
        refuse_other_model(served, self.settings)
        if any(choice.get("prompt_logprobs") is None for choice in choices):
            raise ReplyError("NoLogprobs", _NO_LOGPROBS, hopeless=True)
        if len(choices) != len(request.rows):
            raise ReplyError("MalformedReply", f"{len(choices)} answers to {len(request.rows)} rows")
        pairs = zip(request.rows.items(), choices, strict=True)
        return [_score(number, row, choice, request.top_k) for (number, row), choice in pairs]

    def failed(self, request: ScoreRequest, why: GivenUp) -> list[RowScore] | Unscored:
        return Unscored(request, why)


def _score(number: int, row: TrainingSequence, choice: dict[str, Any], top_k: int) -> RowScore:
    places, echoed = choice["prompt_logprobs"], choice.get("prompt_token_ids")
    if len(places) != len(row.ids) or places[0] is not None or (echoed is not None and echoed != list(row.ids)):
        raise _not_ours(len(row.ids), len(places))
    found = RowScore(number, [], [], [], [])
    for token, place in zip(row.ids[row.context :], places[row.context :], strict=True):
        own = place.get(str(token)) if place else None
        if own is None:
            raise _not_ours(len(row.ids), len(places))
        found.logprobs.append(float(own["logprob"]))
        found.decoded.append(own.get("decoded_token"))
        # The token itself is there in addition where it is not among the likeliest.
        others = [(float(v["logprob"]), int(k)) for k, v in place.items() if len(place) <= top_k or k != str(token)]
        others.sort(key=lambda pair: (-pair[0], pair[1]))
        if len(others) < top_k:
            raise ReplyError("TooFewLogprobs", f"gives {len(others)} likeliest tokens, not {top_k}", hopeless=True)
        found.top_logprobs.append([logprob for logprob, _ in others[:top_k]])
        found.top_ids.append([token for _, token in others[:top_k]])
    return found


def _not_ours(sent: int, came: int) -> ReplyError:
    return ReplyError(
        "OtherTokens",
        f"scores other tokens than it was sent ({sent} ids were sent, {came} scores came), so its scores cannot be "
        "trusted; serve the teacher with vLLM",
        hopeless=True,
    )
