"""Recovery: the table of all arms, before, after mid-training and after recovery -> scores.parquet, index.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.experiments.recovery.arms import checked_section
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.experiments.recovery.table import Examined

VERSION = 1


def write(recipe: Recipe, found: Sequence[Examined]) -> Artifact:
    """The table and page of the exams `found`."""
    checked_section(recipe)
    places = [[one.round, one.arm, one.seed, one.phase] for one in found]
    parents = [one.exam for one in found]
    return Store().produce(
        "recovery",
        recipe=recipe,
        version=VERSION,
        identity={"places": places, "title": recipe.report.title or recipe.name},
        parents=parents,
        build=lambda workspace: _build(recipe, found, workspace),
    )


def _build(recipe: Recipe, found: Sequence[Examined], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.recovery.table import page, summarise
    from cohobate.report import experiment

    rows = [
        {"round": one.round, "arm": one.arm, "seed": one.seed, "phase": one.phase, **row}
        for one in found
        for row in _suites(one.exam)
    ]
    pl.DataFrame(rows).write_parquet(workspace.path / "scores.parquet", compression="zstd")
    lines = summarise(rows)
    made = page(recipe, lines, [one.exam for one in found])
    (workspace.path / "index.html").write_text(experiment.html(made), encoding="utf-8")
    (workspace.path / "report.md").write_text(experiment.markdown(made), encoding="utf-8")
    return Outcome(len(rows), {"lines": lines})


def _suites(exam: Artifact) -> list[dict[str, Any]]:
    suites: list[dict[str, Any]] = exam.manifest.named_metrics["suites"]
    return suites
