"""Metrics, scores and findings of an artifact in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from cohobate.core.sanitize import one_line
from cohobate.store.artifacts import Artifact
from cohobate.store.manifest import Manifest


def print_scores(evaluation: Artifact) -> None:
    """The scores of an evaluation on standard error, one line per student, split and decoding."""
    print_metrics(Console(stderr=True, highlight=False), evaluation.manifest)


def print_findings(experiment: Artifact) -> None:
    """The report of an experiment on standard output, laid out where that is a terminal."""
    from rich.markdown import Markdown

    text = (experiment.path / "report.md").read_text(encoding="utf-8")
    console = Console(highlight=False)
    console.print(Markdown(text)) if console.is_terminal else print(text)


def print_metrics(console: Console, manifest: Manifest) -> None:
    """The scores of an evaluation, or the metrics of another artifact, one per line."""
    if not manifest.has_scores:
        for name, value in manifest.named_metrics.items():
            console.print(f"metric      {name} = {escape(one_line(value))}")
        return
    for score in manifest.scores:
        accuracy = score.accuracy
        console.print(
            f"score       {score.student:<8} {score.split:<5} {score.decoding:<8} {accuracy.mean:.1%} "
            f"[{accuracy.low:.1%}, {accuracy.high:.1%}]  n = {score.n}",
            markup=False,
        )
