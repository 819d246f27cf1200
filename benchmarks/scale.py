"""Time and memory of each step of curation and export, and of the triples stage, with a million triples.

    python -m benchmarks.scale [--rows 1000000] [--folder F] [--datatrove PYTHON]

Synthetic triples (benchmarks/synthetic_triples.py), one per question, which is the hardest case for finding duplicates.
Every step is a process of its own. `look-up` finds all keys in a store of as many responses, `triples` is the whole
stage over stored responses, from the questions to the manifest, and `again` the same once more. `mix` draws two sources
at 70 to 30 from the output of `curate`. With --datatrove, its MinHash runs over the same questions. --folder keeps the
triples for the next time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import synthetic_triples
from benchmarks.process_usage import measure

_STEPS = ("curate", "select", "export messages", "export parquet", "mix", "look-up", "read", "triples", "again")
_HERE = Path(__file__).parent


def _triples(root: Path, *, curated: bool = False) -> Any:
    from cohobate.store.artifacts import Store

    return next(a for a in Store(root).all() if a.stage == "triples" and ("curated" in a.id) == curated)


def _curate(root: Path) -> Any:
    from cohobate.stages.curation import curate, settings

    return curate(_triples(root), settings(ngrams=[8, 13])).manifest.metrics


def _mix(root: Path) -> Any:
    from cohobate.stages.curation import curate, settings

    parts = [{"weight": 70, "source": "made"}, {"weight": 30, "source": "other"}]
    only = settings(ngrams=[], duplicates=False, near_duplicates=0, mix={"parts": parts})
    return curate(_triples(root, curated=True), only).manifest.metrics


def _select(root: Path) -> Any:
    from cohobate.datasets.selection import Selection, choose, outline

    samples = outline(_triples(root).path)
    return [len(choose(samples, Selection(policy))) for policy in ("all", "correct", "shortest_correct")]


def _export(root: Path, form: str) -> Any:
    from cohobate.datasets.export.export import Request, export
    from cohobate.datasets.selection import Selection

    out = root / "out" / form
    return export(_triples(root, curated=True), Request(form, Selection("correct")), out, force=True).written.rows


def _fill(root: Path, rows: int) -> None:
    """Stored responses to all requests of the recipe."""
    from cohobate.datasets.triples import Requests
    from cohobate.teachers.base import Response, teacher_fingerprint

    recipe, frame = _recipe(root, rows)
    keys = Requests(recipe, frame, teacher_fingerprint(recipe.teacher)).keys()
    texts = synthetic_triples.Texts(1)
    with _responses(root).writer(paid_by="benchmark", max_tokens=512, engine_version="none") as writer:
        for start in range(0, rows, 1000):
            thoughts = texts.many(len(keys[start : start + 1000]), 50, 150)
            pairs = zip(keys[start : start + 1000], thoughts, strict=True)
            writer.append([Response(k, f"{' '.join(t)}\nAnswer: 1", None, "stop", 60, 200, 1.0) for k, t in pairs])


def _recipe(root: Path, rows: int) -> Any:
    """A recipe for an endpoint without a server, and its training questions."""
    import polars as pl

    from cohobate.config import Recipe
    from cohobate.stages import questions

    root.mkdir(parents=True, exist_ok=True)
    path = root / f"questions-{rows}.parquet"
    if not path.exists():
        texts = [f"{' '.join(words)} {n}?" for n, words in enumerate(synthetic_triples.Texts(2).many(rows, 25, 60))]
        pl.DataFrame({"question": texts, "gold_answer": ["1"] * rows, "split": ["train"] * rows}).write_parquet(path)
    recipe = Recipe.model_validate(
        {
            "questions": {"source": "file", "path": str(path)},
            "teacher": {"kind": "endpoint", "model": "m", "base_url": "http://127.0.0.1:9/v1"},
            "triples": {"max_tokens": 512},
            "opd": {"steps": 0},
        }
    )
    artifact = questions.write(recipe)
    return recipe, pl.read_parquet(artifact.path / "questions.parquet")


def _responses(root: Path) -> Any:
    from cohobate.teachers.response_store import ResponseStore

    return ResponseStore(root / "responses")


def _look_up(root: Path, rows: int, *, read: bool) -> Any:
    from cohobate.datasets.triples import PIECE, Requests
    from cohobate.teachers.base import teacher_fingerprint

    recipe, frame = _recipe(root, rows)
    keys = Requests(recipe, frame, teacher_fingerprint(recipe.teacher)).keys()
    began = time.perf_counter()
    responses = _responses(root).locate(keys, 512)
    count = len(responses)
    if read:
        count = sum(len(responses.read(start, PIECE)) for start in range(0, rows, PIECE))
    return f"{count} found in {time.perf_counter() - began:.2f} s, apart from the making of the keys"


def _stage(root: Path, rows: int) -> Any:
    from cohobate.stages import questions, triples

    recipe, _ = _recipe(root, rows)
    return triples.write(recipe, questions.write(recipe)).manifest.rows


def _step(name: str, root: Path, rows: int) -> Any:
    os.environ["COHOBATE_DATA"] = str(root / "asked")
    if name == "make":
        synthetic_triples.triples(root, rows)
        _fill(root / "asked", rows)
        return None
    steps: dict[str, Any] = {
        "curate": lambda: _curate(root),
        "select": lambda: _select(root),
        "mix": lambda: _mix(root),
        "look-up": lambda: _look_up(root / "asked", rows, read=False),
        "read": lambda: _look_up(root / "asked", rows, read=True),
        "triples": lambda: _stage(root / "asked", rows),
        "again": lambda: _stage(root / "asked", rows),
    }
    return steps[name]() if name in steps else _export(root, name.removeprefix("export "))


def _measure(arguments: argparse.Namespace, root: Path) -> None:
    own = [sys.executable, "-m", "benchmarks.scale", f"--rows={arguments.rows}", f"--folder={root}"]
    if not (root / "made").exists():
        measure([*own, "--step", "make"])
        (root / "made").touch()
    for again in (*root.glob("triples/*.curated-*"), *root.glob("asked/triples"), *root.glob("out")):
        shutil.rmtree(again)
    per_million = 1e6 / arguments.rows
    for name in arguments.steps or _STEPS:
        used = measure([*own, "--step", name])
        last_line = used.output.strip().splitlines()[-1] if used.output.strip() else ""
        print(
            f"{name:<17} {used.seconds:7.1f} s  {used.cpu:7.1f} s CPU  {used.cpu * per_million:7.1f} s CPU a million  "
            f"{used.megabytes:6.0f} MB  {last_line}",
            flush=True,
        )
    if arguments.datatrove:
        [rows] = root.glob("triples/made-*/triples.parquet")
        with tempfile.TemporaryDirectory() as folder:
            program = [arguments.datatrove, str(_HERE / "other_tools.py"), "minhash"]
            command = [*program, "--rows", str(rows), "--folder", folder]
            used = measure(command, {k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        print(
            f"{'datatrove minhash':<17} {used.seconds:7.1f} s  {used.cpu:7.1f} s CPU  "
            f"{used.cpu * per_million:7.1f} s CPU a million  {used.megabytes:6.0f} MB  "
            f"{used.output.strip().splitlines()[-1]}"
        )


def main() -> None:
    """Measure the steps; the hidden option is one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(_STEPS)}; none: all")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--datatrove", metavar="PYTHON")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(_step(arguments.step, arguments.folder, arguments.rows))
        return
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        _measure(arguments, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        _measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
