"""The triples stage at an endpoint, against bare AsyncOpenAI loops and other tools, on the same server.

    python -m benchmarks.endpoint [speed|faults|kill] [--requests 2000] [--latency 0.2] [--concurrency 256] [--rounds 3]
        [--curator PYTHON] [--datatrove PYTHON] [--distilabel PYTHON]

Every contender is a process of its own, timed from its start to its end, pinned to one core; the server has another.
`triples` is the whole stage: each response synced to the journal, verdicts, tables and manifest on the disk. `rebuilt`
is the stage when every response is stored and the artifact is not, `again` when both are. `bare` keeps its responses in
memory. The other tools (benchmarks/other_tools.py says how to install them) are skipped without the Python of their
environment.

speed: the rounds alternate; medians, and their ratio to `triples`. faults: 5% of the requests fail at first, against a
fault-free server. kill: SIGKILL when half is answered, then run again; how much the server was asked for again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.process_usage import Usage, measure, summary

_PEERS = ("curator", "datatrove", "distilabel")
_HERE = Path(__file__).parent


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
    artifact = triples.write(recipe, questions.write(recipe))
    assert artifact.manifest.rows == requests


def _contender(name: str, url: str, folder: Path, requests: int, concurrency: int) -> None:
    if name == "questions":
        from cohobate.stages import questions

        questions.write(_recipe(url, folder, requests, concurrency))
    elif name.startswith("bare"):
        asyncio.run(_bare(url, requests, concurrency, name.removeprefix("bare ")))
    else:
        _triples(url, folder, requests, concurrency)


class _Runner:
    """Starts contenders, on the first core."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.peers = {name: getattr(arguments, name) for name in _PEERS if getattr(arguments, name)}
        self.core = min(os.sched_getaffinity(0))
        for name in _PEERS:
            if name not in self.peers:
                print(f"{name}: skipped, since --{name} names no Python that has it")

    @contextmanager
    def server(self, faults: float = 0.0) -> Iterator[str]:
        options = [f"--latency={self.arguments.latency}", f"--faults={faults}"]
        command = [sys.executable, "-m", "benchmarks.wire_server", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()
            process.wait()

    def run(self, name: str, url: str, folder: Path, until: Any = None) -> Usage:
        sizes = [f"--requests={self.arguments.requests}", f"--concurrency={self.arguments.concurrency}"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        if name in self.peers:
            environment.pop("PYTHONPATH", None)
            program = [self.peers[name], str(_HERE / "other_tools.py"), name]
        else:
            program = [sys.executable, "-m", "benchmarks.endpoint", "--contender", name]
        command = [*program, "--url", url, "--folder", str(folder), *sizes]
        environment["COHOBATE_DATA"] = f"{folder}/data"
        return measure(command, environment, self.core, until, longest=self.arguments.longest)


def _speed(runner: _Runner) -> None:
    requests, rounds = runner.arguments.requests, runner.arguments.rounds
    contenders = ["triples", "again", "rebuilt", "bare aiohttp", "bare httpx", *runner.peers]
    runs: dict[str, list[Usage]] = {name: [] for name in contenders}
    with runner.server() as url:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                runner.run("questions", url, folder)
                for name in contenders:
                    if name == "rebuilt":
                        shutil.rmtree(folder / "data/triples")
                    _state(url, "reset")
                    runs[name].append(runner.run(name, url, folder))
                    received = _state(url)["received"]
                    assert (received == 0) == (name in ("again", "rebuilt")), f"{name} sent {received} requests"
    ours = statistics.median(run.seconds for run in runs["triples"])
    for name, usages in runs.items():
        print(summary(name, usages, ours, requests))


def _faults(runner: _Runner) -> None:
    runs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(runner.arguments.rounds):
        for name in ["triples", *runner.peers]:
            times = []
            for faults in (0.0, 0.05):
                with runner.server(faults) as url, tempfile.TemporaryDirectory() as temporary:
                    if name == "triples":
                        runner.run("questions", url, Path(temporary))
                    try:
                        times.append(runner.run(name, url, Path(temporary)).seconds)
                    except RuntimeError as error:
                        times.append(float("nan"))
                        print(f"{name} with {faults:.0%} faults: {str(error).strip().splitlines()[-1][:150]}")
            runs.setdefault(name, []).append((times[0], times[1]))
    for name, pairs in runs.items():
        plain, faulty = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        print(f"{name:<13} {plain:6.2f} s without faults  {faulty:6.2f} s with 5%  {faulty / plain:5.2f} x")


def _kill(runner: _Runner) -> None:
    for name in ["triples", *runner.peers]:
        with runner.server() as url, tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if name == "triples":
                runner.run("questions", url, folder)
            runner.run(name, url, folder, until=lambda: _state(url)["answered"] >= runner.arguments.requests // 2)
            before = _state(url)
            try:
                runner.run(name, url, folder)
                end = "came to its end"
            except RuntimeError as error:
                end = str(error).strip().splitlines()[-1][:120]
            after = _state(url)
            print(
                f"{name:<13} killed after {before['answered']} answers, with about "
                f"{before['received'] - before['answered']} in flight; then asked "
                f"{after['received'] - before['received']}, of which {after['again']} had been answered; {end}"
            )


def _state(url: str, what: str = "state") -> dict[str, int]:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/{what}") as answer:
        state: dict[str, int] = json.load(answer)
        return state


def main() -> None:
    """Compare; the hidden options are the processes that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "faults", "kill"])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=float, default=120.0, help="seconds after which a contender is stopped")
    for peer in _PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON")
    for hidden in ("--contender", "--url", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        _contender(
            arguments.contender, arguments.url, Path(arguments.folder), arguments.requests, arguments.concurrency
        )
    else:
        {"speed": _speed, "faults": _faults, "kill": _kill}[arguments.what](_Runner(arguments))


if __name__ == "__main__":
    main()
