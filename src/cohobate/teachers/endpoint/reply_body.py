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
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cohobate.core.formatting import size
from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint.wire import ReplyError

if TYPE_CHECKING:
    import aiohttp

ACCEPTED = "gzip, deflate"
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_CHUNK = 1 << 14
_PIECE = 1 << 16
_AT_ONCE = 1 << 20  # bytes of each reply that may be in memory beside those of all others
_BYTES_A_VALUE = 32  # fewer, and the parsed values would take many times the memory of the body
_TITLE = re.compile(r"<title[^>]*>(.{0,300}?)</title", re.IGNORECASE | re.DOTALL)


async def read(response: aiohttp.ClientResponse, limit: int, long_bodies: asyncio.Lock) -> bytes:
    """The unpacked body of `response`, at most `limit` bytes long before and after.

    Raises ReplyError beyond that, and for what cannot be unpacked; aiohttp's errors where the connection breaks.
    """
    is_packed = _is_packed(response)
    if not is_packed and _announced(response.headers) <= min(_AT_ONCE, limit):
        return await response.read()  # the connection reads no more than that
    body, has_lock = _Body(limit, is_packed), False
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            for piece in body.pieces(chunk):
                if body.length > _AT_ONCE and not has_lock:
                    has_lock = await long_bodies.acquire()
                body.parts.append(piece)
        body.finish()
    finally:
        if has_lock:
            long_bodies.release()
    return b"".join(body.parts)


async def pieces(response: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
    """The unpacked body of `response` as it comes, for who writes it to a file; raises as `read`."""
    body = _Body(limit, _is_packed(response))
    async for chunk in response.content.iter_chunked(_PIECE):
        for piece in body.pieces(chunk):
            yield piece
    body.finish()


def _is_packed(response: aiohttp.ClientResponse) -> bool:
    """Whether the body is packed. Raises ReplyError for an encoding that was not asked for."""
    encodings = [
        name.strip().lower() for line in response.headers.getall("content-encoding", ()) for name in line.split(",")
    ]
    encodings = [name for name in encodings if name not in ("", "identity")]
    if len(encodings) > 1 or not set(encodings) <= {"gzip", "x-gzip", "deflate"}:
        raise ReplyError("MalformedReply", f"its encoding is {one_line(', '.join(encodings))[:80]}, not {ACCEPTED}")
    return bool(encodings)


def _announced(headers: Mapping[str, str]) -> float:
    """The length of a body in bytes; infinite where it is not said."""
    length = headers.get("content-length", "")
    is_said = "transfer-encoding" not in headers and re.fullmatch("[0-9]{1,12}", length)
    return int(length) if is_said else math.inf


class _Body:
    """The unpacked bytes of a body, as it comes. Raises ReplyError beyond `limit`, and for what cannot be unpacked."""

    def __init__(self, limit: int, is_packed: bool) -> None:
        self.limit = limit
        self.unpacker = zlib.decompressobj(_GZIP_OR_ZLIB) if is_packed else None
        self.received = self.length = 0
        self.parts: list[bytes] = []

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that a chunk of the connection unpacks to; length: of all so far, the next one included."""
        self.received = self._within_limit(self.received + len(chunk))
        for piece in self._unpacked(chunk):
            self.length = self._within_limit(self.length + len(piece))
            yield piece

    def finish(self) -> None:
        """Raise ReplyError where the end of what was packed did not come."""
        if self.unpacker is not None and self.received and not self.unpacker.eof:
            raise ReplyError("MalformedReply", "its packed body ends too early")

    def _unpacked(self, chunk: bytes) -> Iterator[bytes]:
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
