"""What of a recipe is promoted: the artifacts that others should use. A pointer, never a copy.

    data/promoted/<recipe>.json    written whole or not at all

New data take the place of the promoted ones only through a gate: neither the triples nor the student may be worse
beyond the 95% interval, paired by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cohobate.errors import StoreError, VerifierError
from cohobate.files import storage_errors, write_json_atomic
from cohobate.store import Artifact, Store, data_root

_FOLDER = "promoted"


class Promotion(BaseModel):
    """The promoted artifact of each stage of a recipe. at: UTC; why: in words."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    artifacts: dict[str, str]
    fingerprints: dict[str, str]
    at: str
    why: str


@dataclass(frozen=True)
class Decision:
    """What the gate says. refused: why not, a sentence each; said: what it looked at; found: the triples compared."""

    changed: bool
    refused: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    found: dict[str, Any] | None = None


def promoted(recipe: str) -> Promotion | None:
    """What is promoted of the recipe of that name. Raises StoreError for a pointer that cannot be read."""
    path = _path(recipe)
    return _read(path) if path.is_file() else None


def everything() -> list[Promotion]:
    """All promotions, by recipe. Raises StoreError as `promoted`."""
    return [_read(path) for path in sorted((data_root() / _FOLDER).glob("*.json"))]


def promote(recipe: str, artifacts: Sequence[Artifact], why: str) -> Promotion:
    """Point at `artifacts`, one a stage; stages that are not among them stay as they were."""
    before = promoted(recipe)
    pointer = Promotion(
        recipe=recipe,
        artifacts={**(before.artifacts if before else {}), **{a.stage: a.id for a in artifacts}},
        fingerprints={**(before.fingerprints if before else {}), **{a.stage: a.fingerprint for a in artifacts}},
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        why=why,
    )
    with storage_errors(data_root()):
        write_json_atomic(_path(recipe), pointer.model_dump(mode="json"))
    return pointer


def lineage(store: Store, artifact: Artifact) -> list[Artifact]:
    """The artifact and all that it was made from, as far as it is still stored: itself first."""
    known = {each.fingerprint: each for each in store.all()}
    found, queue = {artifact.fingerprint: artifact}, [artifact]
    while queue:
        for parent in queue.pop(0).manifest.parents:
            if parent.fingerprint in known and parent.fingerprint not in found:
                found[parent.fingerprint] = known[parent.fingerprint]
                queue.append(known[parent.fingerprint])
    return list(found.values())


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
    from cohobate import compare

    if old is None or new is None:
        return [], [], None
    if old.fingerprint == new.fingerprint:
        return [], [f"the triples are {old.id}, as before"], None
    found = compare.compare(compare.read(old), compare.read(new))
    try:
        found["gate"] = compare.gate(found, allowed)
    except VerifierError as error:
        found["gate"] = {"passed": False, "allowed": allowed, "reasons": [str(error)]}
    return list(found["gate"]["reasons"]), [f"{new.id} was compared with {old.id}"], found


def _students(old: dict[str, Artifact], new: dict[str, Artifact], allowed: float) -> list[tuple[str, bool]]:
    """(what was found, whether that is worse than allowed) of each split and decoding of the last trained student."""
    name = next((stage for stage, artifact in reversed(new.items()) if (artifact.path / "model").is_dir()), None)
    if name is None or name not in old or "evaluation" not in old or "evaluation" not in new:
        return []
    import polars as pl

    from cohobate.statistics import paired

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
        mean, low, high = paired((rows["share_new"] - rows["share"]).to_list())
        interval = f"{mean:+.1%} [{low:+.1%}, {high:+.1%}] over {len(rows):,} questions"
        found.append((f"accuracy of {name} on {split}, {decoding}: {interval}", high < -allowed))
    return found


def _stored(before: Promotion | None) -> dict[str, Artifact]:
    """The promoted artifacts that are still there, by stage."""
    known = {artifact.fingerprint: artifact for artifact in Store().all()}
    marks = before.fingerprints if before else {}
    return {stage: known[mark] for stage, mark in marks.items() if mark in known}


def _path(recipe: str) -> Path:
    return data_root() / _FOLDER / f"{recipe}.json"


def _read(path: Path) -> Promotion:
    try:
        return Promotion.model_validate_json(path.read_bytes())
    except ValueError:
        raise StoreError(f"{path} cannot be read as a promotion; delete it, and promote again") from None
