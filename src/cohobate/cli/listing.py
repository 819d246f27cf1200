"""Artifacts as people and scripts read them: `cohobate ls` and `cohobate show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cohobate.core.errors import DamagedArtifactError
from cohobate.core.formatting import percent_interval, size
from cohobate.core.statistics import Interval
from cohobate.report.console import print_metrics
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Store, verify

# Of a training stage, the columns of points.parquet worth a line.
_POINTS = ["step", "n", "accuracy", "low", "high"]
_FIRST_ROWS = 3


def artifact_rows() -> list[dict[str, Any]]:
    """{id, stage, recipe, fingerprint, path, rows, bytes, created_at, status, promoted} of each artifact, oldest first.

    status: done, damaged, or building (begun and not finished; it has no fingerprint in full yet). promoted: whether
    it is the promoted one of its recipe.
    """
    store = Store()
    marks = {mark for pointer in promotion.all_promotions() for mark in pointer.fingerprints.values()}
    rows = [{**_row(artifact), "promoted": artifact.fingerprint in marks} for artifact in store.all()]
    for path in store.partial():
        recipe, _, short = path.stem.rpartition("-")
        rows.append(
            {
                "id": f"{path.parent.name}/{path.stem}",
                "stage": path.parent.name,
                "recipe": recipe,
                "fingerprint": short,
                "path": str(path),
                "rows": None,
                "bytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
                "created_at": None,
                "status": "building",
                "promoted": False,
            }
        )
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The rows as a table for people."""
    if not rows:
        Console().print("no artifacts yet; start with: cohobate run tiny")
        return
    table = Table("id", "rows", "size", "created (UTC)", "status", box=None, header_style="bold")
    for row in rows:
        created = (row["created_at"] or "")[:19].replace("T", " ")
        count = "" if row["rows"] is None else f"{row['rows']:,}"
        table.add_row(row["id"], count, size(row["bytes"]), created, "promoted" if row["promoted"] else row["status"])
    Console().print(table)


def print_artifact(artifact: Artifact) -> None:
    """Manifest in brief, and the first rows."""
    console = Console(highlight=False)
    made = artifact.manifest
    console.print(f"[bold]{artifact.id}[/]  {artifact.path}")
    console.print(f"made {made.created_at[:19]} UTC in {made.seconds:.1f} s by cohobate {made.code['cohobate']}")
    console.print(f"fingerprint {made.fingerprint}")
    console.print(f"from        {', '.join(parent.id for parent in made.parents) or 'nothing'}")
    for entry in made.files:
        console.print(f"file        {entry.path}  {size(entry.bytes)}  {entry.sha256[:12]}")
    print_metrics(console, made)
    for item in made.ledger:
        flops = f"{item['flops']:.3g} FLOPs" if item["params"] else "FLOPs unknown"
        console.print(
            f"ledger      {item['model']} {item['work']}: {item['tokens']:,} tokens, {flops}, paid {item['paid']}"
        )
    _print_content(console, artifact)


def print_suites(suites: Artifact) -> None:
    """The scores of suites on standard output: avg@k and pass@k where questions are answered several times."""
    console = Console(highlight=False)
    table = Table("suite", "questions", "k", "accuracy", "95% interval", "pass@k", box=None, header_style="bold")
    for score in suites.manifest.scores:
        passed = score.details.get("pass_at", {}).get(str(score.k))
        table.add_row(
            *(escape(score.suite), f"{score.questions or score.n:,}", str(score.k or 1)),
            *(f"{score.accuracy.mean:.1%}", f"{score.accuracy.low:.1%}–{score.accuracy.high:.1%}"),
            percent_interval(Interval.from_row(passed, "share") if passed else None),
        )
    console.print(table)
    console.print(f"{suites.id}  {suites.path}")


def _print_content(console: Console, artifact: Artifact) -> None:
    """Evaluation points of a training stage, and the first rows of one that holds samples."""
    if (artifact.path / "points.parquet").is_file():
        import polars as pl

        table = Table(*_POINTS, title="evaluation points", title_justify="left", box=None)
        for row in pl.scan_parquet(artifact.path / "points.parquet").select(_POINTS).collect().iter_rows():
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
        console.print(table)
    from cohobate.cli.sample_view import print_samples
    from cohobate.report.sample_rows import STAGES, Wanted

    if artifact.stage in STAGES:
        print_samples(artifact, Wanted(), _FIRST_ROWS)


def _row(artifact: Artifact) -> dict[str, Any]:
    made = artifact.manifest
    try:
        verify(artifact)
        status = "done"
    except DamagedArtifactError:
        status = "damaged"
    return {
        "id": made.id,
        "stage": made.stage,
        "recipe": made.recipe,
        "fingerprint": made.fingerprint,
        "path": str(Path(artifact.path)),
        "rows": made.rows,
        "bytes": sum(entry.bytes for entry in made.files),
        "created_at": made.created_at,
        "status": status,
    }
