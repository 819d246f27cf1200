"""Artifacts on a terminal: the list of all, one with its manifest in brief, and the scores of suites."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cohobate.core.formatting import percent_interval, size
from cohobate.core.statistics import Interval
from cohobate.report.console import print_metrics
from cohobate.store.artifacts import Artifact
from cohobate.store.listing import ListedArtifact

# Columns of points.parquet that are shown.
_POINTS = ["step", "n", "accuracy", "low", "high"]
_FIRST_ROWS = 3


def print_list(artifacts: Sequence[ListedArtifact]) -> None:
    """A table, one line per artifact."""
    if not artifacts:
        Console().print("no artifacts yet; start with: cohobate run tiny")
        return
    table = Table("id", "rows", "size", "created (UTC)", "status", box=None, header_style="bold")
    for each in artifacts:
        created = (each.created_at or "")[:19].replace("T", " ")
        rows = "" if each.rows is None else f"{each.rows:,}"
        table.add_row(each.id, rows, size(each.bytes), created, "promoted" if each.promoted else each.status)
    Console().print(table)


def print_artifact(artifact: Artifact) -> None:
    """The manifest in brief, and the first samples."""
    console = Console(highlight=False)
    manifest = artifact.manifest
    console.print(f"[bold]{artifact.id}[/]  {artifact.path}")
    console.print(
        f"made {manifest.created_at[:19]} UTC in {manifest.seconds:.1f} s by cohobate {manifest.code['cohobate']}"
    )
    console.print(f"fingerprint {manifest.fingerprint}")
    console.print(f"from        {', '.join(parent.id for parent in manifest.parents) or 'nothing'}")
    for entry in manifest.files:
        console.print(f"file        {entry.path}  {size(entry.bytes)}  {entry.sha256[:12]}")
    print_metrics(console, manifest)
    for item in manifest.ledger:
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
    """Evaluation points of a training stage, and the first samples of a stage that has some."""
    if (artifact.path / "points.parquet").is_file():
        import polars as pl

        table = Table(*_POINTS, title="evaluation points", title_justify="left", box=None)
        for row in pl.scan_parquet(artifact.path / "points.parquet").select(_POINTS).collect().iter_rows():
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
        console.print(table)
    from cohobate.cli.sample_view import print_samples
    from cohobate.report.sample_rows import STAGES, RowFilter

    if artifact.stage in STAGES:
        print_samples(artifact, RowFilter(), _FIRST_ROWS)
