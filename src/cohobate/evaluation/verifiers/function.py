"""The verifier `module:function`, or a plug-in: a function of the user, which judges with or without a gold answer.

It is called with the keywords answer, gold, question and response. It returns True, False or None (undecided), alone or
in a pair with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from cohobate import VERIFIER_ENTRY_POINTS
from cohobate.config import Verification
from cohobate.core import plug_ins
from cohobate.core.errors import VerifierError
from cohobate.core.user_code import is_function_name, source_hash
from cohobate.evaluation.verifiers.pool import Job, Payload, try_start
from cohobate.evaluation.verifiers.pooled import PooledVerifier
from cohobate.evaluation.verifiers.verdict import FAILED, TRUNCATED, Case, Verdict

# A function that fails on every one of so many first cases has a mistake in it.
_ALL_FAIL = 20


class FunctionVerifier(PooledVerifier):
    """Judges everything but what was cut before or in its answer."""

    def at_once(self, case: Case) -> Verdict | None:
        """Undecided for a response that was cut before or in its answer."""
        return TRUNCATED if case.is_cut else None

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

    The hash of the module's source is part of the name, so that two versions of a function give two labels; of a
    plug-in its package and that one's version too.
    """
    setting, function = "triples.verifier", spec.name
    if is_function_name(function):
        name = f"{function}@{source_hash(function, setting, VerifierError)[:8]}"
    else:
        plug_in = plug_ins.plug_ins(VERIFIER_ENTRY_POINTS)[spec.name]  # the recipe was refused without it
        source = plug_in.identity(setting, VerifierError)["source"]
        name = f"{spec.name}@{source[:8]} of {plug_in.distribution} {plug_in.version}"
        function = plug_in.value
    return FunctionVerifier(name, 1, {"seconds": spec.seconds}, Job(function, spec.seconds, spec.workers))
