"""The verifier `phrase`: short facts, answered in a sentence.

Correct where the gold answer stands as whole words in the final statement: the stated answer, or where the response
states none, its last sentence. Undecided where the sentence denies or doubts something, where another candidate stands
beside it, and where a sign, a word such as million, or a relation such as near makes another answer of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cohobate.core.answer_parsing import after_thinking
from cohobate.core.answer_text import exactly
from cohobate.evaluation.verifiers.beside import is_listed, is_qualified
from cohobate.evaluation.verifiers.exact import compare
from cohobate.evaluation.verifiers.phrases import holds, last_sentence, place, words
from cohobate.evaluation.verifiers.verdict import (
    ANOTHER,
    CORRECT,
    NO_FINAL_ANSWER,
    TRUNCATED,
    Case,
    Verdict,
    without_gold,
)

DENIED = Verdict("undecided", "a denial beside the gold answer")
CANDIDATES = Verdict("undecided", "two candidates")
QUALIFIED = Verdict("undecided", "a sign or words beside the gold answer")
ELSEWHERE = Verdict("undecided", "the gold answer in another sentence than the last")
IN_PART = Verdict("undecided", "a part of the gold answer")
_DENIALS = frozenset(
    [
        "not",
        "never",
        "no",
        "nor",
        "neither",
        "without",
        "except",
        "instead",
        "rather",
        "isn't",
        "wasn't",
        "aren't",
        "weren't",
        "doesn't",
        "didn't",
        "don't",
        "can't",
        "cannot",
        "nicht",
        "kein",
        "keine",
        "pas",
        "ne",
        "non",
        "no",
        "не",
        "не́т",
        "không",
        "不",
        "没",
        "没有",
        "ない",
        "bukan",
    ]
)
_OR = frozenset(["or", "either", "oder", "ou", "или", "hoặc", "atau", "lub", "eller", "或", "或者", "还是", "または"])
_UNKNOWN = re.compile(
    r"\b(?:(?:do|does|did)(?: not|n't) (?:know|have)|not sure|unsure|unable to|cannot|"
    r"can't|unknown|not known|unclear|no one knows|nobody knows|no information|"
    r"weiß (?:es )?nicht|ne sais pas|no sé|не знаю)\b|不知道|わかりません|모르",
    re.IGNORECASE,
)
# Denials and doubts that are no single words.
_DOUBT = re.compile(
    r"\b(?:incorrect|wrong|false|mistaken|myth|used to be|formerly|previously|no longer|hardly|unlikely|"
    r"(?:could|might|may) (?:be|have)|maybe|perhaps|possibly|vielleicht|peut-être|quizás|talvez|forse|"
    r"возможно|может быть)\b"
    r"|ではあり?ま?せん|で[はも]ない|じゃない|かもしれ|아닙니다|아니|不是|并非|並非|也许|可能|ไม่ใช่",
    re.IGNORECASE,
)
# Doubts that a question may have asked for.
_HEDGES = re.compile(
    r"\b(?:(?:doubt|disput|reject|refut|debunk|disprov)\w*|den(?:y|ies|ied|ying)|fail(?:s|ed)? to|if|unless|barely|"
    r"almost|allegedly|supposedly|reportedly|rumou?r\w*|would (?:be|have)|should have|"
    r"(?:people|some|many|they|critics|scholars) (?:say|think|believe|claim|argue)|"
    r"is (?:\w+ )?(?:said|thought|believed|claimed|alleged))\b",
    re.IGNORECASE,
)
# Before a name they make another one: New York, South Korea.
_OTHER_PLACE = (
    r"(?:New|North|Northern|South|Southern|East|Eastern|West|Western|Old|Upper|Lower|Little|San|Santa|Port|Fort)"
)
_NUMBER_WORD = re.compile(r"(?:hundred|thousand|million|billion|dozen)s?")
_CAPITALISED = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_OPENINGS = frozenset(
    [
        "the",
        "a",
        "an",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "in",
        "on",
        "at",
        "he",
        "she",
        "they",
        "there",
        "yes",
        "no",
        "i",
        "we",
        "you",
        "my",
        "our",
        "his",
        "her",
        "their",
        "as",
        "according",
        "based",
        "sure",
        "certainly",
        "of",
        "for",
        "by",
        "from",
        "to",
        "with",
        "when",
        "while",
        "since",
        "so",
        "therefore",
        "thus",
        "and",
        "but",
        "actually",
        "der",
        "die",
        "das",
        "es",
        "er",
        "sie",
        "le",
        "la",
        "les",
        "el",
        "il",
        "un",
        "une",
        "in",
        "im",
        "am",
        "o",
        "a",
    ]
)


@dataclass(frozen=True)
class PhraseVerifier:
    """Compares words; needs no worker."""

    name: str = "phrase"
    version: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing can be wrong."""

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order."""
        verdicts = [verdict(case) for case in cases]
        done(len(verdicts))
        return verdicts


def verdict(case: Case) -> Verdict:
    """The verdict on the final statement of a response."""
    if (undecidable := without_gold(case)) is not None:
        return undecidable
    gold = case.gold or ""
    if case.is_cut:
        return TRUNCATED
    visible = after_thinking(case.response)
    statement = case.answer or last_sentence(visible)
    if not words(statement):
        return NO_FINAL_ANSWER
    if compare(statement, gold) == CORRECT:
        return CORRECT
    if case.answer is None and _UNKNOWN.search(statement):
        return NO_FINAL_ANSWER
    if place(words(statement), words(gold)) is None:
        return _absent(statement, gold, "" if case.answer else visible)
    return _present(statement, gold, case.question)


def _absent(statement: str, gold: str, visible: str) -> Verdict:
    """The verdict where the gold answer does not stand in the statement."""
    if holds(visible, gold):
        return ELSEWHERE
    if _in_other_words(words(statement), words(gold)):
        return IN_PART
    shared = {word for word in set(words(statement)) & set(words(gold)) if len(word) > 3 or word.isdigit()}
    return IN_PART if shared and not exactly(statement, gold) else ANOTHER


def _in_other_words(spoken: list[str], expected: list[str]) -> bool:
    """Whether it may be the gold answer in other words: by its initials, in one word or two, a number in letters."""
    letters = [re.sub(r"\W", "", word) for word in spoken]
    initials = "".join(word[0] for word in expected)
    joined = re.sub(r"\W", "", "".join(expected))
    windows = {"".join(letters[at : at + size]) for size in (1, 2, 3) for at in range(len(letters))}
    if (len(expected) > 1 and initials in letters) or joined in windows:
        return True
    if len(expected) == 1 and 2 <= len(joined) <= 5 and joined in "".join(word[0] for word in spoken):
        return True
    for numbers, others in ((expected, spoken), (spoken, expected)):
        if _numbers(numbers) and any(_NUMBER_WORD.fullmatch(word) for word in others):
            return True
    return False


def _present(statement: str, gold: str, question: str) -> Verdict:
    """The verdict where it does."""
    spoken, expected = words(statement), words(gold)
    if expected in (["yes"], ["no"]):
        return CORRECT if spoken[0] == expected[0] else DENIED
    if (_DENIALS - {*expected}) & {*spoken} or (_DOUBT.search(statement) and not _DOUBT.search(gold)):
        return DENIED
    if (hedge := _HEDGES.search(statement)) and hedge[0].casefold() not in f"{gold} {question}".casefold():
        return DENIED
    if is_qualified(statement, gold, question):
        return QUALIFIED
    if gold[:1].isupper() and re.search(
        rf"\b{_OTHER_PLACE} {re.escape(gold)}\b|\b{re.escape(gold)} [A-Z]\w", statement
    ):
        return CANDIDATES
    if statement.rstrip(" *_\"'").endswith(("?", "？")) or (_OR - {*expected}) & {*spoken}:
        return CANDIDATES
    expected_words = {*expected, *words(question)}
    if _numbers(expected) and _numbers(spoken) - _numbers([*expected, *words(question)]):
        return CANDIDATES
    if gold[:1].isupper() and _other_names(statement, gold, expected_words):
        return CANDIDATES
    if not _numbers(expected) and not _is_name(statement, gold) and is_listed(statement, gold, question):
        return CANDIDATES
    return CORRECT


def _is_name(statement: str, gold: str) -> bool:
    """Whether the gold answer stands there as a name: with a capital that is not the sentence's own."""
    return gold[:1].isupper() and gold in statement.lstrip(" *_\"'“")[1:]


def _other_names(statement: str, gold: str, expected_words: set[str]) -> bool:
    """Whether a capitalised word stands there that is neither of the gold answer or its name, nor of the question."""
    name = re.compile(r"(?:[A-Z][\w.'’-]* )*" + re.escape(gold) + r"(?: [A-Z][\w'’-]*)*")
    expected_words = {word.removesuffix("'s") for word in expected_words}
    rest = name.sub(" ", statement, count=1)
    for number, match in enumerate(_CAPITALISED.finditer(rest)):
        word = re.sub(r"['’]s$", "", match[0].casefold())
        at_start = number == 0 and not rest[: match.start()].strip(" *_\"'“")
        if match[0][0].isupper() and word not in expected_words and not (at_start and word in _OPENINGS):
            return True
    return False


def _numbers(spoken: Sequence[str]) -> set[str]:
    """The words that are numbers."""
    return {word for word in spoken if word[0].isdigit()}
