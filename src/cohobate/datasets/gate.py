"""The gate: whether new artifacts may replace the promoted ones.

Neither the triples nor the student may be worse beyond the 95% interval, paired by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cohobate.core.errors import VerifierError
from cohobate.datasets.diff import DatasetDiff, diff, read
from cohobate.store.artifacts import Artifact, Store, verify
from cohobate.store.promotion import Promotion, promoted


@dataclass(frozen=True)
class GateResult:
    """Whether B passes, by how much it may be worse, and why it does not pass."""

    passed: bool
    allowed: float
    reasons: list[str]


@dataclass(frozen=True)
class Decision:
    """Whether new artifacts may be promoted.

    changed: whether there is anything to promote. objections: why they may not be. remarks: the other results of the
    comparison. Both hold sentences. triples: the diff of the triples with its gate, where both sides have any.
    """

    changed: bool
    objections: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    triples: tuple[DatasetDiff, GateResult] | None = None


def gate(datasets: DatasetDiff, allowed: float = 0.0) -> GateResult:
    """B fails where the interval of its difference to A lies wholly below -`allowed`.

    It also fails where no shared question was decided in both. Raises VerifierError when A and B were judged by
    different verifiers.
    """
    a, b, shared = datasets.a, datasets.b, datasets.shared
    if a.verifier != b.verifier:
        raise VerifierError(
            f"{a.id} was judged by {a.verifier} and {b.id} by {b.verifier}, so their pass rates do not "
            "compare; judge one of them again with `cohobate verify ID --verifier NAME` and compare the labels"
        )
    reasons = [
        f"the {name} is lower by {-difference.mean:.1%} "
        f"(95% interval {-difference.high:.1%} to {-difference.low:.1%}, allowed {allowed:.1%})"
        for name, difference in (
            ("pass rate", shared.pass_rate.difference),
            ("correct share", shared.correct_share.difference),
        )
        if difference.high < -allowed
    ]
    if not shared.pass_rate.questions:
        reasons.append("no question was decided in both")
    return GateResult(not reasons, allowed, reasons)


def decide(
    recipe: str, artifacts: Sequence[Artifact], allowed: float = 0.0, against: Artifact | None = None
) -> Decision:
    """Whether `artifacts` may replace the promoted ones of `recipe`.

    against: triples to compare with; None: the promoted ones. allowed: by how much rates may be worse, as a share.
    Artifacts that are older than the promotion do not undo it. Raises DamagedFileError for one that was altered.
    """
    pointer = promoted(recipe)
    differing = [a for a in artifacts if not pointer or pointer.fingerprints.get(a.stage) != a.fingerprint]
    if not differing:
        return Decision(False, remarks=["everything is as it was promoted"])
    if pointer and all(a.manifest.created_at <= pointer.at for a in differing):
        older = f"{differing[-1].id} is older than the promotion of {pointer.at[:19]} UTC, which stands"
        return Decision(False, remarks=[older])
    new = {artifact.stage: artifact for artifact in artifacts}
    old = _stored(pointer)
    if against:
        old["triples"] = against
    objections, remarks, triples = _triples(old.get("triples"), new.get("triples"), allowed)
    for sentence, worse in _students(old, new, allowed):
        (objections if worse else remarks).append(sentence)
    return Decision(True, objections, remarks or ["nothing was promoted before"], triples)


def _triples(
    old: Artifact | None, new: Artifact | None, allowed: float
) -> tuple[list[str], list[str], tuple[DatasetDiff, GateResult] | None]:
    """Objections, remarks, and the diff with its gate."""
    if old is None or new is None:
        return [], [], None
    if old.fingerprint == new.fingerprint:
        return [], [f"the triples are {old.id}, as before"], None
    datasets = diff(read(old), read(new))
    try:
        result = gate(datasets, allowed)
    except VerifierError as error:
        result = GateResult(False, allowed, [str(error)])
    return list(result.reasons), [f"{new.id} was compared with {old.id}"], (datasets, result)


def _students(old: dict[str, Artifact], new: dict[str, Artifact], allowed: float) -> list[tuple[str, bool]]:
    """(sentence, whether it is worse than allowed) of each split and decoding of the last trained student."""
    name = next((stage for stage, artifact in reversed(new.items()) if (artifact.path / "model").is_dir()), None)
    if name is None or name not in old or "evaluation" not in old or "evaluation" not in new:
        return []
    import polars as pl

    from cohobate.core.statistics import paired

    for side in (old, new):
        verify(side["evaluation"])
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
    sentences = []
    for (split, decoding), rows in both.group_by("split", "decoding", maintain_order=True):
        gain = paired((rows["share_new"] - rows["share"]).to_list())
        interval = f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}] over {len(rows):,} questions"
        sentences.append((f"accuracy of {name} on {split}, {decoding}: {interval}", gain.high < -allowed))
    return sentences


def _stored(pointer: Promotion | None) -> dict[str, Artifact]:
    """The promoted artifacts that are still in the store, by stage."""
    by_fingerprint = {artifact.fingerprint: artifact for artifact in Store().all()}
    fingerprints = pointer.fingerprints if pointer else {}
    return {stage: by_fingerprint[value] for stage, value in fingerprints.items() if value in by_fingerprint}
