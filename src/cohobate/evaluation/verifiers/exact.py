"""The verifier `exact`: the same text but for case, spaces, marks of emphasis, $ and thousands separators."""

from __future__ import annotations

import re
import unicodedata

from cohobate.core.answer_text import exactly
from cohobate.core.answer_value import clean
from cohobate.evaluation.mathematics.quantities import read_number, tidy
from cohobate.evaluation.mathematics.quantity_comparison import compare_quantities, unless_convention
from cohobate.evaluation.verifiers.choices import same_choice
from cohobate.evaluation.verifiers.phrases import holds
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, ComparingVerifier, Verdict

OTHER_FORM = Verdict("undecided", "the same number in another form")
OTHER_SPELLING = Verdict("undecided", "another spelling, or another order")
IN_A_SENTENCE = Verdict("undecided", "the gold answer in a longer one")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*)", re.ASCII)
_SYMBOL = re.compile(r"\w+|[^\w\s,;.(){}\[\]\"'“”‘’«»\\$`*?!]")
_NUMBER_WORDS = re.compile(
    r"(?:(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|half|third|quarter|minus|and|a|an|dozen)s?[-\s]*)+",
    re.IGNORECASE,
)


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
    if _other_form(answer, gold):
        return OTHER_FORM
    if _symbols(answer) == _symbols(gold):
        return OTHER_SPELLING
    if len(answer.split()) > len(gold.split()) and holds(answer, gold):
        return IN_A_SENTENCE
    return ANOTHER


def _other_form(answer: str, gold: str) -> bool:
    """Whether both may be the same number: 0.1 and 10 %, 42 and forty-two, 42 and 42! (emphatic, or a factorial)."""
    a, b = read_number(answer), read_number(gold)
    if a and b:
        return compare_quantities(a, b, 0) is not ANOTHER or unless_convention(answer, gold, a, b) is not ANOTHER
    if answer.endswith("!") and exactly(answer.rstrip("! "), gold):
        return True
    return any(number and _NUMBER_WORDS.fullmatch(words) for number, words in ((a, gold.strip()), (b, answer.strip())))


def _symbols(text: str) -> list[str]:
    """The words, numbers and signs in any order; without accents, brackets, quotation marks and hyphens in words."""
    plain = unicodedata.normalize("NFKD", text).casefold().replace("ß", "ss")
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return sorted(_SYMBOL.findall(re.sub(r"(?<=[^\W\d_])[-’'](?=[^\W\d_])", "", plain)))


def _bare(text: str) -> str:
    return clean(tidy(text)) or text


EXACT = ComparingVerifier("exact", 2, compare)
