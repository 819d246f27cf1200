"""Faults of requests to an endpoint, and the decision on each: try again, give up the request, or stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import openai

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError, TeacherError
from cohobate.teachers.endpoint.chat_completions import ReplyError
from cohobate.teachers.endpoint.rate_limit import retry_after

_RETRIED = {408, 409, 425, 429}
_OVERLOADED = {429, 503, 529}
_WATCHED = 20  # as many faults of one kind at the beginning are no accident
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Fault:
    """The reason why one attempt failed.

    congested: the server is overloaded. refused: the server asks for another attempt later; no fault of the request.
    unreachable: nothing listens. spent: no credit is left. hopeless: no other request will do either. wait: seconds
    that the server asks to wait, if it does.
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
    wait: float | None = None


def fault_of(error: Exception, secret: str | None, timeout: float) -> Fault:
    """Classify `error`; the message is one line without the key."""
    if isinstance(error, ReplyError):
        return Fault(error.error_class, _line(str(error), secret), retry=error.retry, hopeless=error.hopeless)
    if isinstance(error, openai.APIStatusError):
        return _status(error, secret)
    chain = list(_chain(error))
    if any(isinstance(cause, aiohttp.ClientConnectorError) for cause in chain):
        return Fault("ConnectError", _line(str(chain[-1]) or "no connection", secret), unreachable=True)
    if any(isinstance(cause, json.JSONDecodeError | UnicodeDecodeError) for cause in chain):
        return Fault("MalformedReply", _line(f"the body is no JSON: {error}", secret), status=200)
    # The client calls a lost connection a time-out: aiohttp's own error counts.
    lost = any(isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError) for cause in chain)
    if isinstance(error, TimeoutError | openai.APITimeoutError) and not lost:
        return Fault("Timeout", f"no answer within {timeout:g} s", congested=True)
    return Fault("ConnectionLost", _line(f"{type(chain[-1]).__name__}: {chain[-1]}", secret))


def _status(error: openai.APIStatusError, secret: str | None) -> Fault:
    status = error.status_code
    wait = retry_after(error.response.headers)
    return Fault(
        error_class=type(error).__name__,
        message=_line(_message(error), secret),
        status=status,
        retry=status in _RETRIED or status >= 500,
        congested=status in _OVERLOADED,
        refused=status == 429 or wait is not None,
        spent=error.code == "insufficient_quota",
        wait=wait,
    )


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body)
    return str(body or error.response.text or f"status {error.status_code}")


def _line(text: str, secret: str | None) -> str:
    hidden = text.replace(secret, "***") if secret else text
    return " ".join(hidden.split())[:_LONGEST_MESSAGE]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


class ServerWatch:
    """Watches the faults of one server until its first reply: mistakes in the recipe show there."""

    def __init__(self, url: str, teacher: Teacher) -> None:
        self.url, self.teacher = url, teacher
        self.has_replied = False
        self._faults: list[Fault] = []
        self._final = 0  # of these, faults that allow no other attempt

    def verdict(self, fault: Fault) -> TeacherError | EndpointError | None:
        """The error to stop with, if it is no use to go on after `fault`."""
        if fault.status == 401 or fault.spent or (fault.status == 403 and not self.has_replied):
            return EndpointError(self._denied(fault))
        if fault.hopeless:
            return EndpointError(f"{self.url} {fault.message}")
        if self.has_replied:
            return None
        section = self.teacher.section
        if fault.status == 404:
            return EndpointError(
                f"{self.url} has no model '{self.teacher.model}' ({fault.message}); correct {section}.model, or "
                f"{section}.base_url"
            )
        self._faults.append(fault)
        self._final += not fault.retry
        return self._systematic(fault) if len(self._faults) >= _WATCHED else None

    def _denied(self, fault: Fault) -> str:
        if fault.spent:
            return f"{self.url} refuses since the account is spent ({fault.message}); top it up and run again"
        name, section = self.teacher.api_key_env, self.teacher.section
        advice = (
            f"put a valid key into {name}" if name else f"name the key's environment variable in {section}.api_key_env"
        )
        return f"{self.url} does not let us in (status {fault.status}: {fault.message}); {advice}"

    def _systematic(self, fault: Fault) -> TeacherError | EndpointError | None:
        section, limits = self.teacher.section, self.teacher.limits_section
        kinds, count = {item.error_class for item in self._faults}, len(self._faults)
        if kinds == {"EmptyContent"}:
            return TeacherError(
                f"the first {count} responses of {self.url} are all empty; look at {section}.prompt and the server's "
                f"chat template, or raise {limits}.max_tokens"
            )
        if kinds == {"WrongModel"}:
            return EndpointError(
                f"{self.url}: {fault.message}, {count} times in a row; correct {section}.model, or say in "
                f"{section}.served_as which name the responses carry"
            )
        if self._final == count:
            return EndpointError(
                f"{self.url} rejects all of the first {count} requests (status {fault.status}: {fault.message}); "
                f"correct what it names in [{section}] or [{limits}]"
            )
        return None
