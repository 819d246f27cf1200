"""One page of several experiments: the newest comparison or recovery of each recipe -> index.html, report.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cohobate.config import Recipe
from cohobate.core.errors import StoreError
from cohobate.core.statistics import Interval
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.report.experiment import Dot, Page, Table

VERSION = 1
EXPERIMENTS = ("comparison", "recovery")
"""Stages whose artifacts can stand on the page."""


@dataclass(frozen=True)
class Part:
    """The results of one experiment under its title."""

    title: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    dots: Sequence[Dot]


def gather(recipes: Sequence[Recipe]) -> Artifact:
    """The page of the newest finished experiment of each recipe. Raises StoreError for a recipe that has none."""
    store = Store()
    parents = [_newest(store, recipe) for recipe in recipes]
    return store.produce(
        "gathered",
        recipe=recipes[0],
        version=VERSION,
        identity={},
        parents=parents,
        build=lambda workspace: _build(parents, workspace),
    )


def _newest(store: Store, recipe: Recipe) -> Artifact:
    """The experiment of `recipe` that was made last."""
    finished = [each for each in store.all() if each.stage in EXPERIMENTS and each.manifest.recipe == recipe.name]
    if not finished:
        command = "recover" if recipe.recover is not None else "compare"
        raise StoreError(f"there is no finished experiment of {recipe.name}; run: cohobate {command} {recipe.name}")
    return finished[-1]


def _build(experiments: Sequence[Artifact], workspace: Workspace) -> Outcome:
    from cohobate.report import experiment

    parts = [_PARTS[each.stage](each) for each in experiments]
    experiment.write(page(parts, experiments), workspace.path)
    return Outcome(len(parts), {"titles": [part.title for part in parts]})


def page(parts: Sequence[Part], artifacts: Sequence[Artifact]) -> Page:
    """All sentences, tables and marks, each with the name of its experiment."""
    from cohobate.report.experiment import Page

    return Page(
        title=" · ".join(part.title for part in parts),
        sentences=[sentence for part in parts for sentence in part.sentences],
        tables=[replace(table, title=f"{part.title}: {table.title}") for part in parts for table in part.tables],
        dots=[dot for part in parts for dot in part.dots],
        caption="Greedy accuracy with 95% interval: over seeds, or of the questions where there is one seed.",
        artifacts=artifacts,
    )


def _of_comparison(artifact: Artifact) -> Part:
    from cohobate.core.atomic_files import read_json
    from cohobate.experiments.comparison import page as comparison
    from cohobate.report.experiment import Dot, Table, drawable

    facts = read_json(artifact.path / "comparison.json")
    tables = [
        Table(table.title, table.header, table.rows, table.about)
        for table in comparison.tables(facts)
        if table.name not in comparison.DETAILS
    ]
    measured = [
        Dot(comparison.STUDENTS.get(row["model"], row["model"]), f"{facts['split']} questions", drawable(accuracy))
        for row in facts["distances"]
        if (accuracy := row["accuracy"] and Interval.from_row(row["accuracy"]))
    ]
    sentences = [*([facts["description"]] if facts["description"] else []), comparison.start_sentence(facts)]
    return Part(facts["title"], sentences, tables, measured)


def _of_recovery(artifact: Artifact) -> Part:
    from cohobate.experiments.recovery import page as recovery

    lines = [recovery.PhaseScores.from_row(row) for row in artifact.manifest.named_metrics["lines"]]
    return Part(
        artifact.manifest.recipe, recovery.sentences(lines), [recovery.results_table(lines)], recovery.marks(lines)
    )


_PARTS = {"comparison": _of_comparison, "recovery": _of_recovery}
