"""The expected work of a recipe as a table or JSON: `cohobate estimate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from cohobate.config import Recipe
from cohobate.stages.estimate import Line, Machine, estimate
from cohobate.stages.estimate_words import sentences


def print_estimate(
    recipe: Recipe, gpu: str, utilisation: float, prompt_tokens: int, questions: int | None, *, as_json: bool = False
) -> None:
    """Work, FLOPs, hours and memory of each stage. Raises RecipeError for an unknown GPU, ModelError for a model."""
    machine = Machine.with_gpu(gpu, utilisation)
    lines = estimate(recipe, machine, prompt_tokens, questions)
    if as_json:
        summary = sentences(recipe, lines, machine)
        print(json.dumps({"gpu": gpu, "lines": [asdict(line) for line in lines], "said": summary}, indent=2))
        return
    print_lines(recipe, lines, machine)


def print_lines(recipe: Recipe, lines: Sequence[Line], machine: Machine) -> None:
    """The same of lines that are estimated already, as a table and its totals."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("stage", "model", "work"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "tokens", "FLOPs", "GPU-hours", "GiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            *(line.stage, line.model, line.work, f"{line.sequences:,}", f"{line.tokens / 1e6:,.1f} M"),
            *(f"{line.flops:.2g}", f"{line.hours:.2f}", f"{line.memory:.1f}"),
        )
    console.print(table)
    for sentence in sentences(recipe, lines, machine):
        console.print(sentence, markup=False)
