"""The verifier `module:function`: a function of the user, which judges with or without a gold answer.

It is called with the keywords answer, gold, question and response. It returns True, False or None (undecided), alone or
in a pair with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cohobate.config import Verification
from cohobate.core.errors import VerifierError
from cohobate.core.fingerprint import hash_file
from cohobate.evaluation.verifiers.pool import Job, Payload, try_start
from cohobate.evaluation.verifiers.pooled import PooledVerifier
from cohobate.evaluation.verifiers.verdict import FAILED, TRUNCATED, Case, Verdict

# A function that fails on every one of so many first cases has a mistake in it.
_ALL_FAIL = 20


class FunctionVerifier(PooledVerifier):
    """Judges everything but what was cut before its answer."""

    def at_once(self, case: Case) -> Verdict | None:
        """Undecided for a response that was cut before its answer."""
        return TRUNCATED if case.cut_before_answer else None

    def payload(self, case: Case) -> Payload:
        """The arguments of the function."""
        return case.answer, case.gold, case.question, case.response

    def check(self) -> None:
        """Load the function in a worker. Raises VerifierError where that fails."""
        try_start(self.job)

    def watch(self, verdicts: Sequence[Verdict | None]) -> None:
        """Raise VerifierError where the function fails on every one of the first cases."""
        first = verdicts[:_ALL_FAIL]
        failures = [verdict for verdict in first if verdict and (verdict.reason or "").startswith(FAILED)]
        if len(failures) == _ALL_FAIL:
            raise VerifierError(
                f"triples.verifier: {self.job.name} fails on each of the first {_ALL_FAIL} samples "
                f"({failures[0].reason}); mend the function, and try it on one sample"
            )


def verifier(spec: Verification) -> FunctionVerifier:
    """The function that the recipe names. Raises VerifierError without its module.

    The hash of the module's source is part of the name, so that two versions of a function give two labels.
    """
    name = f"{spec.name}@{_source_hash(spec.name)[:8]}"
    return FunctionVerifier(name, 1, {"seconds": spec.seconds}, Job(spec.name, spec.seconds, spec.workers))


def _source_hash(name: str) -> str:
    """sha256 of the source of the module in `module:function`; the module is located, not run."""
    module = name.partition(":")[0]
    before = list(sys.path)
    try:
        sys.path.insert(0, str(Path.cwd()))  # where workers look first
        source = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        source = None
    finally:
        sys.path[:] = before
    if source is None or not source.origin or not Path(source.origin).is_file():
        raise VerifierError(
            f"triples.verifier: there is no module '{module}' with a source file for '{name}'; give "
            "module:function of a file in the working directory or of an installed package"
        )
    return hash_file(Path(source.origin))
