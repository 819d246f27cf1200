"""Verification: a verdict is a label beside the sample, never a deletion.

A verifier has a name and a version, so that a better one relabels what is stored without asking the teacher again.
What can hang or crash (`math`, and functions of the user) runs in worker processes that can be killed: verify_pool.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cohobate.config import Verification
from cohobate.core import interrupts
from cohobate.core.answer_text import exactly
from cohobate.core.errors import VerifierError
from cohobate.core.fingerprint import hash_file
from cohobate.evaluation.verifiers import judge as judging
from cohobate.evaluation.verifiers.numeric import compare, read_number
from cohobate.evaluation.verifiers.pool import Job, load, verdicts
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, FAILED, Case, Verdict, Verifier

# Fields of the recipe that a verifier looks at.
_SEEN = {
    "exact": {"majority"},
    "numeric": {"majority", "tolerance"},
    "math": {"majority", "seconds"},
    "judge": {"majority"},
    "function": {"majority", "seconds"},
}
# A function of the user that fails on every one of so many first cases has a mistake in it.
_ALL_FAIL = 20
# math-verify rounds decimals to six places: what differs by more is another number for it too.
_CLEARLY = Fraction(1, 100_000)


def _exact(answer: str, gold: str) -> Verdict:
    return CORRECT if exactly(answer, gold) else ANOTHER


def _math(answer: str, gold: str) -> Verdict | None:
    """What needs no algebra: the same text, or two plain numbers that are equal or clearly not."""
    if " ".join(answer.split()) == " ".join(gold.split()):
        return CORRECT
    a, b = read_number(answer), read_number(gold)
    if a is None or b is None or not (a.plain and b.plain):
        return None
    if a.value == b.value:
        return CORRECT
    return ANOTHER if abs(a.value - b.value) > _CLEARLY else None


EXACT = Verifier("exact", 1, _exact)
MATH = Verifier("math", 1, _math)


def numeric(tolerance: float) -> Verifier:
    """Numbers within a relative `tolerance`; the same text is correct even where it is no number."""

    def decide(answer: str, gold: str) -> Verdict:
        return CORRECT if exactly(answer, gold) else compare(answer, gold, tolerance)

    return Verifier("numeric", 1, decide)


def verifier(spec: Verification) -> Verifier:
    """The verifier of a recipe.

    Raises VerifierError for a user's function without its module, ModelError for a judge without its folder.
    """
    if spec.name == "exact":
        return EXACT
    if spec.name == "numeric":
        return numeric(spec.tolerance)
    if spec.name == "math":
        return MATH
    if spec.judge is not None and spec.name == "judge":
        return Verifier(judging.name(spec.judge), 1, lambda answer, gold: None)
    # Part of the name, so that two versions of a function give two labels.
    return Verifier(f"{spec.name}@{_source_hash(spec.name)[:8]}", 1, lambda answer, gold: None)


def identity(spec: Verification) -> dict[str, Any]:
    """What changes the verdicts, without what this verifier does not look at.

    Raises VerifierError for a user's function without its module, ModelError for a judge without its folder.
    """
    chosen = verifier(spec)
    seen = {name: value for name, value in spec.identity().items() if name in _SEEN.get(spec.name, _SEEN["function"])}
    values = {**seen, "name": chosen.name, "version": chosen.version}
    if spec.judge is not None and spec.name == "judge":
        values["judge"] = judging.identity(spec.judge)
    if spec.name == "math":
        values["library"] = version("math-verify")
    return values


def judge(
    spec: Verification,
    cases: Sequence[Case],
    done: Callable[[int], None] = lambda count: None,
    paid_by: str = "verdicts",
) -> list[Verdict]:
    """A verdict for each case, in order; the same ones with any number of workers.

    done: called with the number of cases newly decided. paid_by: who asks the judge, if it is one. Raises VerifierError
    when the user's function cannot be loaded, or fails on each of the first cases; EndpointError and TeacherError of
    the judge.
    """
    if spec.judge is not None and spec.name == "judge":
        return judging.decide(spec.judge, cases, done, paid_by)
    chosen, own = verifier(spec), spec.is_function
    found = [_own(case) if own else chosen.look(case) for case in cases]
    places: dict[tuple[str | None, ...], list[int]] = {}
    for place, case in enumerate(cases):
        if found[place] is None:
            payload = (case.answer, case.gold, *((case.question, case.response) if own else ()))
            places.setdefault(payload, []).append(place)
    done(len(cases) - sum(map(len, places.values())))
    if places:
        _ask_workers(spec, places, found, done)
    assert all(verdict is not None for verdict in found)
    return [verdict for verdict in found if verdict is not None]


def _own(case: Case) -> Verdict | None:
    """The user's function judges everything but what was cut before its answer."""
    return Verdict("undecided", "truncated") if case.truncated and case.answer is None else None


def _ask_workers(
    spec: Verification,
    places: dict[tuple[str | None, ...], list[int]],
    found: list[Verdict | None],
    done: Callable[[int], None],
) -> None:
    """Fill the gaps of `found`; equal payloads are judged once."""
    payloads = list(places)
    job = Job(spec.name, spec.seconds, spec.workers)
    for place, verdict in verdicts(job, payloads):
        targets = places[payloads[place]]
        for target in targets:
            found[target] = verdict
        done(len(targets))
        interrupts.check()
        if spec.is_function:
            _refuse_a_broken_function(spec, [found[places[payload][0]] for payload in payloads[:_ALL_FAIL]])


def _refuse_a_broken_function(spec: Verification, first: list[Verdict | None]) -> None:
    if len(first) == _ALL_FAIL and all(v is not None and (v.reason or "").startswith(FAILED) for v in first):
        assert first[0] is not None
        raise VerifierError(
            f"triples.verifier: {spec.name} fails on each of the first {_ALL_FAIL} samples ({first[0].reason}); mend "
            "the function, and try it on one sample"
        )


def check(spec: Verification) -> None:
    """Refuse before spending: load a user's function once, look for the judge's key or folder.

    Raises VerifierError, EndpointError or ModelError.
    """
    verifier(spec)
    if spec.judge is not None and spec.name == "judge":
        judging.check(spec.judge)
    if spec.is_function:
        load(Job(spec.name, spec.seconds, 1))


def _source_hash(name: str) -> str:
    """sha256 of the source of the module in `module:function`; the module is found, not run."""
    module = name.partition(":")[0]
    before = list(sys.path)
    try:
        sys.path.insert(0, str(Path.cwd()))  # where workers look first
        found = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        found = None
    finally:
        sys.path[:] = before
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise VerifierError(
            f"triples.verifier: there is no module '{module}' with a source file for '{name}'; give "
            "module:function of a file in the working directory or of an installed package"
        )
    return hash_file(Path(found.origin))
