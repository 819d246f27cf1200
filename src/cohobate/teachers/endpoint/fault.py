"""The reason why one attempt of a request failed, and what follows from it for the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from cohobate.core.sanitize import one_line, without_secrets
from cohobate.teachers.endpoint.connection import Reply
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


class StatusError(Exception):
    """A reply whose status is none of success."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"status {reply.status}")
        self.reply = reply


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
    """Classify `error`; the message is one line without keys and passwords, and without what a terminal would obey."""
    if isinstance(error, StatusError):
        content = parsed_or_text(error.reply.content, _LONGEST_ERROR)
        return _refusal(server_error(content, error.reply.status), error.reply.headers, secret)
    if isinstance(error, ReplyWithError):
        return _refusal(error.error, error.headers, secret)
    if isinstance(error, ReplyError):
        message = _line(str(error), secret)
        return Fault(error.error_class, message, retry=error.retry, hopeless=error.hopeless, no_api=error.no_api)
    cause = _first_cause(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault("ConnectError", _line(str(cause) or "no connection", secret), unreachable=True)
    if isinstance(error, TimeoutError):
        return Fault("Timeout", f"no answer within {timeout:g} s", congested=True)
    return Fault("ConnectionLost", _line(f"{type(cause).__name__}: {cause}", secret))


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
    return one_line(without_secrets(hidden))[:_LONGEST_MESSAGE]


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
