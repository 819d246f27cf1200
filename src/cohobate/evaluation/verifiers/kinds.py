"""The kinds of verifier, by the name that a recipe gives.

To add one: a file beside this one with a function `Verification -> Verifier`, a function and a line of VERIFIERS here
(each loads its own module alone: together they take a twentieth of a second), and its name in config/triples.py, which
documents the values of `triples.verifier`. Whatever can hang or crash runs in worker processes (PooledVerifier).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cohobate.config import Verification
from cohobate.evaluation.verifiers.verdict import Verifier


def verifier(spec: Verification) -> Verifier:
    """The verifier of a recipe; a name that is none of VERIFIERS is a plug-in or the user's own module:function.

    Raises VerifierError for a user's function without its module, ModelError for a judge without its folder.
    """
    return VERIFIERS.get(spec.name, _function)(spec)


def _exact(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.exact import EXACT

    return EXACT


def _numeric(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.numeric import verifier

    return verifier(spec)


def _math(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.symbolic import verifier

    return verifier(spec)


def _phrase(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.phrase import PhraseVerifier

    return PhraseVerifier()


def _checks(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.checks import CHECKS

    return CHECKS


def _judge(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.judge import verifier

    return verifier(spec)


def _function(spec: Verification) -> Verifier:
    from cohobate.evaluation.verifiers.function import verifier

    return verifier(spec)


VERIFIERS: Mapping[str, Callable[[Verification], Verifier]] = {
    "exact": _exact,
    "numeric": _numeric,
    "math": _math,
    "phrase": _phrase,
    "checks": _checks,
    "judge": _judge,
}
