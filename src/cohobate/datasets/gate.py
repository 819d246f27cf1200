"""The gate: whether new artifacts may take the place of what is promoted.

Neither the triples nor the student may be worse beyond the 95% interval, paired by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cohobate.core.errors import VerifierError
from cohobate.datasets import diff
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.promotion import Promotion, promoted


@dataclass(frozen=True)
class Decision:
    """What the gate says. refused: why not, a sentence each; said: what it looked at; found: the triples compared."""

    changed: bool
    refused: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    found: dict[str, Any] | None = None


def decide(
    recipe: str, artifacts: Sequence[Artifact], allowed: float = 0.0, against: Artifact | None = None
) -> Decision:
    """Whether `artifacts` may take the place of what is promoted of `recipe`.

    against: triples to compare with; None: the promoted ones. allowed: by how much rates may be worse, as a share.
    Artifacts that are older than the promotion do not undo it.
    """
    before = promoted(recipe)
    differing = [a for a in artifacts if not before or before.fingerprints.get(a.stage) != a.fingerprint]
    if not differing:
        return Decision(False, said=["everything is as it was promoted"])
    if before and all(a.manifest.created_at <= before.at for a in differing):
        return Decision(
            False, said=[f"{differing[-1].id} is older than the promotion of {before.at[:19]} UTC, which stands"]
        )
    new = {artifact.stage: artifact for artifact in artifacts}
    old = _stored(before)
    if against:
        old["triples"] = against
    refused, said, found = _triples(old.get("triples"), new.get("triples"), allowed)
    for sentence, bad in _students(old, new, allowed):
        (refused if bad else said).append(sentence)
    return Decision(True, refused, said or ["nothing was promoted before"], found)


def _triples(
    old: Artifact | None, new: Artifact | None, allowed: float
) -> tuple[list[str], list[str], dict[str, Any] | None]:
    if old is None or new is None:
        return [], [], None
    if old.fingerprint == new.fingerprint:
        return [], [f"the triples are {old.id}, as before"], None
    found = diff.compare(diff.read(old), diff.read(new))
    try:
        found["gate"] = diff.gate(found, allowed)
    except VerifierError as error:
        found["gate"] = {"passed": False, "allowed": allowed, "reasons": [str(error)]}
    return list(found["gate"]["reasons"]), [f"{new.id} was compared with {old.id}"], found


def _students(old: dict[str, Artifact], new: dict[str, Artifact], allowed: float) -> list[tuple[str, bool]]:
    """(what was found, whether that is worse than allowed) of each split and decoding of the last trained student."""
    name = next((stage for stage, artifact in reversed(new.items()) if (artifact.path / "model").is_dir()), None)
    if name is None or name not in old or "evaluation" not in old or "evaluation" not in new:
        return []
    import polars as pl

    from cohobate.core.statistics import paired

    keys = ["split", "decoding", "question_id"]
    before, after = (
        pl.scan_parquet(side["evaluation"].path / "answers.parquet")
        .filter(pl.col("student") == name)
        .group_by(keys)
        .agg((pl.col("verdict") == "correct").mean().alias("share"))
        .collect()
        for side in (old, new)
    )
    both = before.join(after, on=keys, suffix="_new").sort(keys)
    found = []
    for (split, decoding), rows in both.group_by("split", "decoding", maintain_order=True):
        gain = paired((rows["share_new"] - rows["share"]).to_list())
        interval = f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}] over {len(rows):,} questions"
        found.append((f"accuracy of {name} on {split}, {decoding}: {interval}", gain.high < -allowed))
    return found


def _stored(before: Promotion | None) -> dict[str, Artifact]:
    """The promoted artifacts that are still there, by stage."""
    known = {artifact.fingerprint: artifact for artifact in Store().all()}
    marks = before.fingerprints if before else {}
    return {stage: known[mark] for stage, mark in marks.items() if mark in known}
