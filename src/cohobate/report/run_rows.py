"""The rows of the page of all runs, made of run records and of manifests.

Both are large, since each holds a whole recipe. Only what a row shows is kept of them, and between two pages: a file is
read again where it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from cohobate.core import progress
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.core.sanitize import without_secrets
from cohobate.report.facts import headline
from cohobate.store import runs
from cohobate.store.artifacts import data_root
from cohobate.store.folders import is_artifact
from cohobate.store.manifest import MANIFEST, Manifest, read_manifest
from cohobate.store.runs import RunRecord

T = TypeVar("T")
_ERROR = 300  # characters


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


@dataclass(frozen=True, slots=True)
class _Part:
    """What the artifacts of a run add to its row; the last three are of an evaluation."""

    stage: str
    flops: float
    cost_usd: float | None
    accuracy: float | None = None
    teacher: float | None = None
    gap_closed: float | None = None


class _Summaries(Generic[T]):
    """What `summarize` makes of a file, kept until the file is another; one thread at a time."""

    def __init__(self, summarize: Callable[[Path], T]) -> None:
        self._summarize = summarize
        self._by_path: dict[str, tuple[tuple[int, int, int], T]] = {}

    def of(self, path: Path) -> T | None:
        """None where there is no file. Raises DamagedFileError, as `summarize` does."""
        try:
            status = path.stat()
        except (OSError, ValueError):  # the name comes from a record, and may be none
            return None
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        before = self._by_path.get(str(path))
        if before and before[0] == state:
            return before[1]
        summary = self._summarize(path)
        self._by_path[str(path)] = state, summary
        return summary

    def forget_others(self, paths: Iterable[Path]) -> None:
        """Keep those of `paths` alone."""
        self._by_path = {str(path): self._by_path[str(path)] for path in paths if str(path) in self._by_path}


def newest_first() -> list[RunRecord]:
    """All records that can be read, of their recipes the names alone; the others are reported."""
    paths, records = runs.record_paths(), []
    for path in paths:
        try:
            record = _RECORDS.of(path)
        except DamagedFileError as error:
            progress.say(f"{error}; the run is passed over, and what it made is still there")
            continue
        if record:
            records.append(record)
    _RECORDS.forget_others(paths)
    return sorted(records, key=lambda record: record.started_at)[::-1]


def gather(records: Sequence[RunRecord]) -> Iterator[RunRow]:
    """The rows of `records`, in their order; a manifest that is damaged is passed over."""
    parts: dict[str, _Part | None] = {}
    for record in records:
        for name in record.artifacts:
            if name not in parts:
                parts[name] = _part(name)
        yield _row(record, [each for name in record.artifacts if (each := parts[name])])
    _PARTS.forget_others(data_root() / name / MANIFEST for name, part in parts.items() if part)


def is_name(name: str) -> bool:
    """Whether a text is `<stage>/<name>` of an artifact."""
    path = Path(name)
    return len(path.parts) == 2 and ".." not in path.parts and not path.is_absolute() and is_artifact(path)


def _part(name: str) -> _Part | None:
    try:
        return _PARTS.of(data_root() / name / MANIFEST) if is_name(name) else None
    except DamagedFileError:
        return None


def _row(record: RunRecord, parts: Sequence[_Part]) -> RunRow:
    started, ended = _moment(record.started_at), _moment(record.finished_at)
    is_lost = record.status == "running" and runs.is_on_this_machine(record) and not runs.is_alive(record)
    dollars = [part.cost_usd for part in parts if part.cost_usd is not None]
    # An experiment has several evaluations, and its own page.
    evaluations = [part for part in parts if part.stage == "evaluation"]
    shown = evaluations[0] if len(evaluations) == 1 else None
    return RunRow(
        id=record.id,
        recipe=record.recipe["name"],
        flow=record.flow,
        status="killed" if is_lost else record.status,
        started=started,
        seconds=None if started is None or ended is None else ended - started,
        error=record.error,
        accuracy=shown.accuracy if shown else None,
        teacher=shown.teacher if shown else None,
        gap_closed=shown.gap_closed if shown else None,
        flops=sum(part.flops for part in parts) if parts else None,
        cost_usd=sum(dollars) if dollars else None,
        artifacts=tuple(record.artifacts),
    )


def _moment(text: str | None) -> float | None:
    """Seconds since 1970 of a time in ISO 8601."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _short_record(path: Path) -> RunRecord:
    record = runs.read_record(path)
    error = without_secrets(record.error)[:_ERROR] if record.error else None
    return record.model_copy(update={"recipe": {"name": record.recipe["name"]}, "error": error})


def _summary(path: Path) -> _Part:
    manifest = read_manifest(path.parent)
    try:
        flops = sum(entry["flops"] for entry in manifest.ledger)
        cost = manifest.named_metrics.get("cost_usd") if manifest.stage == "triples" else None
        results = _results(manifest) if manifest.stage == "evaluation" else {}
    except (KeyError, TypeError, ValueError, StoreError):
        raise DamagedFileError(f"{path} holds no measurements of its stage") from None
    return _Part(manifest.stage, flops, cost if isinstance(cost, int | float) else None, **results)


def _results(evaluation: Manifest) -> dict[str, float | None]:
    """{accuracy, teacher, gap_closed}."""
    shown = headline(evaluation.scores)
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


_RECORDS, _PARTS = _Summaries(_short_record), _Summaries(_summary)
