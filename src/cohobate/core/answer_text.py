"""The text of an answer: its normal form, equality in it, and gold answers that cannot decide anything."""

from __future__ import annotations

import re
import unicodedata

# Datasets write these where there is no checkable answer.
GOLD_SENTINELS = frozenset({"", "proof", "notfound", "not found", "none", "n/a", "na", "unknown"})

_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_BEFORE_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")


def usable(gold: str | None) -> bool:
    """Whether a gold answer can decide anything: it is there, and no sentinel such as `proof` or `not found`."""
    return gold is not None and gold.strip().lower() not in GOLD_SENTINELS


def plain_characters(text: str) -> str:
    """NFKC with superscripts as powers (x² is x^2, not x2), 1½ as 1 1/2, and one kind of minus."""
    text = _BEFORE_VULGAR.sub(" ", text)
    text = _SUPERSCRIPTS.sub(lambda power: "^" + power[0].translate(_RAISED), text)
    return unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("\u2044", "/")


def normalise(answer: str) -> str:
    """Plain characters, lower case, single spaces; without $, a final full stop, or commas between digits."""
    text = plain_characters(answer).lower().replace("$", "")
    text = " ".join(text.split())
    text = text if text.endswith("..") else text.rstrip(". ")  # 3.14... is not 3.14
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), text)


def exactly(answer: str, gold: str) -> bool:
    """Equal after `normalise`."""
    return normalise(answer) == normalise(gold)
