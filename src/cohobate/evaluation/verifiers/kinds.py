"""The kinds of verifier, by the name that a recipe gives.

To add one: a file beside this one with a function `Verification -> Verifier`, a line of VERIFIERS here, and its name in
config/triples.py, which documents the values of `triples.verifier`. Whatever can hang or crash runs in worker processes
(PooledVerifier).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cohobate.config import Verification
from cohobate.evaluation.verifiers import checks, exact, function, judge, numeric, phrase, symbolic
from cohobate.evaluation.verifiers.verdict import Verifier

VERIFIERS: Mapping[str, Callable[[Verification], Verifier]] = {
    "exact": lambda spec: exact.EXACT,
    "numeric": numeric.verifier,
    "math": symbolic.verifier,
    "phrase": lambda spec: phrase.PhraseVerifier(),
    "checks": lambda spec: checks.CHECKS,
    "judge": judge.verifier,
}


def verifier(spec: Verification) -> Verifier:
    """The verifier of a recipe; a name that is none of VERIFIERS is the user's own module:function.

    Raises VerifierError for a user's function without its module, ModelError for a judge without its folder.
    """
    return VERIFIERS.get(spec.name, function.verifier)(spec)
