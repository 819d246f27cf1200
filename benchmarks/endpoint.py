"""Asking an endpoint: the triples stage against a bare AsyncOpenAI loop, on the same server in the same run.

    python -m benchmarks.endpoint [--requests 2000] [--latency 0.2] [--concurrency 256] [--rounds 3]

Every contender is a process of its own, timed from its start to its end, pinned to one core; the server has the
other. `triples` is the whole stage: each response synced to the journal, verdicts, tables and manifest on the disk.
`bare` keeps its responses in memory, on the aiohttp transport and on the default one. `cached` is the stage when
every response is stored. The rounds alternate; the median of each contender and its ratio to `triples` are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class _Wire(asyncio.Protocol):
    """Answers each HTTP request after `latency` seconds: as little server as will do, so that the client is timed."""

    latency = 0.0
    served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and length and len(rest) >= int(length.group(1)):
            self.buffer = b""
            asyncio.get_running_loop().call_later(self.latency, self._answer, json.loads(rest)["model"])

    def _answer(self, model: str) -> None:
        _Wire.served += 1
        message = {"role": "assistant", "content": "First 2 + 3 = 5, then 5 * 2 = 10. " * 20 + "\nAnswer: 10"}
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
        }
        body = json.dumps(completion).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def _serve(latency: float) -> None:
    _Wire.latency = latency
    server = await asyncio.get_running_loop().create_server(_Wire, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _bare(url: str, requests: int, concurrency: int, transport: str) -> None:
    import openai

    http = openai.DefaultAioHttpClient() if transport == "aiohttp" else openai.DefaultAsyncHttpxClient()
    slots = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http) as client:

        async def one(number: int) -> str | None:
            async with slots:
                content = f"What is {number} + 1? Think step by step."
                answer = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": content}], temperature=1.0, max_tokens=512, seed=0
                )
                return answer.choices[0].message.content

        answers = await asyncio.gather(*(one(number) for number in range(requests)))
    assert len(answers) == requests and all(answers)


def _recipe(url: str, folder: Path, requests: int, concurrency: int) -> Any:
    from cohobate.config import Recipe

    path = folder / "questions.jsonl"
    if not path.exists():
        rows = ({"question": f"What is {n} + 1?", "gold_answer": str(n + 1), "split": "train"} for n in range(requests))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe.model_validate(
        {
            "questions": {"source": "file", "path": str(path)},
            "teacher": {"kind": "endpoint", "model": "m", "base_url": url},
            "triples": {"max_tokens": 512, "concurrency": concurrency},
            "opd": {"steps": 0},
        }
    )


def _triples(url: str, folder: Path, requests: int, concurrency: int) -> None:
    from cohobate.stages import questions, triples

    recipe = _recipe(url, folder, requests, concurrency)
    made = triples.write(recipe, questions.write(recipe))
    assert made.manifest.rows == requests


def _contender(name: str, url: str, folder: Path, requests: int, concurrency: int) -> None:
    if name in ("triples", "cached"):
        _triples(url, folder, requests, concurrency)
    elif name.startswith("bare"):
        asyncio.run(_bare(url, requests, concurrency, name.removeprefix("bare ")))
    else:
        from cohobate.stages import questions

        questions.write(_recipe(url, folder, requests, concurrency))


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident megabytes of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said.decode()}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _pin(core: int) -> None:
    """Keep this process, and those it starts, on one core, where there are several."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


def _compare(arguments: argparse.Namespace) -> None:
    own = [sys.executable, "-m", "benchmarks.endpoint"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    server = subprocess.Popen([*own, "--serve", str(arguments.latency)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    _pin(0)
    contenders = ["triples", "cached", "bare aiohttp", "bare httpx"]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    work: dict[str, list[float]] = {name: [] for name in contenders}
    memory = dict.fromkeys(contenders, 0.0)
    sizes = ["--requests", str(arguments.requests), "--concurrency", str(arguments.concurrency)]
    try:
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as folder:
                environment = {**os.environ, "COHOBATE_DATA": f"{folder}/data"}
                for name in ["questions", *contenders]:
                    if name == "cached":  # the artifact goes, the responses stay
                        subprocess.run(["rm", "-r", f"{folder}/data/triples"], check=True)
                    command = [*own, "--contender", name, "--url", url, "--folder", folder, *sizes]
                    wall, cpu, peak = _timed(command, environment)
                    if name in seconds:
                        seconds[name].append(wall)
                        work[name].append(cpu)
                        memory[name] = max(memory[name], peak)
    finally:
        server.terminate()
        server.wait()
    ours = statistics.median(seconds["triples"])
    print(f"{arguments.requests} requests, {arguments.latency * 1000:.0f} ms, {arguments.concurrency} in flight")
    for name, walls in seconds.items():
        median = statistics.median(walls)
        print(
            f"{name:<13} {median:6.2f} s  {median / ours:5.2f} x triples  {statistics.median(work[name]):5.2f} s CPU  "
            f"{arguments.requests / median:6.0f} rows/s  {memory[name]:4.0f} MB  "
            f"(of {', '.join(f'{wall:.2f}' for wall in walls)})"
        )


def main() -> None:
    """Compare; the hidden options are the processes that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    for hidden in ("--serve", "--contender", "--url", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _pin(1)
        asyncio.run(_serve(float(arguments.serve)))
    elif arguments.contender:
        folder = Path(arguments.folder)
        _contender(arguments.contender, arguments.url, folder, arguments.requests, arguments.concurrency)
    else:
        _compare(arguments)


if __name__ == "__main__":
    main()
