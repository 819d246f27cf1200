"""The gate: whether new artifacts may replace the promoted ones, by the checks of `gate_checks` and of the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cohobate.config import Gate
from cohobate.config.load import make_section
from cohobate.core.errors import VerifierError
from cohobate.core.statistics import paired
from cohobate.datasets.diff import DatasetDiff, diff, read
from cohobate.datasets.gate_checks import Check, checks, first
from cohobate.store.artifacts import Artifact, Store, verify
from cohobate.store.manifest import PROMOTED
from cohobate.store.promotion import Promotion, promoted

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Check", "Decision", "GateResult", "decide", "gate", "limits_of", "with_checks"]


@dataclass(frozen=True)
class GateResult:
    """Whether B passes, and each check with its verdict."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.reasons

    @property
    def reasons(self) -> list[str]:
        """Why it does not pass."""
        return [check.reason for check in self.checks if check.reason]

    def as_json(self) -> dict[str, Any]:
        """{passed, reasons, checks}."""
        return {
            "passed": self.passed,
            "reasons": self.reasons,
            "checks": [check.as_json() for check in self.checks],
        }


@dataclass(frozen=True)
class Decision:
    """Whether new artifacts may be promoted.

    changed: whether there is anything to promote. checks: of the triples and of the student. objections: why they may
    not be. remarks: the other results of the comparison. Both hold sentences. triples: the diff of the triples with its
    gate, where both sides have any.
    """

    changed: bool
    checks: tuple[Check, ...] = ()
    objections: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    triples: tuple[DatasetDiff, GateResult] | None = None


def gate(datasets: DatasetDiff, allowed: float = 0.0, limits: Gate | None = None) -> GateResult:
    """Check B against A, by `limits` (None: the defaults), of which none is less than `allowed`.

    Raises VerifierError when A and B were judged by different verifiers.
    """
    a, b = datasets.a, datasets.b
    if a.verifier != b.verifier:
        raise VerifierError(
            f"{a.id} was judged by {a.verifier} and {b.id} by {b.verifier}, so their pass rates do not "
            "compare; judge one of them again with `cohobate verify ID --verifier NAME` and compare the labels"
        )
    return GateResult(tuple(checks(datasets, (limits or Gate()).loosened(allowed))))


def limits_of(artifact: Artifact) -> Gate:
    """Those of the recipe that made `artifact`. Raises RecipeError where its section is damaged."""
    return make_section(Gate, artifact.manifest.config.get("gate", {}), f"the recipe of {artifact.id}: gate")


def decide(
    recipe: str,
    artifacts: Sequence[Artifact],
    allowed: float = 0.0,
    against: Artifact | None = None,
    limits: Gate | None = None,
) -> Decision:
    """Whether `artifacts` may replace the promoted ones of `recipe`.

    against: triples to compare with beside the promoted ones. allowed, limits: as in `gate`. Artifacts that are older
    than the promotion do not undo it. Raises DamagedFileError for one that was altered.
    """
    loosened = (limits or Gate()).loosened(allowed)
    pointer = promoted(recipe)
    differing = [a for a in artifacts if not pointer or pointer.fingerprints.get(a.stage) != a.fingerprint]
    if not differing:
        return Decision(False, remarks=["everything is as it was promoted"])
    if pointer and all(a.manifest.created_at <= pointer.at for a in differing):
        older = f"{differing[-1].id} is older than the promotion of {pointer.at[:19]} UTC, which stands"
        return Decision(False, remarks=[older])
    new = {artifact.stage: artifact for artifact in artifacts}
    old = _stored(pointer)
    objections, remarks, of_triples, triples = _all_triples(against, old.get("triples"), new.get("triples"), loosened)
    objections += _lost(pointer, old, new)
    unmeasured, students = _students(pointer, old.get("evaluation"), new.get("evaluation"), loosened)
    objections += unmeasured
    objections += [check.reason for check in students if check.reason]
    remarks += [_sentence(check) for check in students if not check.reason]
    return Decision(True, (*of_triples, *students), objections, remarks or ["nothing was promoted before"], triples)


def with_checks(decision: Decision, further: Sequence[Check]) -> Decision:
    """The decision with other checks, which count where there is anything to promote."""
    reasons = [check.reason for check in further if check.reason and decision.changed]
    return replace(decision, checks=(*decision.checks, *further), objections=[*decision.objections, *reasons])


def _all_triples(
    against: Artifact | None, promoted: Artifact | None, new: Artifact | None, limits: Gate
) -> tuple[list[str], list[str], list[Check], tuple[DatasetDiff, GateResult] | None]:
    """Objections, remarks and checks of the new triples against both others, and the diff with the first of them."""
    others = {each.fingerprint: each for each in (against, promoted) if each}
    if new and not others:
        made = list(first(read(new), limits))
        return [check.reason for check in made if check.reason], [], made, None
    objections: list[str] = []
    remarks: list[str] = []
    of_triples: list[Check] = []
    shown = None
    for other in others.values():
        refused, notes, compared = _triples(other, new, limits)
        several = len(others) > 1
        objections += [f"against {other.id}: {reason}" for reason in refused] if several else refused
        remarks += notes
        if compared:
            shown = shown or compared
            checks = compared[1].checks
            of_triples += [replace(each, part=f"{each.part}, {other.id}") for each in checks] if several else checks
    return objections, remarks, of_triples, shown


