"""The body of a reply: read and unpacked up to a limit, and parsed.

A server, or whoever is taken for one, may send a gigabyte, or a megabyte that unpacks to one. What is read beyond the
first megabyte is read by one reply at a time, so that many of them at once cost no more than one does.
"""

from __future__ import annotations

import asyncio
import html
import json
import math
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import httpx2

from cohobate.core.formatting import size
from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint.wire import ReplyError

ACCEPTED = "gzip, deflate"
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_PIECE = 1 << 16
_AT_ONCE = 1 << 20  # bytes of each reply that may be in memory beside those of all others
_BYTES_A_VALUE = 32  # fewer, and the parsed values would take many times the memory of the body
_DEFAULT_LIMIT = 1 << 20
_TITLE = re.compile(r"<title[^>]*>(.{0,300}?)</title", re.IGNORECASE | re.DOTALL)

# Of the reply that the current task waits for.
byte_limit: ContextVar[int] = ContextVar("byte_limit", default=_DEFAULT_LIMIT)


class BodyLimit:
    """A response hook of the client: bodies are unpacked here, and break off at `byte_limit` before and after."""

    def __init__(self) -> None:
        self._long_bodies = asyncio.Lock()

    async def __call__(self, response: httpx2.Response) -> None:
        encodings = [name.strip().lower() for name in response.headers.get_list("content-encoding", split_commas=True)]
        encodings = [name for name in encodings if name not in ("", "identity")]
        if len(encodings) > 1 or not set(encodings) <= {"gzip", "x-gzip", "deflate"}:
            raise ReplyError("MalformedReply", f"its encoding is {one_line(', '.join(encodings))[:80]}, not {ACCEPTED}")
        if not encodings and _announced(response.headers) <= min(_AT_ONCE, byte_limit.get()):
            return  # the connection reads no more than that
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.headers.pop("content-encoding", None)
        response.stream = _Bounded(response.stream, byte_limit.get(), bool(encodings), self._long_bodies)


def _announced(headers: httpx2.Headers) -> float:
    """The length of a body in bytes; infinite where it is not said."""
    length = headers.get("content-length", "")
    is_said = "transfer-encoding" not in headers and re.fullmatch("[0-9]{1,12}", length)
    return int(length) if is_said else math.inf


class _Bounded(httpx2.AsyncByteStream):
    """The unpacked bytes of `stream`. Raises ReplyError beyond `limit`, and for what cannot be unpacked."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int, is_packed: bool, long_bodies: asyncio.Lock) -> None:
        self.stream, self.limit, self.long_bodies = stream, limit, long_bodies
        self.unpacker = zlib.decompressobj(_GZIP_OR_ZLIB) if is_packed else None
        self.received = self.unpacked = 0
        self.has_lock = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.stream:
                self.received = self._within_limit(self.received + len(chunk))
                for piece in self._pieces(chunk):
                    self.unpacked = self._within_limit(self.unpacked + len(piece))
                    if self.unpacked > _AT_ONCE and not self.has_lock:
                        self.has_lock = await self.long_bodies.acquire()
                    yield piece
        finally:
            self._release()

    async def aclose(self) -> None:
        self._release()
        await self.stream.aclose()

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        if self.unpacker is None:
            yield chunk
            return
        rest = chunk
        while rest and not self.unpacker.eof:
            try:
                piece = self.unpacker.decompress(rest, _PIECE)
            except zlib.error as error:
                raise ReplyError("MalformedReply", f"its body cannot be unpacked: {error}") from None
            rest = self.unpacker.unconsumed_tail
            yield piece

    def _within_limit(self, count: int) -> int:
        if count > self.limit:
            raise ReplyError(
                "TooLong", f"it is longer than {size(self.limit)}, more than any reply that was asked for", retry=False
            )
        return count

    def _release(self) -> None:
        if self.has_lock:
            self.has_lock = False
            self.long_bodies.release()


def parsed(content: bytes, limit: int) -> Any:
    """The JSON value of a body. Raises ReplyError for a web page, a stream, and anything else."""
    start = content[:2000].lstrip()
    if start.startswith(b"<"):
        raise ReplyError("WebPage", f"a web page came instead of JSON{_titled(content)}", no_api=True)
    if start.startswith((b"data:", b"event:")):
        raise ReplyError("Stream", "a stream came, though none was asked for", no_api=True)
    if content.count(b"{") + content.count(b"[") > limit // _BYTES_A_VALUE:
        raise ReplyError("MalformedReply", "its body holds more lists and objects than any reply that was asked for")
    try:
        return json.loads(content.decode(json.detect_encoding(content), "replace"))
    except (ValueError, RecursionError) as error:
        raise ReplyError("MalformedReply", f"the body is no JSON: {one_line(error)}") from None


def parsed_or_text(content: bytes, limit: int) -> Any:
    """The same of the body of an error, whose text says something too; of a web page its title."""
    try:
        return parsed(content, limit)
    except ReplyError as error:
        if error.error_class == "WebPage":
            return str(error)
        return content[:2000].decode("utf-8", "replace")


def _titled(content: bytes) -> str:
    title = _TITLE.search(content[:20_000].decode("utf-8", "replace"))
    return f" ('{one_line(html.unescape(title[1]))[:80]}')" if title and title[1].strip() else ""
