"""Labels: another verifier's verdicts on a triples artifact, without asking the teacher.

Files: verdicts.parquet and aggregates.parquet, as those of the triples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Verification
from cohobate.config.load import make_recipe
from cohobate.core.errors import VerifierError
from cohobate.evaluation.verifiers import verify
from cohobate.store.artifacts import LABELS, Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.evaluation.verifiers.labels import Movement

VERSION = 1
COLUMNS = ["sample_id", "question_id", "question", "question_meta", "response", "answer", "gold_answer", "truncated"]


def relabel(triples: Artifact, changes: dict[str, Any]) -> Artifact:
    """The verdicts of the verifier of the triples' own recipe, with `changes` to its section.

    Only a judge costs anything, and only for cases that it has not judged before. Raises VerifierError when `triples`
    is another kind of artifact or the verifier cannot be loaded, RecipeError for wrong values, and what a judge raises.
    """
    if triples.stage != "triples":
        raise VerifierError(
            f"{triples.id} holds no triples; `cohobate ls` lists the artifacts that begin with triples/"
        )
    recipe = _changed(triples, changes)
    spec = recipe.triples.verifier
    return Store().produce(
        LABELS,
        recipe=recipe,
        version=VERSION,
        identity={"verifier": verify.identity(spec)},
        parents=[triples],
        build=lambda workspace: _build(triples, spec, workspace),
    )


def movements(triples: Artifact, relabelled: Artifact) -> list[Movement]:
    """How many samples went from each label of the triples to each label of `relabelled`."""
    import polars as pl

    from cohobate.evaluation.verifiers import labels

    before, after = (pl.read_parquet(artifact.path / "verdicts.parquet") for artifact in (triples, relabelled))
    return labels.movements(before, after)


def _changed(triples: Artifact, changes: dict[str, Any]) -> Recipe:
    values = triples.manifest.config
    section = values.setdefault("triples", {})
    before = section.get("verifier", {})
    section["verifier"] = {**before, **changes}
    if isinstance(changes.get("judge"), dict):
        section["verifier"]["judge"] = {**(before.get("judge") or {}), **changes["judge"]}
    return make_recipe(values, f"the recipe of {triples.id}")


def _build(triples: Artifact, spec: Verification, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress, schema
    from cohobate.core.parquet import write_table
    from cohobate.evaluation.verifiers import labels

    verify.check(spec)
    samples = pl.read_parquet(triples.path / "triples.parquet", columns=COLUMNS)
    verdicts = labels.label(samples, spec, workspace.scratch, workspace.fingerprint)
    if sentence := labels.missing_answers(verdicts):
        progress.say(sentence)
    ledger, judge_metrics = labels.judge_usage(samples, verdicts, spec, LABELS, workspace.fingerprint)
    tables = {
        "verdicts": (verdicts, schema.VERDICTS),
        "aggregates": (labels.aggregate(samples, verdicts), schema.AGGREGATES),
    }
    for name, (frame, declared) in tables.items():
        write_table(frame, declared, workspace.path / f"{name}.parquet")
    return Outcome(len(verdicts), {**labels.summary(verdicts), **judge_metrics}, ledger)
