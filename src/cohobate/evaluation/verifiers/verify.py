"""Run a verifier on cases: a verdict is a label beside the sample, never a deletion.

A verifier has a name and a version, so that a better one relabels the stored triples without asking the teacher again.

kinds.py says which verifiers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cohobate.config import Verification
from cohobate.evaluation.verifiers.kinds import verifier
from cohobate.evaluation.verifiers.verdict import Case, Verdict


def identity(spec: Verification) -> dict[str, Any]:
    """The inputs of the verdicts, as JSON values; settings that this verifier does not read are left out.

    Raises VerifierError for a user's function without its module, ModelError for a judge without its folder.
    """
    chosen = verifier(spec)
    return {"majority": spec.majority, **chosen.settings, "name": chosen.name, "version": chosen.version}


def verdicts_of(
    spec: Verification,
    cases: Sequence[Case],
    done: Callable[[int], None] = lambda count: None,
    paid_by: str = "verdicts",
) -> list[Verdict]:
    """A verdict for each case, in order; the same ones with any number of workers.

    done: called with the number of cases newly decided. paid_by: who pays for a judge's replies. Raises VerifierError
    when the user's function cannot be loaded, or fails on each of the first cases; EndpointError and TeacherError of
    the judge.
    """
    return verifier(spec).verdicts(cases, done, paid_by)


def check(spec: Verification) -> None:
    """Refuse before spending: load a user's function once, look for the judge's key or folder.

    Raises VerifierError, EndpointError or ModelError.
    """
    verifier(spec).check()
