"""The page of all runs: one row a run, to sort, to filter, to lay curves over each other, and to look inside.

data/pages/runs.html           the page, with every row
data/<stage>/pages/<name>.js   what it shows of an artifact (report.details), loaded when it is asked for
data/<stage>/pages/<name>.html all samples of an artifact (report.dataset), to which it links
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cohobate.core import progress
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.core.frequencies import counts
from cohobate.core.sanitize import without_secrets
from cohobate.report import details
from cohobate.report.facts import headline
from cohobate.report.payload import packed, rounded
from cohobate.report.render import asset, environment
from cohobate.report.sample_rows import STAGES
from cohobate.store.artifacts import Artifact, data_root
from cohobate.store.folders import is_artifact
from cohobate.store.manifest import MANIFEST, Manifest, read_manifest
from cohobate.store.runs import RunRecord, all_records, is_alive, is_on_this_machine

ROWS = 50_000  # runs on the page: the newest
RECIPES = 1_000  # in the menu: those with the most runs
DETAILED = 200  # runs, the newest first, whose details are written unless another number is asked for
_ERROR = 300  # characters
_SAME = ("id", "recipe", "flow", "status", "error", "accuracy", "teacher", "gap_closed", "flops", "cost_usd")
_PAGE = "index.html"
_STALE = 300.0  # seconds after which a process that has died is looked for again
# What is known of an artifact, as bits of a number: it is stored, its details are written, a page of its samples is
# written, it is a page itself, it has samples.
_STORED, _DETAILED, _SAMPLED, _IS_PAGE, _HAS_SAMPLES = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class RunRow:
    """One run. accuracy is that of the last student on the first split, greedily; flops are those of all its models.

    started is seconds since 1970, seconds how long it took; None where a value is not known.
    """

    id: str
    recipe: str
    flow: str
    status: str
    started: float | None
    seconds: float | None = None
    error: str | None = None
    accuracy: float | None = None
    teacher: float | None = None
    gap_closed: float | None = None
    flops: float | None = None
    cost_usd: float | None = None
    artifacts: Sequence[str] = ()


def page_path() -> Path:
    """Where the page stands."""
    return data_root() / "pages" / "runs.html"


def write_all(detailed: int = DETAILED) -> tuple[Path, int]:
    """Write the page of all runs of the data folder, and the details of the newest; returns its path and their number.

    Raises StoreError where a file cannot be written. What is damaged is reported, and passed over.
    """
    records = all_records()
    rows = []
    with progress.bar("runs", len(records), "runs") as bar:
        for row in gather(records):
            rows.append(row)
            bar.advance()
    names = list(dict.fromkeys(name for row in rows[:detailed] for name in row.artifacts))
    with progress.bar("details", len(names), "artifacts") as bar:
        for name in names:
            _write_details_once(name)
            bar.advance()
    path = page_path()
    write_page(rows, path)
    return path, len(rows)


def refresh() -> None:
    """Write the page again where runs have begun or ended since, or it is minutes old; no details."""
    path, folder = page_path(), data_root() / "runs"
    changed = folder.stat().st_mtime if folder.is_dir() else 0.0
    written = path.stat().st_mtime if path.is_file() else -1.0
    if written <= changed or time.time() - written > _STALE:
        write_page(list(gather(all_records())), path)


def _write_details_once(name: str) -> None:
    artifact = stored(name)
    if artifact and not details.details_path(artifact).is_file():
        try:
            details.write_details(artifact)
        except DamagedFileError as error:
            progress.say(str(error))


def stored(name: str) -> Artifact | None:
    """The artifact `<stage>/<name>` of the data folder; None where there is none, or it cannot be read."""
    manifest = _manifest(name)
    return Artifact(manifest.id, manifest.stage, data_root() / name, manifest.fingerprint) if manifest else None


def _manifest(name: str) -> Manifest | None:
    """The manifest of the artifact `<stage>/<name>`, which may be any text; None where there is none."""
    path = data_root() / name
    if len(Path(name).parts) != 2 or ".." in Path(name).parts or Path(name).is_absolute() or not is_artifact(path):
        return None
    try:
        return read_manifest(path)
    except DamagedFileError:
        return None


def gather(records: Sequence[RunRecord]) -> Iterator[RunRow]:
    """The rows of `records`, which are sorted by time, the newest first."""
    manifests: dict[str, Manifest | None] = {}
    for record in reversed(records[-ROWS:]):
        for name in record.artifacts:
            if name not in manifests:
                manifests[name] = _manifest(name)
        yield _row(record, [each for name in record.artifacts if (each := manifests[name])])


def _row(record: RunRecord, manifests: Sequence[Manifest]) -> RunRow:
    started, ended = _moment(record.started_at), _moment(record.finished_at)
    is_lost = record.status == "running" and is_on_this_machine(record) and not is_alive(record)
    costs = [each.named_metrics.get("cost_usd") for each in manifests if each.stage == "triples"]
    dollars = [cost for cost in costs if isinstance(cost, int | float)]
    return RunRow(
        id=record.id,
        recipe=record.recipe["name"],
        flow=record.flow,
        status="killed" if is_lost else record.status,
        started=started,
        seconds=None if started is None or ended is None else ended - started,
        error=without_secrets(record.error)[:_ERROR] if record.error else None,
        flops=sum(entry["flops"] for each in manifests for entry in each.ledger) if manifests else None,
        cost_usd=sum(dollars) if dollars else None,
        artifacts=tuple(record.artifacts),
        **_results(manifests),
    )


def _moment(text: str | None) -> float | None:
    """Seconds since 1970 of a time in ISO 8601."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _results(manifests: Sequence[Manifest]) -> dict[str, float | None]:
    """{accuracy, teacher, gap_closed} of a run with one evaluation; an experiment has several, and its own page."""
    evaluations = [each for each in manifests if each.stage == "evaluation"]
    shown = headline(evaluations[0].scores) if len(evaluations) == 1 else None
    if shown is None:
        return {}
    students = shown["students"]
    last = next((students[name] for name in ("opd", "sft", "base") if name in students), None)
    teacher = students.get("teacher")
    return {
        "accuracy": last["accuracy"] if last else None,
        "teacher": teacher["accuracy"] if teacher else None,
        "gap_closed": shown["gap_closed"],
    }


def write_page(rows: Sequence[RunRow], path: Path) -> None:
    """Write the page of `rows`; raises StoreError where it cannot be written."""
    script = asset("list.js") + asset("charts.js") + asset("runs.js")
    page = (
        environment()
        .get_template("runs.html.j2")
        .stream(
            runs=len(rows),
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
