"""The rollout log: what each step sampled and what the teacher said to it, persisted before the update.

While a run lasts, a Parquet file a step, written whole or not at all; at its end one file with a row group a step.
A replay reads here instead of sampling and scoring again. Until a step is scored whole, its rollouts lie here without
scores, a file a process, so that none is sampled twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.core.atomic_files import replacing, write_parquet_atomic
from cohobate.core.schema import ROLLOUTS


class RolloutLog:
    """The steps logged in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, step: int) -> list[dict[str, Any]] | None:
        """The rows of `step` (columns of schema.ROLLOUTS), or None if it was never finished."""
        path = self._path(step)
        return pq.read_table(path).to_pylist() if path.exists() else None

    def append(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Persist the rows of `step`; it is there whole when this returns."""
        write_parquet_atomic(pa.Table.from_pylist(rows, schema=ROLLOUTS.arrow), self._path(step))
        for path in self._unscored(step):
            path.unlink(missing_ok=True)

    def hold(self, step: int, rank: int, rows: list[dict[str, Any]]) -> None:
        """Persist the rows of `step` that process `rank` has sampled, before they are scored."""
        write_parquet_atomic(
            pa.Table.from_pylist(rows, schema=ROLLOUTS.arrow), self.folder / f"held-{step:06d}-{rank}.parquet"
        )

    def held(self, step: int) -> dict[int, dict[str, Any]]:
        """The rows of `step` that were held, by whichever process, by their numbers."""
        return {row["row"]: row for path in self._unscored(step) for row in pq.read_table(path).to_pylist()}

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