def _triples(
    old: Artifact | None, new: Artifact | None, limits: Gate
) -> tuple[list[str], list[str], tuple[DatasetDiff, GateResult] | None]:
    """Objections, remarks, and the diff with its gate."""
    if old is None or new is None:
        return [], [], None
    if old.fingerprint == new.fingerprint:
        return [], [f"the triples are {old.id}, as before"], None
    datasets = diff(read(old), read(new))
    try:
        result = gate(datasets, limits=limits)
    except VerifierError as error:
        verifiers = datasets.a.verifier or "", datasets.b.verifier or ""
        unlike = Check("verifier", " and ".join(verifiers), 0, None, None, paired([]), "the same", str(error))
        result = GateResult((unlike,))
    return list(result.reasons), [f"{new.id} was compared with {old.id}"], (datasets, result)


def _students(
    pointer: Promotion | None, old: Artifact | None, new: Artifact | None, limits: Gate
) -> tuple[list[str], list[Check]]:
    """Objections, and the accuracy of the last student of two evaluations, by the splits and decodings of the old one.

    The evaluations alone say which students those are: their folders may be gone, and one run may train in another
    stage than the other. Where the new evaluation has measured the promoted student too, its answers there count: they
    are to the same questions, the new ones among them.
    """
    beside = new if new and _is_beside(pointer, new) else None
    old = beside or old
    before = PROMOTED if beside else _last_student(old) if old else None
    if old is None or new is None or before is None:
        return [], []
    after = _last_student(new)
    if after is None:
        return [f"{new.id} measures no trained student, and {old.id}, which was promoted, measures {before}"], []
    keys = ["split", "decoding", "question_id"]
    shares = _shares(old, before, keys)
    if not len(shares):
        return [f"{old.id} holds no answer of {before}, so nothing says whether {new.id} is worse"], []
    both = shares.join(_shares(new, after, keys), on=keys, how="left", suffix="_new").sort(keys)
    name = after if after == before else f"{after} (before: {before})"
    return [], [
        _student(f"accuracy of {name} on {split}, {decoding}", rows.drop_nulls("share_new"), limits)
        for (split, decoding), rows in both.group_by("split", "decoding", maintain_order=True)
    ]


def _is_beside(pointer: Promotion | None, evaluation: Artifact) -> bool:
    """Whether it has measured the promoted student too."""
    return pointer is not None and evaluation.manifest.identity.get(PROMOTED) in pointer.fingerprints.values()


def _last_student(evaluation: Artifact) -> str | None:
    """The stage that trained it; None where only the base and the teacher were measured."""
    before = evaluation.manifest.identity.get(PROMOTED)
    trained = [each for each in evaluation.manifest.parents if each.fingerprint != before]
    stages = [parent.stage for parent in trained if parent.stage != "questions"]
    return stages[-1] if stages else None


def _shares(evaluation: Artifact, student: str, keys: list[str]) -> pl.DataFrame:
    """The share of the student's answers to each question that are correct. Raises DamagedFileError."""
    import polars as pl

    verify(evaluation)
    answers = pl.scan_parquet(evaluation.path / "answers.parquet").filter(pl.col("student") == student)
    return answers.group_by(keys).agg((pl.col("verdict") == "correct").mean().alias("share")).collect()


def _student(measure: str, rows: pl.DataFrame, limits: Gate) -> Check:
    """rows: share and share_new of each question that both evaluations ask."""
    gain = paired((rows["share_new"] - rows["share"]).to_list())
    before, now = (None if not len(rows) else float(rows[name].mean()) for name in ("share", "share_new"))  # type: ignore[arg-type]
    limit = f"{limits.student:.1%}, margin {limits.student_margin:.1%}"
    check = Check("student", measure, len(rows), before, now, gain, limit)
    if gain.high < -limits.student:
        return replace(check, reason=f"{_sentence(check)}, which is worse")
    if -gain.low > limits.student + limits.student_margin:
        count = f"{len(rows):,} questions" if len(rows) else "no question"
        return replace(
            check,
            reason=f"{count} in both evaluations say too little about the {measure} (gate.student_margin = "
            f"{limits.student_margin:.1%})",
        )
    return check


def _sentence(check: Check) -> str:
    gain = check.difference
    interval = f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}]"
    return f"{check.measure}: {interval} over {check.questions:,} questions"


def _lost(pointer: Promotion | None, old: dict[str, Artifact], new: dict[str, Artifact]) -> list[str]:
    """A sentence for each promoted artifact that is not there to be compared with a new one, and for a new model that
    no evaluation measures though the promoted one was measured. A new evaluation that has measured the promoted student
    too needs no old one.
    """
    stages = [stage for stage in ("triples", "evaluation") if pointer and stage in pointer.artifacts and stage in new]
    lost = [
        f"{pointer.artifacts[stage]}, which was promoted, is not in the store, so nothing says whether "
        f"{new[stage].id} is worse"
        for stage in stages
        if pointer and stage not in old and not (stage == "evaluation" and _is_beside(pointer, new[stage]))
    ]
    model = next((each.id for each in reversed(new.values()) if (each.path / "model").is_dir()), None)
    if pointer and model and "evaluation" in pointer.artifacts and "evaluation" not in new:
        lost.append(f"nothing measures {model}, and {pointer.artifacts['evaluation']} was promoted")
    return lost


def _stored(pointer: Promotion | None) -> dict[str, Artifact]:
    """The promoted artifacts that are still in the store, by stage."""
    by_fingerprint = {artifact.fingerprint: artifact for artifact in Store().all()}
    fingerprints = pointer.fingerprints if pointer else {}
    return {stage: by_fingerprint[value] for stage, value in fingerprints.items() if value in by_fingerprint}
