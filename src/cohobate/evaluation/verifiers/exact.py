"""The verifier `exact`: the same text but for case, spaces, marks of emphasis, $ and thousands separators."""

from __future__ import annotations

import re

from cohobate.core.answer_text import exactly
from cohobate.core.answer_value import clean
from cohobate.evaluation.mathematics.quantities import read_number, tidy
from cohobate.evaluation.verifiers.choices import same_choice
from cohobate.evaluation.verifiers.phrases import holds
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, ComparingVerifier, Verdict

OTHER_FORM = Verdict("undecided", "the same number in another form")
IN_A_SENTENCE = Verdict("undecided", "the gold answer in a longer one")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*)", re.ASCII)
# An answer with so many more words than the gold answer is a sentence.
_SENTENCE = 3


def compare(answer: str, gold: str) -> Verdict:
    """Whether the normalised texts are equal, or the same choice.

    Undecided for the same number in another form, and for a sentence that holds the gold answer.
    """
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return CORRECT if answer.lstrip("+") == gold.lstrip("+") else ANOTHER
    if exactly(answer, gold) or exactly(_bare(answer), _bare(gold)):
        return CORRECT
    choice = same_choice(answer, gold)
    if choice is not None:
        return CORRECT if choice else ANOTHER
    a, b = read_number(answer), read_number(gold)
    if a and b and a.value == b.value and (a.unit == b.unit or a.plain or b.plain):
        return OTHER_FORM
    if len(answer.split()) >= len(gold.split()) + _SENTENCE and holds(answer, gold):
        return IN_A_SENTENCE
    return ANOTHER


def _bare(text: str) -> str:
    return clean(tidy(text)) or text


EXACT = ComparingVerifier("exact", 2, compare)
