"""Comparison of methods over seeds -> index.html, report.md, comparison.json, runs.parquet, points.parquet, figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate.config import Compare, Recipe
from cohobate.experiments.comparison.plan import chosen_methods, reference
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.experiments.comparison.runner import ComparisonRunner, TrainedStudent

VERSION = 2
_METRICS = ("split", "decodings", "seeds", "reference", "start", "base", "teacher", "methods", "reached", "differences")


def compare(runner: ComparisonRunner) -> Artifact:
    """Accuracy over seeds, compute, and compute to reach an accuracy, of all students of `runner`."""
    recipe, trained = runner.recipe, runner.trained()
    parents = [runner.questions, runner.triples(recipe), runner.start(), runner.start_scores()]
    for each in trained:
        parents += [each.triples, each.student, each.scores]
    parents += [measured for _, measured in runner.distances()]
    return Store().produce(
        "comparison",
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe, trained),
        parents=list({parent.fingerprint: parent for parent in parents}.values()),
        build=lambda workspace: _build(runner, workspace),
    )


def _identity(recipe: Recipe, trained: Sequence[TrainedStudent]) -> dict[str, Any]:
    """Students by method and seed, and the settings of tables and page."""
    config = recipe.section(Compare)
    methods = chosen_methods(config)
    measured = {} if config.distance is None else {"distance": config.distance}
    return {
        **measured,
        "targets": config.targets,
        "reference": reference(config),
        "methods": {name: [method.start, method.against, method.about] for name, method in methods.items()},
        "runs": [[each.run.method, each.run.seed, each.student.fingerprint] for each in trained],
        "evaluation": recipe.evaluation.identity(),
        "title": recipe.report.title or recipe.name,
        "description": recipe.description,
    }


def _build(runner: ComparisonRunner, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import interrupts, progress
    from cohobate.core.atomic_files import write_json_atomic
    from cohobate.experiments.comparison import page
    from cohobate.experiments.comparison.figures import draw
    from cohobate.experiments.comparison.findings import findings
    from cohobate.report import figures

    with progress.bar("comparison", 3, "files") as bar:
        facts = findings(runner)
        write_json_atomic(workspace.path / "comparison.json", facts)
        pl.DataFrame(facts["points"]).write_parquet(workspace.path / "points.parquet", compression="zstd")
        flat = [{name: value for name, value in run.items() if name != "scores"} for run in facts["runs"]]
        pl.DataFrame(flat).write_parquet(workspace.path / "runs.parquet", compression="zstd")
        bar.advance()
        drawn = draw(facts)
        (workspace.path / "figures").mkdir(exist_ok=True)
        for name, svg in drawn.items():
            (workspace.path / "figures" / f"{name}.svg").write_text(figures.plain(svg), encoding="utf-8")
        (workspace.path / "report.md").write_text(page.markdown(facts), encoding="utf-8")
        bar.advance()
        (workspace.path / "index.html").write_text(page.html(facts, drawn), encoding="utf-8")
        bar.advance()
        interrupts.check()
    return Outcome(len(runner.runs), {name: facts[name] for name in _METRICS})  # type: ignore[literal-required]
