"""What a run would do, as a table: `cohobate run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from cohobate.config import Recipe
from cohobate.core.formatting import duration
from cohobate.stages.dry_run import plan
from cohobate.stages.estimate import Line


def print_plan(recipe: Recipe, until: str) -> None:
    """Each stage with its artifact, or the work that is left, and the totals in words."""
    made = plan(recipe, until)
    table = Table("stage", "", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("rows", "tokens", "FLOPs", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage, artifact in made.stored.items():
        table.add_row(stage, f"in the store: {artifact.id}")
    for stage in made.rest:
        table.add_row(stage, "to do", *_totals(line for line in made.lines if line.stage == stage))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for sentence in made.sentences():
        console.print(sentence, markup=False)


def _totals(lines: Iterable[Line]) -> list[str]:
    work = list(lines)
    if not work:
        return []
    rows, tokens = sum(line.sequences for line in work), sum(line.tokens for line in work)
    flops, hours = sum(line.flops for line in work), sum(line.hours for line in work)
    return [f"{rows:,}", f"{tokens / 1e6:,.2f} M", f"{flops:.2g}", duration(3600 * hours)]
