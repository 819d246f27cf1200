"""The lines of a batch's files: a request to a line, and what of the lines that come back is a response.

They come in any order, and may be repeated, damaged, endless, or about nothing that was asked: each is bounded and
typed as the reply to a direct request is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from cohobate.teachers.base import Failure, Request, Response
from cohobate.teachers.endpoint import reply_body
from cohobate.teachers.endpoint.batch_routes import COMPLETIONS
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.fault import Fault, ReplyWithError, fault_of
from cohobate.teachers.endpoint.server_error import error_in, server_error
from cohobate.teachers.endpoint.wire import ReplyError, Timing

MOST_BYTES = 200_000_000  # of a file of requests, by the documentation
_ENVELOPE = 1 << 16  # bytes of a line around a body
_PER_TOKEN = 1 << 12  # bytes of a response for a token of its limit, its log-probabilities included
_LONGEST_NAME = 64  # characters of a request's key
_FURTHER_LINES = 1000  # beyond twice as many as requests


def write_requests(file: IO[bytes], requests: Sequence[Request], wire: ChatWire) -> int:
    """Write as many of the requests as one file may hold, at least one; returns their number."""
    length = 0
    for place, request in enumerate(requests):
        line = {"custom_id": request.key, "method": "POST", "url": COMPLETIONS, "body": wire.body(request)}
        content = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        length += len(content)
        if length > MOST_BYTES and place:
            return place
        file.write(content)
    return len(requests)


def most_bytes(requests: Mapping[str, Request], wire: ChatWire, size: int) -> int:
    """The bytes beyond which no file with the outcomes of `size` requests like these makes sense."""
    longest = max(min(wire.longest_body(each), _ENVELOPE + _PER_TOKEN * each.max_tokens) for each in requests.values())
    return size * longest + _ENVELOPE * (_FURTHER_LINES // 10)


@dataclass
class Outcomes:
    """What the files of a batch of `size` requests say about `requests`, by key, which were submitted `round` times.

    answered: keys with a response. faults: of the others, why there is none. paid: keys of those that were answered
    with something that is no use. names: what the lines are about. damaged, foreign, repeated: numbers of lines that
    say nothing.
    """

    requests: Mapping[str, Request]
    wire: ChatWire
    round: int
    secret: str | None
    size: int
    answered: set[str] = field(default_factory=set)
    faults: dict[str, Fault] = field(default_factory=dict)
    paid: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    damaged: int = 0
    foreign: int = 0
    repeated: int = 0

    def read(self, file: IO[bytes]) -> Iterator[Response]:
        """The responses in a file of lines; the first one to each request. Raises ReplyError for too many lines."""
        longest = max(map(self.wire.longest_body, self.requests.values()), default=0) + _ENVELOPE
        for content in _lines(file, longest, 2 * self.size + _FURTHER_LINES):
            request, line = self._line(content, longest)
            if request is None:
                continue
            if request.key in self.answered:
                self.repeated += 1
                continue
            try:
                response = self._response(request, line)
            except (ReplyError, ReplyWithError) as error:
                self.faults.setdefault(request.key, fault_of(error, self.secret, 0.0))
                if isinstance(error, ReplyError):
                    self.paid.add(request.key)
                continue
            self.answered.add(request.key)
            yield response

    def _line(self, content: bytes | None, longest: int) -> tuple[Request | None, dict[str, Any]]:
        """The request that a line is about, and its fields."""
        try:
            line = None if content is None else reply_body.parsed(content, longest)
        except ReplyError:
            line = None
        if not isinstance(line, dict):
            self.damaged += 1
            return None, {}
        name = line.get("custom_id")
        request = self.requests.get(name) if isinstance(name, str) else None
        if isinstance(name, str) and len(name) <= _LONGEST_NAME:
            self.names.add(name)
        # Those that this run does not ask for may be of the same batch.
        self.foreign += request is None and len(self.requests) == self.size
        return request, line

    def _response(self, request: Request, line: dict[str, Any]) -> Response:
        """Raises ReplyWithError for a request that failed, ReplyError for a reply that is no use."""
        reply = line.get("response")
        if not isinstance(reply, dict):
            raise ReplyWithError(server_error(line.get("error") or "no response, and no reason", None), {})
        body, status = reply.get("body", reply), reply.get("status_code")
        if type(status) is int and 100 <= status <= 599 and not 200 <= status < 300:
            raise ReplyWithError(server_error(body, status), {})
        if (error := error_in(body)) is not None:
            raise ReplyWithError(error, {})
        outcome = self.wire.outcome(request, body, Timing(self.round, 0.0))
        if isinstance(outcome, Failure):
            raise ReplyError(outcome.error_class, outcome.message)
        return outcome


def _lines(file: IO[bytes], longest: int, most: int) -> Iterator[bytes | None]:
    """The lines of a file that hold something; None for one that is longer than `longest` bytes.

    Raises ReplyError where there are more than `most` lines.
    """
    count = 0
    while line := file.readline(longest + 1):
        if (count := count + 1) > most:
            raise ReplyError("TooLong", f"it holds more than {most:,} lines", retry=False)
        if len(line) > longest and not line.endswith(b"\n"):
            while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line
