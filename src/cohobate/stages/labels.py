"""Judge a triples artifact by another verifier: a labels artifact of its own, and no teacher is asked anything.

Files: verdicts.parquet, aggregates.parquet, as those of the triples.
"""

from __future__ import annotations

from typing import Any

from cohobate.config import Recipe, Verification
from cohobate.config.load import make_recipe
from cohobate.core.errors import VerifierError
from cohobate.evaluation.verifiers import verify
from cohobate.store.artifacts import LABELS, Artifact, Outcome, Store, Workspace

VERSION = 1
COLUMNS = ["sample_id", "question_id", "question", "question_meta", "response", "answer", "gold_answer", "truncated"]


def relabel(triples: Artifact, changes: dict[str, Any]) -> Artifact:
    """The verdicts of the verifier that the triples were made with, with `changes` to its section of the recipe.

    Only a judge is asked anything, and only what it has not been asked before. Raises VerifierError when `triples` is
    another kind of artifact or the verifier cannot be loaded, RecipeError for wrong values, and what a judge raises.
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


def movements(triples: Artifact, labels: Artifact) -> list[dict[str, Any]]:
    """How many samples went {before, after, samples} from the triples' own verdict to the new one."""
    import polars as pl

    old, new = (pl.read_parquet(a.path / "verdicts.parquet").select("sample_id", "verdict") for a in (triples, labels))
    both = old.rename({"verdict": "before"}).join(new.rename({"verdict": "after"}), on="sample_id")
    counted = both.group_by("before", "after").agg(samples=pl.len())
    return counted.sort("before", "after").to_dicts()


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

    from cohobate.core import schema
    from cohobate.core.parquet import write_table
    from cohobate.evaluation.verifiers import labels

    verify.check(spec)
    samples = pl.read_parquet(triples.path / "triples.parquet", columns=COLUMNS)
    verdicts = labels.label(samples, spec, workspace.scratch, workspace.fingerprint)
    ledger, judge_metrics = labels.judge_usage(samples, verdicts, spec, LABELS, workspace.fingerprint)
    tables = {
        "verdicts": (verdicts, schema.VERDICTS),
        "aggregates": (labels.aggregate(samples, verdicts), schema.AGGREGATES),
    }
    for name, (frame, declared) in tables.items():
        write_table(frame, declared, workspace.path / f"{name}.parquet")
    return Outcome(len(verdicts), {**labels.summary(verdicts), **judge_metrics}, ledger)
