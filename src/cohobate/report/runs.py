"""The page of all runs: one row a run, to sort, to filter, to lay curves over each other, and to look inside.

data/pages/runs.html           the page, with every row
data/<stage>/pages/<name>.js   what it shows of an artifact (report.details), loaded when it is asked for
data/<stage>/pages/<name>.html all samples of an artifact (report.dataset), to which it links
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cohobate.core import progress
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.core.frequencies import counts
from cohobate.report import details
from cohobate.report.payload import packed, rounded
from cohobate.report.render import asset, environment
from cohobate.report.run_rows import RunRow, gather, is_name, newest_first
from cohobate.report.sample_rows import STAGES
from cohobate.store.artifacts import Artifact, data_root
from cohobate.store.manifest import MANIFEST, read_manifest

ROWS = 50_000  # runs on the page: the newest
RECIPES = 1_000  # in the menu: those with the most runs
DETAILED = 200  # runs, the newest first, whose details are written unless another number is asked for
_SAME = ("id", "recipe", "flow", "status", "error", "accuracy", "teacher", "gap_closed", "flops", "cost_usd")
_PAGE = "index.html"
_STALE = 300.0  # seconds after which a process that has died is looked for again
_TICK = 0.02  # seconds by which a file system's clock may be behind
# What is known of an artifact, as bits of a number: it is stored, its details are written, a page of its samples is
# written, it is a page itself, it has samples.
_STORED, _DETAILED, _SAMPLED, _IS_PAGE, _HAS_SAMPLES = 1, 2, 4, 8, 16


def page_path() -> Path:
    """Where the page stands."""
    return data_root() / "pages" / "runs.html"


def write_all(detailed: int = DETAILED) -> tuple[Path, int]:
    """Write the page of all runs of the data folder, and the details of the newest; returns its path and their number.

    Raises StoreError where a file cannot be written. What is damaged is reported, and passed over.
    """
    as_of, records = time.time(), newest_first()
    rows = []
    with progress.bar("runs", len(records[:ROWS]), "runs") as bar:
        for row in gather(records[:ROWS]):
            rows.append(row)
            bar.advance()
    names = list(dict.fromkeys(name for row in rows[:detailed] for name in row.artifacts))
    with progress.bar("details", len(names), "artifacts") as bar:
        for name in names:
            _write_details_once(name)
            bar.advance()
    path = page_path()
    write_page(rows, path, older=len(records) - len(rows), as_of=as_of)
    return path, len(rows)


def refresh() -> None:
    """Write the page again where runs have begun or ended since, or it is minutes old; no details.

    One thread at a time may do so.
    """
    path, folder, as_of = page_path(), data_root() / "runs", time.time()
    changed = folder.stat().st_mtime if folder.is_dir() else 0.0
    written = path.stat().st_mtime if path.is_file() else -1.0
    if written <= changed or as_of - written > _STALE:
        records = newest_first()
        rows = list(gather(records[:ROWS]))
        write_page(rows, path, older=len(records) - len(rows), as_of=as_of)


def _write_details_once(name: str) -> None:
    artifact = stored(name)
    if artifact and not details.details_path(artifact).is_file():
        try:
            details.write_details(artifact)
        except DamagedFileError as error:
            progress.say(str(error))


def stored(name: str) -> Artifact | None:
    """The artifact `<stage>/<name>` of the data folder; None where there is none, or it cannot be read."""
    try:
        manifest = read_manifest(data_root() / name) if is_name(name) else None
    except DamagedFileError:
        return None
    return Artifact(manifest.id, manifest.stage, data_root() / name, manifest.fingerprint) if manifest else None


def write_page(rows: Sequence[RunRow], path: Path, *, older: int = 0, as_of: float | None = None) -> None:
    """Write the page of `rows`; raises StoreError where it cannot be written.

    older: runs that it leaves out. as_of: seconds since 1970 before which the rows were read, the time of the file.
    """
    script = asset("list.js") + asset("charts.js") + asset("runs.js")
    page = (
        environment()
        .get_template("runs.html.j2")
        .stream(
            runs=len(rows),
            older=older,
            recipes=_menu(row.recipe for row in rows),
            statuses=_menu(row.status for row in rows),
            packed=packed(_columns(rows)),
            style=Markup(asset("base.css") + asset("dataset.css") + asset("runs.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(page)
            file.flush()
            if as_of is not None:
                os.utime(temporary, (as_of - _TICK, as_of - _TICK))
    except OSError as error:
        raise StoreError(f"the page {path} cannot be written: {error.strerror}") from None


def _menu(values: Iterable[str]) -> list[tuple[str, int]]:
    import polars as pl

    return list(counts(pl.Series(list(values), dtype=pl.String)).items())[:RECIPES]


def _columns(rows: Sequence[RunRow]) -> dict[str, Any]:
    """The columns of the page; a run's artifacts are indices of `names`, each with what is known of it in `known`."""
    names = list(dict.fromkeys(name for row in rows for name in row.artifacts))
    place = {name: at for at, name in enumerate(names)}
    columns: dict[str, Any] = {name: [rounded(getattr(row, name)) for row in rows] for name in _SAME}
    columns["started"] = [None if row.started is None else round(row.started) for row in rows]
    columns["seconds"] = [None if row.seconds is None else round(row.seconds, 1) for row in rows]
    columns["artifacts"] = [[place[name] for name in row.artifacts] for row in rows]
    return {**columns, "names": names, "known": _known(names)}


def _known(names: Sequence[str]) -> list[int]:
    """What is known of each artifact, from the names of files alone."""
    root = data_root()

    def there(pattern: str) -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.glob(pattern)}

    manifests, pages = there(f"*/*/{MANIFEST}"), there(f"*/*/{_PAGE}")
    written = there("*/pages/*.js") | there("*/pages/*.html")
    states = []
    for name in names:
        stage, _, folder = name.partition("/")
        bits = {
            _STORED: f"{name}/{MANIFEST}" in manifests,
            _DETAILED: f"{stage}/pages/{folder}.js" in written,
            _SAMPLED: f"{stage}/pages/{folder}.html" in written,
            _IS_PAGE: f"{name}/{_PAGE}" in pages,
            _HAS_SAMPLES: stage in STAGES,
        }
        states.append(sum(bit for bit, is_so in bits.items() if is_so))
    return states
