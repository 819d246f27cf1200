"""A client that is killed loses what is in flight; what was answered is not asked again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Artifact, Store
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.pipeline import run_stages
from tests.support.processes import wait_while_running
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, Body, WireServer, completion

pytestmark = pytest.mark.serves

# The issue's own numbers are COHOBATE_KILLS=20 COHOBATE_KILL_ROWS=5000.
KILLS, ROWS = int(os.environ.get("COHOBATE_KILLS", "3")), int(os.environ.get("COHOBATE_KILL_ROWS", "200"))
CONCURRENCY = 16
# A response is synced to the disk within this time of its arrival.
SYNCED = 0.2
OF_THE_RUN = ["latency_ms", "created_at", "run_id", "flow_run_id"]


def start(recipe: Recipe, root: Path) -> subprocess.Popen[bytes]:
    """The questions and triples of `recipe`, as a program of its own."""
    command = [sys.executable, "-m", "tests.support.endpoint_recipe", recipe.model_dump_json()]
    environment = {**os.environ, "COHOBATE_DATA": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def triples_of(root: Path) -> Artifact:
    [artifact] = [artifact for artifact in Store(root).all() if artifact.stage == "triples"]
    return artifact


def assert_same(made: Artifact, expected: Artifact) -> None:
    """The same rows in the same order, times aside."""
    assert made.fingerprint == expected.fingerprint
    assert table(made).drop(OF_THE_RUN).equals(table(expected).drop(OF_THE_RUN))
    for name in ("verdicts", "failures", "aggregates"):
        assert (made.path / f"{name}.parquet").read_bytes() == (expected.path / f"{name}.parquet").read_bytes()
    for figures in (made.manifest.metrics, made.manifest.ledger):
        assert figures in (expected.manifest.metrics, expected.manifest.ledger)


@pytest.mark.kill
def test_kills_cost_what_is_in_flight_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(int(os.environ.get("COHOBATE_KILL_SEED", "0")))
    server = WireServer(lambda body, time: Act(delay=draw.uniform(0.02, 0.08)))
    root, allowed = tmp_path / "killed", 0
    with server.running():
        recipe = recipe_of(tmp_path, server.url, ROWS, triples={"concurrency": CONCURRENCY})
        for _ in range(KILLS):
            process = start(recipe, root)
            before = len(server.seen)
            awaited = before + draw.randint(5, 3 * ROWS // (4 * KILLS))
            wait_while_running(process, lambda count=awaited: len(server.seen) >= count)
            time.sleep(draw.uniform(0.0, 0.05))
            process.kill()
            process.wait()
            killed = time.monotonic()
            lost = [s for s in server.seen[before:] if s.answered is None or s.answered > killed - SYNCED]
            allowed += len(lost)
            time.sleep(0.1)
        assert start(recipe, root).wait() == 0
        assert ROWS <= len(server.seen) <= ROWS + allowed
        assert len(set(server.keys)) == ROWS
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "whole"))
        assert_same(triples_of(root), make(recipe))


@pytest.mark.kill
def test_an_interrupt_keeps_all_that_was_received(tmp_path: Path) -> None:
    server = WireServer(lambda body, time: Act(delay=0.05))
    root = tmp_path / "data"
    with server.running():
        recipe = recipe_of(tmp_path, server.url, ROWS, triples={"concurrency": CONCURRENCY})
        process = start(recipe, root)
        wait_while_running(process, lambda: len(server.seen) >= 100)
        stopped = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
        way = 0.05  # out of the server is not yet in the client
        answered = {s.key for s in server.seen if s.status and s.answered and s.answered < stopped - way}
        before = len(server.seen)
        assert len(answered) > 40
        assert start(recipe, root).wait() == 0
        assert answered.isdisjoint(server.keys[before:])


def test_what_is_stored_is_never_asked_again(tmp_path: Path, data: Path) -> None:
    server = WireServer()
    with server.running():
        recipe = recipe_of(tmp_path, server.url, 50)
        first = make(recipe)
        rows = table(first)
        assert len(server.seen) == 50
        assert make(recipe).cached
        shutil.rmtree(first.path)
        assert table(make(recipe)).drop("created_at").equals(rows.drop("created_at"))
        assert len(server.seen) == 50
        more = make(recipe_of(tmp_path, server.url, 50, triples={"samples": 3}))
        assert len(server.seen) == len(set(server.keys)) == 150
        assert table(more).filter(pl.col("sample_index") == 0)["response"].to_list() == rows["response"].to_list()
        assert len({seen.body["seed"] for seen in server.seen}) == 150
        make(recipe_of(tmp_path, server.url, 60, triples={"samples": 3}))
        assert len(server.seen) == len(set(server.keys)) == 180


def test_each_change_of_a_recipe_asks_exactly_for_what_is_missing(tmp_path: Path, data: Path) -> None:
    """More questions, more samples, another verifier, another export, a larger limit: counted at the server."""

    def plan(body: Body, time: int) -> Act:
        cut = body["max_tokens"] == 64 and number(body) % 10 == 7
        return Act(payload=completion(body, finish_reason="length" if cut else "stop"))

    server = WireServer(plan)
    with server.running():

        def asked(rows: int, **triples: Any) -> int:
            before = len(server.seen)
            made.append(make(recipe_of(tmp_path, server.url, rows, triples={"concurrency": 64, **triples})))
            assert len(table(made[-1])) == rows * triples["samples"]
            return len(server.seen) - before

        made: list[Artifact] = []
        assert asked(50, samples=4) == 50 * 4
        assert asked(150, samples=4) == 100 * 4
        assert asked(150, samples=8) == 150 * 4
        assert asked(150, samples=8, verifier="numeric") == 0
        assert not made[-1].cached and set(table(made[-1], "verdicts")["verifier"]) == {"numeric"}
        assert asked(150, samples=8, max_tokens=256) == 15 * 8
        assert asked(150, samples=8, max_tokens=128) == 0  # what ended by itself would have ended there too
        assert asked(50, samples=2, max_tokens=256) == 0
        before = len(server.seen)
        relabel(made[2], {"name": "math"})
        export(made[2], Request("messages", Selection("all")), tmp_path / "out")
        assert len(server.seen) == before


def test_a_larger_limit_asks_again_only_for_what_was_cut(tmp_path: Path, data: Path) -> None:
    def plan(body: Body, time: int) -> Act:
        cut = body["max_tokens"] == 64 and number(body) == 7
        usage = {"prompt_tokens": 10, "completion_tokens": 64 if cut else 20}
        return Act(payload=completion(body, finish_reason="length" if cut else "stop", usage=usage))

    server = WireServer(plan)
    with server.running():
        short = make(recipe_of(tmp_path, server.url, 20))
        assert table(short)["truncated"].sum() == 1 and len(server.seen) == 20
        long = make(recipe_of(tmp_path, server.url, 20, triples={"max_tokens": 128}))
        assert table(long)["truncated"].sum() == 0 and len(server.seen) == 21


def test_the_whole_pipeline_runs_with_a_teacher_behind_an_endpoint(tmp_path: Path, data: Path) -> None:
    """The teacher is not measured, scores nothing and its FLOPs are unknown; the report says so."""

    def plan(body: Body, time: int) -> Act:
        return Act(payload=completion(body, f"It is {number(body)}.\nAnswer: {number(body)}"))

    server = WireServer(plan)
    lines = [
        f'{{"question": "Question {n}?", "gold_answer": "{n}", "split": "{"train" if n < 20 else "test"}"}}\n'
        for n in range(24)
    ]
    (tmp_path / "mixed.jsonl").write_text("".join(lines))
    small = {"steps": 2, "batch": 4, "warmup": 0, "evaluate_every": 2, "evaluate_questions": 4}
    with server.running():
        recipe = recipe_of(
            tmp_path,
            server.url,
            1,
            questions={"path": str(tmp_path / "mixed.jsonl")},
            sft=small,
            evaluation={"splits": ["test"], "decodings": ["greedy"], "max_tokens": 8},
            runtime={"threads": 1},
        )
        made = run_stages(recipe)
    assert len(server.seen) == 20
    assert made["triples"].manifest.named_metrics["pass_rate"] == 1.0
    scores = made["evaluation"].manifest.metrics
    assert isinstance(scores, list) and [row["student"] for row in scores] == ["base", "sft", "opd"]
    [entry] = made["triples"].manifest.ledger
    assert (entry["tokens"], entry["flops"]) == (20 * 20, 0)
    page = (made["report"].path / "index.html").read_text()
    assert "the teacher wrote 400 tokens at its endpoint" in page
    assert "FLOPs of the teacher behind its endpoint are unknown" in (made["report"].path / "report.md").read_text()
