"""An OpenAI-wire server for benchmarks: as little work as possible per request, so that the client is timed.

    python -m benchmarks.wire_server [--latency 0.2] [--faults 0.05]

Prints its port. Each chat request is answered after `latency` seconds; of requests that come for the first time, the
share `faults` gets a 500, a 429 or a torn connection in turn. GET /state gives the counts of requests, and GET /reset
sets them to 0.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TEXT = "First 2 + 3 = 5, then 5 * 2 = 10. " * 20 + "\nAnswer: 10"
_DENIED = {500: "broken for the moment", 429: "too many"}
_REASON = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error"}


class Requests:
    """received: all; answered: those with a completion; again: those that had been answered before."""

    def __init__(self) -> None:
        self.received = self.answered = self.again = self.faults = 0
        self.times: dict[bytes, int] = {}
        self.done: set[bytes] = set()

    def state(self) -> dict[str, int]:
        names = ("received", "answered", "again", "faults")
        return {name: getattr(self, name) for name in names} | {"distinct": len(self.times)}


class Wire(asyncio.Protocol):
    """One connection."""

    latency, faults = 0.0, 0.0
    seen = Requests()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer, self.once = transport, b"", False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self.buffer = b""
            if head.startswith(b"GET /reset"):
                Wire.seen = Requests()
            self._send(200, Wire.seen.state())
            return
        length = _LENGTH.search(head)
        if length and len(rest) >= int(length.group(1)):
            self.buffer, self.once = b"", b"connection: close" in head.lower()
            self._receive(rest)

    def _receive(self, body: bytes) -> None:
        seen, request = Wire.seen, json.loads(body)
        # A request is known by its messages: other tools put further keys into the body.
        key = hashlib.sha256(json.dumps(request["messages"]).encode()).digest()
        seen.received += 1
        seen.times[key] = time = seen.times.get(key, 0) + 1
        seen.again += key in seen.done
        loop = asyncio.get_running_loop()
        if time == 1 and int.from_bytes(key[:4], "big") < self.faults * 2**32:
            seen.faults += 1
            loop.call_later(self.latency, self._fail, seen.faults % 3)
        else:
            loop.call_later(self.latency, self._answer, key, request["model"])

    def _fail(self, kind: int) -> None:
        if kind == 2:
            self.transport.close()
        else:
            status = 500 if kind else 429
            self._send(status, {"error": {"message": _DENIED[status], "type": "error", "code": None}})

    def _answer(self, key: bytes, model: str) -> None:
        if self.transport.is_closing():
            return
        Wire.seen.answered += 1
        Wire.seen.done.add(key)
        message = {"role": "assistant", "content": _TEXT}
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
        }
        self._send(200, completion)

    def _send(self, status: int, payload: Any) -> None:
        body = json.dumps(payload).encode()
        head = (
            f"HTTP/1.1 {status} {_REASON[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self.transport.write(f"{head}\r\n".encode() + body)
        if self.once:
            self.transport.close()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until ended, on the last of the processors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the requests")
    arguments = parser.parse_args()
    Wire.latency, Wire.faults = arguments.latency, arguments.faults
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
