"""Metrics, scores and findings of an artifact in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from cohobate.core.sanitize import one_line
from cohobate.store.artifacts import Artifact


def print_scores(evaluation: Artifact) -> None:
    """The scores of an evaluation, a line a student and split, on standard error."""
    print_metrics(Console(stderr=True, highlight=False), evaluation.manifest.metrics)


def print_findings(experiment: Artifact) -> None:
    """The report of an experiment on standard output, laid out where that is a terminal."""
    from rich.markdown import Markdown

    text = (experiment.path / "report.md").read_text(encoding="utf-8")
    console = Console(highlight=False)
    console.print(Markdown(text)) if console.is_terminal else print(text)


def print_metrics(console: Console, metrics: dict[str, Any] | list[dict[str, Any]]) -> None:
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            console.print(f"metric      {name} = {escape(one_line(value))}")
        return
    for row in metrics:
        console.print(
            f"score       {row['student']:<8} {row['split']:<5} {row['decoding']:<8} {row['accuracy']:.1%} "
            f"[{row['low']:.1%}, {row['high']:.1%}]  n = {row['n']}",
            markup=False,
        )
