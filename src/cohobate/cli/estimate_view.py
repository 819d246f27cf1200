"""The expected work of a recipe as a table or JSON: `cohobate estimate`."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from cohobate.config import Recipe
from cohobate.stages.estimate import Machine, estimate, sentences


def print_estimate(
    recipe: Recipe, gpu: str, utilisation: float, prompt_tokens: int, questions: int | None, *, as_json: bool = False
) -> None:
    """Work, FLOPs, hours and memory of each stage. Raises RecipeError for an unknown GPU, ModelError for a model."""
    machine = Machine.with_gpu(gpu, utilisation)
    lines = estimate(recipe, machine, prompt_tokens, questions)
    summary = sentences(recipe, lines, machine)
    if as_json:
        print(json.dumps({"gpu": gpu, "lines": [asdict(line) for line in lines], "said": summary}, indent=2))
        return
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
    for sentence in summary:
        console.print(sentence, markup=False)
