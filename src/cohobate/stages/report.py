"""Report: results and cost of a run -> index.html, report.md, report.json, figures/."""

from __future__ import annotations

from collections.abc import Sequence

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

VERSION = 2


def write(recipe: Recipe, artifacts: Sequence[Artifact]) -> Artifact:
    """Write the report of `artifacts`, one of each stage before it."""
    title = recipe.report.title or recipe.name
    return Store().produce(
        "report",
        recipe=recipe,
        version=VERSION,
        identity={**recipe.report.identity(), "title": title, "description": recipe.description},
        parents=artifacts,
        build=lambda workspace: _build(recipe, artifacts, workspace),
    )


def _build(recipe: Recipe, artifacts: Sequence[Artifact], workspace: Workspace) -> Outcome:
    from cohobate.core import interrupts, progress
    from cohobate.core.atomic_files import write_json_atomic
    from cohobate.report import figures, render
    from cohobate.report.facts import gather

    with progress.bar("report", 3, "files") as bar:
        facts = gather(recipe, artifacts)
        write_json_atomic(workspace.path / "report.json", facts)
        bar.advance()
        drawn = figures.draw(facts)
        folder = workspace.path / "figures"
        folder.mkdir(exist_ok=True)
        for name, svg in drawn.items():
            (folder / f"{name}.svg").write_text(figures.plain(svg), encoding="utf-8")
        (workspace.path / "report.md").write_text(render.markdown(facts, drawn), encoding="utf-8")
        bar.advance()
        (workspace.path / "index.html").write_text(render.page(facts, drawn), encoding="utf-8")
        bar.advance()
        interrupts.check()
    shown = facts["headline"]
    return Outcome(metrics={"gap_closed": shown["gap_closed"] if shown else None})
