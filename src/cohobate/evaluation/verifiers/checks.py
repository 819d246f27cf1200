"""The verifier `checks`: the response as a whole against what its gold answer says must hold of it.

A gold answer is a JSON object whose keys are the fields of `Required`, or else a phrase, which the verifier `phrase`
judges. No form such as `Answer:` is asked for, so that instructions about the form itself can be judged too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cohobate.core.answer_text import normalise
from cohobate.core.settings import Section
from cohobate.evaluation.verifiers import phrase
from cohobate.evaluation.verifiers.verdict import CORRECT, NO_GOLD, TRUNCATED, Case, Verdict

_LONGEST = 100_000  # characters of a response that are looked at
_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_FENCE = re.compile(r"\A```[a-z]*\n(.*)\n```\Z", re.DOTALL)
Phrases = tuple[Annotated[str, Field(min_length=1)], ...]


class Required(Section):
    """What must hold of a response; whatever is not set is not asked. Phrases are whole words, in any case."""

    any: Phrases = ()
    """One of these phrases occurs."""
    all: Phrases = ()
    """Each of these phrases occurs."""
    none: Phrases = ()
    """None of these phrases occurs."""
    case: Literal["upper", "lower"] | None = None
    """All of its letters are capitals, or none is."""
    words: tuple[int, int] | None = None
    """Fewest and most words."""
    items: int | None = None
    """Number of lines that begin with a bullet or a number."""
    keys: Phrases = ()
    """It is a JSON object with these keys, plain or as a code block."""
    starts: str | None = None
    """It begins with this text, in any case."""
    ends: str | None = None
    """It ends with this text, in any case."""


def required(gold: str) -> Required | None:
    """What a JSON object asks for; None for one that says something else."""
    try:
        return Required.model_validate_json(gold)
    except ValidationError:
        return None


def missing(wanted: Required, response: str) -> str | None:
    """The first thing that does not hold of `response`, in words; None where all does."""
    text = response.strip()[:_LONGEST]
    plain = normalise(text)
    count = len(text.split())
    tests: list[tuple[bool, str]] = [
        (not wanted.any or any(occurs(each, plain) for each in wanted.any), "lacks the phrase"),
        (all(occurs(each, plain) for each in wanted.all), "lacks a phrase"),
        (not any(occurs(each, plain) for each in wanted.none), "has a forbidden phrase"),
        (wanted.case is None or _is_all(wanted.case, text), f"is not in {wanted.case} case"),
        (wanted.words is None or wanted.words[0] <= count <= wanted.words[1], "has another number of words"),
        (wanted.items is None or len(_ITEM.findall(text)) == wanted.items, "has another number of items"),
        (not wanted.keys or _has_keys(wanted.keys, text), "is no JSON object with the keys"),
        (wanted.starts is None or text.casefold().startswith(wanted.starts.casefold()), "begins otherwise"),
        (wanted.ends is None or text.casefold().endswith(wanted.ends.casefold()), "ends otherwise"),
    ]
    return next((words for holds, words in tests if not holds), None)


def occurs(wanted: str, text: str) -> bool:
    """Whether the words of `wanted` stand in `text`, which is in normal form; 12 does not stand in 112 or 12.5."""
    escaped = re.escape(normalise(wanted))
    return re.search(rf"(?<!\w)(?<!\d[.,]){escaped}(?!\w)(?![.,]\d)", text) is not None


def _is_all(case: str, text: str) -> bool:
    letters = any(letter.isalpha() for letter in text)
    return letters and text == (text.upper() if case == "upper" else text.lower())


def _has_keys(keys: Sequence[str], text: str) -> bool:
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(key in value for key in keys)


@dataclass(frozen=True)
class ChecksVerifier:
    """Judges responses in this process; a truncated one is undecided, since its form is not known."""

    name: str = "checks"
    version: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing can be wrong."""

    def verdict(self, case: Case) -> Verdict:
        """The verdict on one case."""
        gold = case.gold or ""
        if not gold.lstrip().startswith("{"):
            return phrase.verdict(case)
        if (wanted := required(gold)) is None:
            return NO_GOLD
        if case.truncated:
            return TRUNCATED
        lacking = missing(wanted, case.response)
        return CORRECT if lacking is None else Verdict("incorrect", f"the response {lacking}")

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order."""
        verdicts = [self.verdict(case) for case in cases]
        done(len(verdicts))
        return verdicts


CHECKS = ChecksVerifier()
