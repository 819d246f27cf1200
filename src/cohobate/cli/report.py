"""The command that shows what runs have come to: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cohobate.cli import completion

_PAGE = "index.html"


def report(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run's id, or its beginning; else the newest.",
            autocompletion=completion.run_records,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Write the page of all runs instead.")] = False,
    detailed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Runs whose curves, rollouts and samples it shows: the newest (200)."),
    ] = None,
) -> None:
    """Say where the report of a run lies; with --all, write one page of all runs, to sort, compare and look inside."""
    from cohobate.core.errors import SelectionError

    if every and name is not None:
        raise SelectionError(f"--all is of every run; leave out --all or {name}")
    if detailed is not None and not every:
        raise SelectionError("--detailed is of the page of all runs; give --all too")
    if every:
        from cohobate.report import runs

        path, count = runs.write_all(runs.DETAILED if detailed is None else detailed)
        print(f"{path}: {count:,} runs")
    else:
        print(_report_of(name))


def _report_of(name: str | None) -> Path:
    """The last page among the artifacts of a run."""
    from cohobate.core.errors import StoreError
    from cohobate.store import runs
    from cohobate.store.artifacts import data_root

    record = runs.named(name) if name else runs.newest()
    pages = [data_root() / each / _PAGE for each in record.artifacts]
    page = next((each for each in reversed(pages) if each.is_file()), None)
    if page is None:
        raise StoreError(
            f"the run {record.id} ({record.status}) has no report; go on with: cohobate resume {record.id}"
        )
    return page
