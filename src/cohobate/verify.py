"""Verification: a verdict is a label beside the sample, never a deletion.

correct / incorrect / undecided, with a reason for everything but correct. A verifier has a name and a version, so that
a better one relabels what is stored without asking the teacher again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Label = Literal["correct", "incorrect", "undecided"]
# What datasets write where there is no checkable answer.
GOLD_SENTINELS = frozenset({"", "proof", "notfound", "not found", "none", "n/a", "na", "unknown"})


_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")


@dataclass(frozen=True)
class Verdict:
    """The label of one sample, and why it is not `correct`."""

    label: Label
    reason: str | None = None


@dataclass(frozen=True)
class Verifier:
    """`equal(answer, gold)` decides; both are non-empty strings."""

    name: str
    version: int
    equal: Callable[[str, str], bool]

    def __call__(self, answer: str | None, gold: str | None, *, truncated: bool) -> Verdict:
        """The verdict on an extracted answer."""
        if gold is None:
            return Verdict("undecided", "no gold answer")
        if gold.strip().lower() in GOLD_SENTINELS:
            return Verdict("undecided", "unusable gold answer")
        if answer is None:
            # A cut response might have ended well: that is not known to be wrong.
            return Verdict("undecided", "truncated") if truncated else Verdict("incorrect", "no final answer")
        return Verdict("correct") if self.equal(answer, gold) else Verdict("incorrect", "another answer")


def normalise(answer: str) -> str:
    """NFKC, lower case, single spaces; without $, a final full stop, or commas between digits."""
    text = unicodedata.normalize("NFKC", answer).lower().replace("$", "")
    text = " ".join(text.split()).rstrip(". ")
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), text)


def exactly(answer: str, gold: str) -> bool:
    """Equal after `normalise`."""
    return normalise(answer) == normalise(gold)


EXACT = Verifier("exact", 1, exactly)
