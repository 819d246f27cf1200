"""The stages as plain functions of a recipe, for notebooks and scripts: `from cohobate import run, triples, sft, opd`.

They have the store of the flows, and need no Prefect server. What a stage learns from is made first, or found in the
store. Each call has a record of its run, so that `cohobate gc` keeps what it made, and `cohobate resume` goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cohobate.config import Recipe, StageName
from cohobate.config.load import apply, changed, load_recipe
from cohobate.core import context
from cohobate.core.errors import RecipeError
from cohobate.stages import evaluation, questions, report
from cohobate.stages import opd as opd_stage
from cohobate.stages import sft as sft_stage
from cohobate.stages import triples as triples_stage
from cohobate.store import runs
from cohobate.store.artifacts import STAGES, Artifact

AnyRecipe = Recipe | str


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The artifacts of the stages in order; each is made, or found in the store, when it is its turn."""
    yield (written := questions.write(recipe))
    yield (taught := triples_stage.write_for_student(recipe, written))
    yield (start := sft_stage.train(recipe, taught, written))
    yield (student := opd_stage.train(recipe, start, written, taught))
    yield (scores := evaluation.evaluate(recipe, written, [start, student]))
    yield report.write(recipe, [written, taught, start, student, scores])


def run(recipe: AnyRecipe, overrides: Sequence[str] = (), *, until: StageName = "report") -> list[Artifact]:
    """The artifacts of all stages up to `until`, in order; what is in the store is not made again.

    recipe: one, or the path or shipped name of one. overrides: `section.key=value`, as --set takes them. Raises
    RecipeError, and whatever a stage raises; everything that is finished is kept then.
    """
    if until not in STAGES:
        raise RecipeError(f"until = {until!r}: the stages are {', '.join(STAGES)}")
    chosen = _changed(recipe, overrides)
    made: list[Artifact] = []
    with _recorded(chosen, until) as run_id:
        for artifact in pipeline(chosen):
            made.append(artifact)
            runs.add_artifact(run_id, artifact.id)
            if artifact.stage == until:
                break
    return made


def triples(recipe: AnyRecipe, overrides: Sequence[str] = ()) -> Artifact:
    """The teacher's responses to the training questions, with their verdicts. Arguments and errors as of `run`."""
    return run(recipe, overrides, until="triples")[-1]


def sft(recipe: AnyRecipe, overrides: Sequence[str] = ()) -> Artifact:
    """The student after SFT on the triples, in the folder `.path / "model"`. Arguments and errors as of `run`."""
    return run(recipe, overrides, until="sft")[-1]


def opd(recipe: AnyRecipe, overrides: Sequence[str] = ()) -> Artifact:
    """The student after on-policy distillation, as that of `sft`. Arguments and errors as of `run`."""
    return run(recipe, overrides, until="opd")[-1]


def evaluate(recipe: AnyRecipe, overrides: Sequence[str] = ()) -> Artifact:
    """The scores of base, students and teacher, in `.manifest.scores`. Arguments and errors as of `run`."""
    return run(recipe, overrides, until="evaluation")[-1]


def _changed(recipe: AnyRecipe, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, str):
        return load_recipe(recipe, overrides)
    changes: dict[str, Any] = {}
    for override in overrides:
        apply(changes, override)
    return changed(recipe, changes, f"recipe {recipe.name}") if changes else recipe


@contextmanager
def _recorded(recipe: Recipe, until: str) -> Iterator[str]:
    """The id of the run's record, which says how the block ended; that of the run which this one is a part of."""
    if run_id := context.current().run_id:
        yield run_id
        return
    record = runs.begin(recipe, until)
    status: runs.Status = "failed"
    reason: str | None = None
    try:
        with context.using(run_id=record.id):
            yield record.id
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except Exception as error:
        reason = str(error)
        raise
    finally:
        runs.end(record, status, reason)
