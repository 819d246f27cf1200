r"""Boxes of LaTeX in a text: \boxed{5}, \fbox{5}, \boxed 5; boxes side by side are one list."""

from __future__ import annotations

import re
from bisect import bisect_left

from cohobate.core.answer_value import LONGEST, clean, closing_brace

# So far from the brace of a box that is cut off, a label may still stand in it.
_CUT_BOX = 30
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s*([^\s{}$\\,;]+|\\frac\d\d)")
_BOX_LINK = re.compile(
    r"(?:[\s$,;、，&~]|\\[,;: ]|\\q?quad|\\(?:text|mathrm)\s*\{\s*(?:and|or|,)\s*\}|\\(?:text|mathrm)\s*\{\s*\}"
    r"|and\b|or\b|und\b|et\b|和|或|[a-zA-Z](?:_\{?\w\}?)?\s*=|\\\)|\\\(){1,40}"
)


class Boxes:
    """The boxes of a text from `start` on."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.matches = list(_BOX.finditer(text, start))
        self.starts = [box.start() for box in self.matches]

    def content(self, number: int) -> str | None:
        """None where it is cut off, "" where it is empty."""
        box, text = self.matches[number], self.text
        if text[box.end() : box.end() + 1] == "{":
            end = closing_brace(text, box.end(), box.end() + LONGEST)
            return None if end is None else clean(text[box.end() + 1 : end])
        bare = _BARE_BOX.match(text, box.start())
        return clean(bare[1]) if bare else ""

    def list_before(self, number: int) -> tuple[int, list[str]]:
        """The first of the boxes that are one list with this one, and the contents of those before it."""
        contents: list[str] = []
        while number > 0 and (before := self._linked(number - 1, self.starts[number])):
            number -= 1
            contents.insert(0, before)
        return number, contents

    def _linked(self, number: int, upto: int) -> str | None:
        """The content of the box before one, where the two are one list."""
        box, text = self.matches[number], self.text
        if text[box.end() : box.end() + 1] != "{" or upto - box.end() > LONGEST:
            return None
        end = closing_brace(text, box.end(), upto)
        if end is None or "\n\n" in text[end:upto] or not _BOX_LINK.fullmatch(text, end + 1, upto):
            return None
        return clean(text[box.end() + 1 : end]) or None

    def hold(self, at: int) -> bool:
        """Whether a box holds the place `at`."""
        before = bisect_left(self.starts, at) - 1
        if before < 0 or at - self.starts[before] > LONGEST:
            return False
        box = self.matches[before]
        if self.text[box.end() : box.end() + 1] != "{":
            return False
        end = closing_brace(self.text, box.end(), box.end() + LONGEST)
        return box.end() < at < (box.end() + _CUT_BOX if end is None else end)
