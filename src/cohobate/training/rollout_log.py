"""The rollout log: the rollouts of each step with the teacher's log-probabilities, persisted before the update.

While a run lasts, the log is one Parquet file per step, written whole or not at all. At the end it becomes one file
with one row group per step. A replay reads the rollouts here instead of sampling again; the teacher's columns are for
the readers of the log, and a replay takes its scores from the scorer. Until a step is scored completely, its rollouts
lie here without scores, one file per process, so that none is sampled twice. A file that was altered is moved aside,
and counts as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.core.atomic_files import replacing
from cohobate.core.schema import ROLLOUTS
from cohobate.core.sealed_files import is_whole, remove, write_parquet_sealed
from cohobate.training.types import Rollout, ScoredRollout

_SAMPLED = [field.name for field in fields(Rollout)]


class RolloutLog:
    """The steps logged in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, step: int) -> list[Rollout] | None:
        """The rollouts of `step`, or None if the step was never completed."""
        return _rollouts(self._path(step)) if self.holds(step) else None

    def holds(self, step: int) -> bool:
        """Whether the rollouts of `step` are there as they were written."""
        return is_whole(self._path(step))

    def append(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        """Persist the rollouts of `step`; they are on disk when this returns."""
        _write([_row(item) for item in rollouts], self._path(step))
        for path in self._unscored(step):
            remove(path)

    def append_unscored(self, step: int, rank: int, rollouts: Sequence[Rollout]) -> None:
        """Persist the rollouts of `step` that process `rank` has sampled, before they are scored."""
        _write([vars(item) for item in rollouts], self.folder / f"held-{step:06d}-{rank}.parquet")

    def read_unscored(self, step: int) -> dict[int, Rollout]:
        """The rollouts of `step` that any process has sampled but not scored, by their rows."""
        return {item.row: item for path in self._unscored(step) if is_whole(path) for item in _rollouts(path)}

    def publish(self, path: Path) -> int:
        """Write every step as a row group of `path`; returns the number of rows."""
        rows = 0
        with (
            replacing(path) as temporary,
            pq.ParquetWriter(temporary, ROLLOUTS.arrow, compression="zstd") as writer,
        ):
            for part in sorted(self.folder.glob("step-*.parquet")):
                table = pq.read_table(part, schema=ROLLOUTS.arrow)
                writer.write_table(table, row_group_size=max(1, len(table)))
                rows += len(table)
        return rows

    def _unscored(self, step: int) -> list[Path]:
        return sorted(self.folder.glob(f"held-{step:06d}-*.parquet"))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.parquet"


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """`rows` as a Parquet file of the columns of schema.ROLLOUTS; a column that they lack is null."""
    write_parquet_sealed(pa.Table.from_pylist(rows, schema=ROLLOUTS.arrow), path)


def _row(scored: ScoredRollout) -> dict[str, Any]:
    teacher = scored.teacher
    return {
        **vars(scored.rollout),
        "teacher_prompt_tokens": scored.teacher_prompt_tokens,
        "teacher_logprobs": None if teacher is None else teacher.logprobs.tolist(),
        "teacher_spans": None if teacher is None or teacher.spans is None else teacher.spans.tolist(),
    }


def _rollouts(path: Path) -> list[Rollout]:
    # With the schema, since an earlier version did not write every column.
    return [Rollout(**row) for row in pq.read_table(path, columns=_SAMPLED, schema=ROLLOUTS.arrow).to_pylist()]
