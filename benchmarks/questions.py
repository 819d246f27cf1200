"""Read questions: `python benchmarks/questions.py [ROWS]`, default 1,000,000, as JSONL, CSV and Parquet.

For each format, a process of its own runs the questions stage on them: seconds, and its peak of memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

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
    """Run the stage in this process and print what it took."""
    settings = {"source": "file", "path": str(path), "columns": {"id": "id"}, "gold_after": "####"}
    began = time.perf_counter()
    made = questions.write(Recipe.model_validate({"questions": settings}))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{path.suffix:<9}{made.manifest.rows:>10,} rows {seconds:7.1f} s {peak:7.0f} MB")


def main(rows: int) -> None:
    """All formats, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for path in write(Path(folder), rows):
            environment = {**os.environ, "COHOBATE_DATA": f"{folder}/data"}
            subprocess.run([sys.executable, __file__, "--read", str(path)], env=environment, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        measure(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
