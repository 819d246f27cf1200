"""The verifier `numeric`: the same number, or the same text.

Numbers are read as people and LaTeX write them: 1,234.5, 3/4, 1 1/2, 6.02e23, 12 %, $5, 5 cm, 5 h 30 min.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohobate.core.answer_text import exactly
from cohobate.evaluation.mathematics.quantities import read_number
from cohobate.evaluation.mathematics.quantity_comparison import ATTACHED, compare_quantities, unless_convention
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, NO_ANSWER, NO_GOLD, ComparingVerifier, Verdict

if TYPE_CHECKING:
    from cohobate.config import Verification


def verifier(spec: Verification) -> ComparingVerifier:
    """Numbers within the recipe's relative tolerance; the same text is correct even where it is no number."""

    def decide(answer: str, gold: str) -> Verdict:
        return CORRECT if exactly(answer, gold) else compare(answer, gold, spec.tolerance)

    return ComparingVerifier("numeric", 2, decide, {"tolerance": spec.tolerance})


def compare(answer: str, gold: str, tolerance: float) -> Verdict:
    """Whether two numbers are equal: integers exactly, others within a relative `tolerance` of the gold one."""
    expected = read_number(gold)
    if expected is None:
        return NO_GOLD
    actual = read_number(answer)
    if actual is None:
        return NO_ANSWER
    verdict = compare_quantities(actual, expected, tolerance)
    if verdict is ATTACHED and expected.plain:  # letters are units here
        return CORRECT
    return verdict if verdict is not ANOTHER else unless_convention(answer, gold, actual, expected)
