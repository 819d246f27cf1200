"""SFT: the student learns the selected triples -> model/, metrics.parquet, points.parquet."""

from __future__ import annotations

from cohobate.config import Recipe
from cohobate.curation.curate import selected
from cohobate.errors import CohobateError
from cohobate.store import Artifact, Outcome, Store, Workspace
from cohobate.students import model_fingerprint

VERSION = 2


def train(recipe: Recipe, triples: Artifact, questions: Artifact) -> Artifact:
    """Fine-tune the student on `triples`, or on what the recipe's section [curation] keeps of them.

    The questions' validation split gives the evaluation points.
    """
    triples = selected(recipe, triples)
    student = {**recipe.student.identity(), "model": model_fingerprint(recipe.student.model)}
    return Store().produce(
        "sft",
        recipe=recipe,
        version=VERSION,
        identity={**recipe.sft.identity(), "student": student},
        parents=[triples, questions],
        build=lambda workspace: _build(recipe, triples, questions, workspace),
    )


def _build(recipe: Recipe, triples: Artifact, questions: Artifact, workspace: Workspace) -> Outcome:
    from cohobate.chat import student_format
    from cohobate.objectives.sft import cross_entropy
    from cohobate.preflight import require
    from cohobate.runtime import set_threads
    from cohobate.stages.common import train_and_publish
    from cohobate.students import load
    from cohobate.triple_source import TripleSource, select, training_rows

    set_threads(recipe)
    require(recipe)
    student = load(recipe.student.model, device=recipe.runtime.device)
    chosen = select(triples.path, recipe.sft.select)
    if recipe.sft.steps and chosen.is_empty():
        raise CohobateError(
            f"{triples.id} has no triple for sft.select = '{recipe.sft.select}', so there is nothing to learn; look "
            f"at them with `cohobate show {triples.id}`, or set sft.select = 'all'"
        )
    rows = training_rows(student.tokenizer, chosen, student_format(recipe))
    source = TripleSource(rows, recipe.sft.batch, recipe.sft.seed)
    outcome = train_and_publish(recipe, "sft", student, source, cross_entropy, recipe.sft, questions, workspace)
    assert isinstance(outcome.metrics, dict)
    outcome.metrics["triples"] = len(chosen)
    return outcome
