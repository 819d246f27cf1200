"""Comparison: methods from one start, over seeds -> index.html, report.md, comparison.json, runs and points.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.experiments.comparison.plan import chosen_methods, compare_section, reference
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.experiments.comparison.runner import Trained

VERSION = 1


def compare(
    recipe: Recipe,
    questions: Artifact,
    start_triples: Artifact,
    start: Artifact,
    start_scores: Artifact,
    trained: Sequence[Trained],
) -> Artifact:
    """Set the students side by side: accuracy over seeds, compute, compute to reach an accuracy."""
    parents = [questions, start_triples, start, start_scores]
    for one in trained:
        parents += [one.triples, one.student, one.scores]
    return Store().produce(
        "comparison",
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe, trained),
        parents=list({parent.fingerprint: parent for parent in parents}.values()),
        build=lambda workspace: _build(recipe, start, start_scores, start_triples, trained, workspace),
    )


def _identity(recipe: Recipe, trained: Sequence[Trained]) -> dict[str, Any]:
    """Which student is which, and what is asked of them."""
    config = compare_section(recipe)
    methods = chosen_methods(config)
    return {
        "targets": config.targets,
        "reference": reference(config),
        "methods": {name: [method.start, method.against, method.about] for name, method in methods.items()},
        "runs": [[one.run.method, one.run.seed, one.student.fingerprint] for one in trained],
        "evaluation": recipe.evaluation.identity(),
        "title": recipe.report.title or recipe.name,
        "description": recipe.description,
    }


def _build(
    recipe: Recipe,
    start: Artifact,
    start_scores: Artifact,
    start_triples: Artifact,
    trained: Sequence[Trained],
    workspace: Workspace,
) -> Outcome:
    import polars as pl

    from cohobate.core import progress
    from cohobate.core.atomic_files import write_json_atomic
    from cohobate.experiments.comparison import page as methods
    from cohobate.experiments.comparison.findings import findings
    from cohobate.report import figures

    with progress.bar("comparison", 3, "files") as bar:
        facts = findings(recipe, start, start_scores, start_triples, trained)
        facts["made"] = [_made(one) for one in (start_triples, start, start_scores)]
        write_json_atomic(workspace.path / "comparison.json", facts)
        pl.DataFrame(facts["points"]).write_parquet(workspace.path / "points.parquet", compression="zstd")
        flat = [{name: value for name, value in run.items() if name != "scores"} for run in facts["runs"]]
        pl.DataFrame(flat).write_parquet(workspace.path / "runs.parquet", compression="zstd")
        bar.advance()
        drawn = methods.draw(facts)
        (workspace.path / "figures").mkdir(exist_ok=True)
        for name, svg in drawn.items():
            (workspace.path / "figures" / f"{name}.svg").write_text(figures.plain(svg), encoding="utf-8")
        (workspace.path / "report.md").write_text(methods.markdown(facts), encoding="utf-8")
        bar.advance()
        (workspace.path / "index.html").write_text(methods.page(facts, drawn), encoding="utf-8")
        bar.advance()
    return Outcome(len(trained), {name: facts[name] for name in _METRICS})


_METRICS = ("split", "decodings", "seeds", "reference", "start", "base", "teacher", "methods", "reached", "differences")


def _made(artifact: Artifact) -> dict[str, Any]:
    made = artifact.manifest
    return {"id": made.id, "seconds": made.seconds, "created_at": made.created_at, "fingerprint": made.fingerprint}
