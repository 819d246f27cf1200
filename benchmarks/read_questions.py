"""Time and memory of reading questions from JSONL, CSV and Parquet: `python -m benchmarks.read_questions [ROWS]`.

For each format a process of its own runs the questions stage: seconds, and its peak of memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.memory import resident
from cohobate.config import Recipe
from cohobate.stages import questions


def write(folder: Path, rows: int) -> list[Path]:
    """The same questions in three formats: 200 characters each, with a gold answer, an id and two more columns."""
    number = pl.int_range(rows, eager=True)
    words = pl.Series(["a train leaves the station with its passengers and meets another one on its way " * 2])
    frame = pl.DataFrame(
        {
            "id": "q" + number.cast(pl.String),
            "question": words.new_from_index(0, rows) + "number " + number.cast(pl.String) + "?",
            "gold_answer": "by adding #### " + (number * 7).cast(pl.String),
            "topic": pl.Series(["sums"]).new_from_index(0, rows),
            "level": number % 5,
        }
    )
    paths = [folder / f"questions.{suffix}" for suffix in ("jsonl", "csv", "parquet")]
    frame.write_ndjson(paths[0])
    frame.write_csv(paths[1])
    frame.write_parquet(paths[2])
    return paths


def measure(path: Path) -> None:
    """Run the stage in this process, and print its seconds and memory."""
    settings = {"source": "file", "path": str(path), "columns": {"id": "id"}, "gold_after": "####"}
    began = time.perf_counter()
    artifact = questions.write(Recipe.model_validate({"questions": settings}))
    seconds = time.perf_counter() - began
    peak = resident("VmHWM") / 1e6  # of this program: the maximum that `resource` gives is inherited
    print(f"{path.suffix:<9}{artifact.manifest.rows:>10,} rows {seconds:7.1f} s {peak:7.0f} MB")


def main() -> None:
    """Measure all formats, one after the other; the hidden option is the process of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        measure(arguments.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in write(Path(folder), arguments.rows):
            environment = {**os.environ, "COHOBATE_DATA": f"{folder}/data"}
            command = [sys.executable, "-m", "benchmarks.read_questions", "--read", str(path)]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
