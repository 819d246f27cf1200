"""Commands that show the samples of an artifact: show, page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cohobate.cli.arguments import ArtifactName

if TYPE_CHECKING:
    from cohobate.store.artifacts import Artifact

_SHOWN = 10


def show(
    name: ArtifactName,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show so many rows.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Rows that are correct, incorrect or undecided.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Short for --verdict incorrect.")] = False,
    question: Annotated[
        str | None, typer.Option(metavar="ID", help="Rows of a question or sample, by the beginning of its id.")
    ] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Rows whose question, response or answer holds it.")
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Failed requests instead of samples.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Long texts to their end.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML page to look at all of it instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the manifest, or the rows asked for.")] = False,
) -> None:
    """Show an artifact: its manifest in brief, or the rows asked for."""
    from cohobate.store.artifacts import Store

    artifact = Store().open(name)
    if page is not None:
        _write_page(artifact, page, rows)
        return
    if rows is None and not (verdict or wrong or question or grep or failures or full):
        _print_brief(artifact, as_json)
        return
    from cohobate.cli.sample_view import print_failures, print_samples
    from cohobate.report.sample_rows import RowFilter

    chosen = RowFilter(_chosen_verdict(verdict, wrong), question, grep)
    count = rows or _SHOWN
    if failures:
        print_failures(artifact, chosen, count, as_json=as_json)
    else:
        print_samples(artifact, chosen, count, full=full, as_json=as_json)


def page(
    name: ArtifactName,
    out: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; else pages/ beside the artifact's folder.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Hold at most so many rows.")] = None,
) -> None:
    """Write a self-contained HTML page of an artifact's samples: counts, distributions, and a table to search."""
    from cohobate.store.artifacts import Store

    _write_page(Store().open(name), out, rows)


def _write_page(artifact: Artifact, out: Path | None, rows: int | None) -> None:
    from cohobate.report.dataset import ROWS, default_path, write_page

    path = default_path(artifact) if out is None else out
    if path.is_dir():
        path /= default_path(artifact).name
    shown, every = write_page(artifact, path, rows or ROWS)
    print(f"{path}: {shown:,} of {every:,} rows of {artifact.id}")


def _print_brief(artifact: Artifact, as_json: bool) -> None:
    from cohobate.cli.artifact_view import print_artifact

    if as_json:
        print(artifact.manifest.model_dump_json(indent=2))
    else:
        print_artifact(artifact)


def _chosen_verdict(named: str | None, wrong: bool) -> str | None:
    from cohobate.core.errors import SelectionError

    verdicts = ("correct", "incorrect", "undecided")
    if named is not None and named not in verdicts:
        raise SelectionError(f"--verdict {named}: choose one of {', '.join(verdicts)}")
    if wrong and named not in (None, "incorrect"):
        raise SelectionError(f"--wrong and --verdict {named} contradict each other; give one of them")
    return "incorrect" if wrong else named
