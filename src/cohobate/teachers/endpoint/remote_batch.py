"""A batch as its server tells of it: every field bounded and typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint.chat_reply import short
from cohobate.teachers.endpoint.wire import ReplyError

METADATA = "cohobate"  # the field of a batch's metadata that holds the key of its requests
_ENDED = {"completed", "failed", "expired", "cancelled"}
_AMERICAN = {"canceled": "cancelled", "canceling": "cancelling"}  # of some servers
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,255}")
_MOST_COUNT = 10**9


@dataclass(frozen=True)
class RemoteBatch:
    """A batch as its server tells of it. errors: why it was refused, each as (code, message)."""

    id: str
    status: str
    key: str | None = None
    input_file: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED

    @property
    def is_of_use(self) -> bool:
        """Whether outcomes came of it, or may still come."""
        return not self.has_ended or self.output_file is not None or self._failed_alone

    @property
    def lacks_output(self) -> bool:
        """Whether there are responses that no file is named for."""
        has_responses = self.completed > 0 or self.status == "completed"
        return has_responses and self.output_file is None and not self._failed_alone

    @property
    def _failed_alone(self) -> bool:
        # Some servers count a request that failed as completed too.
        return self.error_file is not None and self.failed >= max(self.completed, self.total)

    @classmethod
    def of(cls, payload: Any) -> RemoteBatch:
        """The batch in a reply. Raises ReplyError where there is none."""
        name = identifier(payload.get("id")) if isinstance(payload, dict) else None
        status = payload.get("status") if isinstance(payload, dict) else None
        if name is None or not isinstance(status, str):
            raise ReplyError("MalformedReply", f"no batch: {short(payload)}", retry=False)
        metadata, counts = payload.get("metadata"), payload.get("request_counts")
        key = metadata.get(METADATA) if isinstance(metadata, dict) else None
        numbers = counts if isinstance(counts, dict) else {}
        return cls(
            id=name,
            status=_AMERICAN.get(word := one_line(status)[:40].lower(), word),
            key=key if isinstance(key, str) else None,
            input_file=identifier(payload.get("input_file_id")),
            output_file=identifier(payload.get("output_file_id")),
            error_file=identifier(payload.get("error_file_id")),
            total=_count(numbers.get("total")),
            completed=_count(numbers.get("completed")),
            failed=_count(numbers.get("failed")),
            errors=tuple(_errors(payload.get("errors"))),
        )


def identifier(value: Any) -> str | None:
    """An id that can stand in an address."""
    is_one = isinstance(value, str) and _ID.fullmatch(value) is not None and ".." not in value
    return value if is_one else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNT else 0


def _errors(value: Any) -> Iterator[tuple[str, str]]:
    """The first errors of a batch that was refused; the message says the line of the file, where one is named."""
    entries = value.get("data") if isinstance(value, dict) else value
    for each in entries[:5] if isinstance(entries, list) else []:
        if isinstance(each, dict):
            line = each.get("line")
            place = f"line {line}: " if isinstance(line, int) else ""
            yield one_line(each.get("code") or "")[:80], place + one_line(each.get("message") or "no message")[:300]
