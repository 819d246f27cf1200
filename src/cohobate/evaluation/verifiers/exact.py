"""The verifier `exact`: the same text but for case, spaces, $ and thousands separators."""

from __future__ import annotations

from cohobate.core.answer_text import exactly
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, ComparingVerifier, Verdict


def compare(answer: str, gold: str) -> Verdict:
    """Whether the normalised texts are equal."""
    return CORRECT if exactly(answer, gold) else ANOTHER


EXACT = ComparingVerifier("exact", 1, compare)
