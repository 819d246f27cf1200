"""The rows of the page of all runs, of records and manifests on a disk: right, small, and each file read once."""

import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.core.statistics import Interval
from cohobate.report import runs as page
from cohobate.report.run_rows import RunRow, gather, newest_first
from cohobate.store import runs
from cohobate.store.manifest import MANIFEST, Manifest, Score, read_manifest, write_manifest
from tests.support.made_triples import sample, triples
from tests.support.opened_files import watching
from tests.support.runs_page import unpacked_page

RUNS = 100


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A data folder of runs with a triples artifact and an evaluation each; their manifests are of 30 kB and more."""
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(folder))
        recipe = Recipe(name="made", description="long " * 6_000)
        made = triples(folder, [sample("What is 1 + 1?", "2")], recipe).manifest
        patch.setattr(os, "fsync", lambda _: None)
        for at in range(RUNS):
            ledger = [{"flops": 10**15 + at}, {"flops": at}]
            names = [
                _store(folder, made, "triples", at, {"metrics": {"cost_usd": at / 8}, "ledger": ledger}),
                _store(folder, made, "evaluation", at, {"metrics": _scores(at), "ledger": ledger}),
            ]
            began = f"2026-01-01T{at // 60:02d}:{at % 60:02d}:00+00:00"
            record = runs.RunRecord(
                id=f"run-{at:04d}", recipe=recipe.model_dump(mode="json"), until="report", pid=1, host="elsewhere",
                started_at=began, artifacts=names, status="done",
            )  # fmt: skip
            record.save()
        yield folder


def _store(folder: Path, made: Manifest, stage: str, at: int, values: dict[str, Any]) -> str:
    name = f"{stage}/made-{at:08x}"
    (folder / name).mkdir(parents=True)
    write_manifest(folder / name, made.model_copy(update={"id": name, "stage": stage, **values}))
    return name


def _scores(at: int) -> list[dict[str, Any]]:
    means = {"base": 0.1, "sft": 0.25, "opd": 0.25 + at / 1000, "teacher": 0.75}
    return [
        Score(name, "embedded", "test", "greedy", 0, 9, Interval(mean, mean, mean)).as_row()
        for name, mean in means.items()
    ]


def test_the_rows_are_right_and_the_newest_is_first() -> None:
    rows = list(gather(newest_first()))
    assert [row.id for row in rows] == [f"run-{at:04d}" for at in reversed(range(RUNS))]
    for at, row in enumerate(reversed(rows)):
        assert (row.recipe, row.status, row.teacher) == ("made", "done", 0.75)
        assert (row.flops, row.cost_usd) == (2 * (10**15 + 2 * at), at / 8)
        assert row.accuracy == pytest.approx(0.25 + at / 1000) and row.gap_closed == pytest.approx(at / 500)


def test_of_a_run_a_few_kilobytes_are_held_and_no_file_is_read_twice(root: Path) -> None:
    for path in [*root.glob("*/*/manifest.json"), *root.glob("runs/*.json")]:
        os.utime(path, (1, 1))  # every file has changed
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        rows = list(gather(newest_first()))
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print((after - before) / RUNS, (most - before) / RUNS)
    assert len(rows) == RUNS and (most - before) / RUNS < 8_000

    opened: list[str] = []
    with watching(lambda path: opened.append(path) if path.endswith(".json") else None):
        assert list(gather(newest_first())) == rows and opened == []
        changed = random.Random(0).choice(list(root.glob("runs/*.json")))
        runs.read_record(changed).model_copy(update={"status": "failed"}).save()
        opened.clear()
        statuses = {row.id: row.status for row in gather(newest_first())}
    assert opened == [str(changed)] and statuses.pop(changed.stem) == "failed" and set(statuses.values()) == {"done"}


@pytest.mark.parametrize("values", [{"ledger": [{"tokens": 1}]}, {"metrics": [{"student": "sft"}]}, None])
def test_a_manifest_that_cannot_be_read_is_passed_over_and_read_again_when_it_is_mended(
    root: Path, values: dict[str, Any] | None
) -> None:
    folder = root / "evaluation" / "made-00000003"
    whole, made = (folder / MANIFEST).read_bytes(), read_manifest(folder)

    def row() -> RunRow:
        return next(row for row in gather(newest_first()) if row.id == "run-0003")

    before = row()
    if values is None:
        (folder / MANIFEST).write_bytes(whole[:-9])
    else:
        write_manifest(folder, made.model_copy(update=values))
    assert row().accuracy is None and row().cost_usd == before.cost_usd
    (folder / MANIFEST).write_bytes(whole)
    assert row() == before


def test_the_page_says_that_older_runs_are_left_out(root: Path) -> None:
    page.write_page(list(gather(newest_first()[:5])), page.page_path(), older=RUNS - 5)
    assert (
        "5 runs" in page.page_path().read_text()
        and f"{RUNS - 5} older ones are not shown" in page.page_path().read_text()
    )
    path, count = page.write_all(detailed=0)
    assert count == RUNS and "not shown" not in path.read_text()


def test_a_run_that_begins_while_the_page_is_written_is_on_the_next_page(root: Path) -> None:
    begun: list[runs.RunRecord] = []

    def begin(path: str) -> None:
        if "/.runs.html." in path and not begun:
            begun.append(runs.begin(Recipe(name="meanwhile"), "report"))

    with watching(begin):
        path, _ = page.write_all(detailed=0)
    assert "meanwhile" not in unpacked_page(path)["recipe"]
    page.refresh()
    assert unpacked_page(path)["recipe"][0] == "meanwhile"
    begun[0].path.unlink()
