"""An error in the words of a server: its status, message, code and parameter, wherever they stand in the body.

OpenAI: {"error": {"message", "type", "code", "param"}}. FastAPI, vLLM, SGLang: {"detail": [{"loc", "msg"}]} or
{"object": "error", "message", "code"}. OpenRouter: a status 200 with {"error": {"code": 429, "metadata": {"raw"}}}, or
the error in a choice. Google: a list of one such object. MiniMax: {"base_resp": {"status_code", "status_msg"}}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cohobate.core.sanitize import one_line

_LONGEST_MESSAGE = 300
_CODES = ("code", "status", "status_code", "http_status", "type", "reason")
_MESSAGES = ("message", "msg", "status_msg", "error_msg", "detail", "error", "title")
_DEEPEST = 4
# The status that belongs to a word, where a body with status 200 has no number; the first one that fits.
_STATUS_WORDS = (
    (429, re.compile(r"rate.?limit|too.?many|throttl|resource.?exhausted|quota")),
    (402, re.compile(r"payment|billing|insufficient.?(balance|funds|credit)")),
    (401, re.compile(r"authenticat|unauthorized|invalid.?api.?key")),
    (403, re.compile(r"permission|forbidden")),
    (404, re.compile(r"not.?found")),
    (503, re.compile(r"overload|unavailable|capacity")),
    (504, re.compile(r"time.?out")),
    (500, re.compile(r"server.?error|internal|api_error|upstream")),
    (400, re.compile(r"invalid|bad.?request|context.?length")),
)
_SPENT_CODE = re.compile(
    r"insufficient.?(quota|balance|funds|credits?)|billing|payment.?required|arrearage|account.?overdue|credits?.?exhausted"
)
_SPENT_MESSAGE = re.compile(
    r"insufficient[ _-](account )?(balance|funds|credits?|quota)"
    r"|(balance|credits?) (is |are |has been )?(too low|exhausted|insufficient|used up|not enough)|out of credits?"
    r"|not enough (balance|credits?|funds)|payment required|overdue payment|in arrears|requires more credits"
    r"|top up your|account (is )?(suspended|overdue|not active)|billing (hard )?limit"
    r"|no (remaining |available )?(credits?|balance)|spending limit|recharge|余额不足|欠费",
    re.IGNORECASE,
)
# Google says so of its limits per minute too, and then when to come back.
_QUOTA_MESSAGE = re.compile(r"exceeded your (current )?quota|quota (is )?(exceeded|exhausted|used up)", re.IGNORECASE)
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


@dataclass(frozen=True)
class ServerError:
    """status: that of HTTP, or what an error within status 200 stands for; None where it does not say.

    parameter: the one that the server refuses, where a field of its own names it. spent: no credit is left. wait:
    seconds that the body asks to wait.
    """

    status: int | None
    message: str
    parameter: str | None = None
    spent: bool = False
    wait: float | None = None


def error_in(payload: Any) -> ServerError | None:
    """The error in a body with status 200, if it holds one instead of a reply, or beside it."""
    body = payload[0] if isinstance(payload, list) and len(payload) == 1 else payload
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, dict):
        beside = body.get("error") or first.get("error")
        return server_error(beside, None) if beside else None
    is_error = body.get("error") or body.get("errors") or body.get("object") == "error" or body.get("type") == "error"
    says_one = any(body.get(name) for name in ("detail", "base_resp")) or (
        any(name in body for name in ("message", "msg")) and any(name in body for name in _CODES)
    )
    return server_error(body, None) if is_error or says_one else None


def server_error(body: Any, status: int | None) -> ServerError:
    """The error in the body of a reply with the status `status`; None: that of an error within status 200."""
    objects = list(_objects(body, 0))
    codes = [
        str(each.get(name)).lower() for each in objects for name in _CODES if isinstance(each.get(name), str | int)
    ]
    message = _message(body, objects) or (f"status {status}" if status else "no message")
    own = status if status is not None else _status(codes, message)
    wait = next(filter(None, map(_delay, objects)), None)
    return ServerError(own, message, _parameter(objects), _is_spent(own, codes, message, wait), wait)


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The objects of a body from the outside to the inside."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        yield value
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    for item in inner[:20]:
        yield from _objects(item, depth + 1)


def _message(body: Any, objects: list[dict[str, Any]]) -> str:
    """What the objects say, each sentence once, from the outside to the inside."""
    words = [body] if isinstance(body, str) else []
    for each in objects:
        words += [each[name] for name in _MESSAGES if isinstance(each.get(name), str)]
        if isinstance(each.get("raw"), str):  # of the provider behind OpenRouter
            words.append(each["raw"])
        if isinstance(place := each.get("loc"), list):
            words.append(".".join(str(part) for part in place[:8] if part != "body"))
    texts = dict.fromkeys(one_line(word[:2000]) for word in words)
    return ": ".join(filter(None, texts))[:_LONGEST_MESSAGE]


def _status(codes: list[str], message: str) -> int | None:
    numbers = [int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)]
    if numbers:
        return numbers[0]
    words = [*codes, message.lower()]
    return next((status for word in words for status, pattern in _STATUS_WORDS if pattern.search(word)), None)


def _parameter(objects: list[dict[str, Any]]) -> str | None:
    for each in objects:
        if isinstance(name := each.get("param"), str) and name:
            return name[:100].rpartition(".")[2]
        if isinstance(place := each.get("loc"), list) and place and isinstance(place[-1], str):
            return place[-1][:100]
    return None


def _is_spent(status: int | None, codes: list[str], message: str, wait: float | None) -> bool:
    if status == 402 or any(_SPENT_CODE.search(code) for code in codes):
        return True
    if status is not None and status not in (400, 403, 429):
        return False
    return bool(_SPENT_MESSAGE.search(message) or (wait is None and _QUOTA_MESSAGE.search(message)))


def _delay(each: dict[str, Any]) -> float | None:
    """Google's RetryInfo."""
    delay = each.get("retryDelay")
    match = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
    return float(match[1]) if match else None
