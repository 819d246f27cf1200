"""The reason why one attempt of a request failed, and what follows from it for the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import aiohttp
import openai

from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint.rate_limit import retry_after
from cohobate.teachers.endpoint.reply_body import parsed_or_text
from cohobate.teachers.endpoint.server_error import ServerError, server_error
from cohobate.teachers.endpoint.wire import ReplyError

_RETRIED = {408, 409, 425, 429}
_OVERLOADED = {429, 503, 529}
_LONGEST_MESSAGE = 300
_LONGEST_ERROR = 1 << 20
_CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


class ReplyWithError(Exception):
    """A reply with status 200 that holds `error`."""

    def __init__(self, error: ServerError, headers: Mapping[str, str]) -> None:
        super().__init__(error.message)
        self.error, self.headers = error, headers


@dataclass(frozen=True)
class Fault:
    """The reason why one attempt failed.

    congested: the server is overloaded. refused: the server asks for another attempt later; no fault of the request.
    unreachable: nothing listens. spent: no credit is left. hopeless: no other request will do either. no_api: what
    replies is no interface of a model. wait: seconds that the server asks to wait, if it does. parameter: the one that
    a field of its reply names. advice: the setting that puts it right, where one does.
    """

    error_class: str
    message: str
    status: int | None = None
    retry: bool = True
    congested: bool = False
    refused: bool = False
    unreachable: bool = False
    spent: bool = False
    hopeless: bool = False
    no_api: bool = False
    wait: float | None = None
    parameter: str | None = None
    advice: str | None = None


def fault_of(error: Exception, secret: str | None, timeout: float) -> Fault:
    """Classify `error`; the message is one line without the key, and without what a terminal would obey."""
    if isinstance(error, openai.APIStatusError):
        content = parsed_or_text(error.response.content, _LONGEST_ERROR)
        return _refusal(server_error(content, error.status_code), error.response.headers, secret)
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, ReplyWithError):
            return _refusal(cause.error, cause.headers, secret)
        if isinstance(cause, ReplyError):
            message = _line(str(cause), secret)
            return Fault(cause.error_class, message, retry=cause.retry, hopeless=cause.hopeless, no_api=cause.no_api)
    if any(isinstance(cause, aiohttp.ClientConnectorError) for cause in chain):
        return Fault("ConnectError", _line(str(chain[-1]) or "no connection", secret), unreachable=True)
    # The client calls a lost connection a time-out: aiohttp's own error counts.
    lost = any(isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError) for cause in chain)
    if isinstance(error, TimeoutError | openai.APITimeoutError) and not lost:
        return Fault("Timeout", f"no answer within {timeout:g} s", congested=True)
    return Fault("ConnectionLost", _line(f"{type(chain[-1]).__name__}: {chain[-1]}", secret))


def _refusal(error: ServerError, headers: Mapping[str, str], secret: str | None) -> Fault:
    status, header = error.status, retry_after(headers)
    wait = error.wait if header is None else header
    return Fault(
        error_class="UnknownError" if status is None else _class(status),
        message=_line(error.message, secret),
        status=status,
        retry=status is None or status in _RETRIED or status >= 500,
        congested=status in _OVERLOADED,
        refused=status == 429 or wait is not None,
        spent=error.spent,
        wait=wait,
        parameter=error.parameter,
    )


def _class(status: int) -> str:
    return _CLASSES.get(status, "InternalServerError" if status >= 500 else "APIStatusError")


def _line(text: str, secret: str | None) -> str:
    hidden = text.replace(secret, "***") if secret else text
    return one_line(hidden)[:_LONGEST_MESSAGE]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
