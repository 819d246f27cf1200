r"""Boxes of LaTeX in a text: \boxed{5}, \fbox{5}, \boxed 5; boxes side by side are one list."""

from __future__ import annotations

import re
from bisect import bisect_left

from cohobate.core.answer_value import LONGEST, clean, closing_braces

# So far from the brace of a box that is cut off, a label may still stand in it.
_CUT_BOX = 30
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s*([^\s{}$\\,;]+|\\frac\d\d)")
_BOX_LINK = re.compile(
    r"(?:[\s$,;、，&~]|\\[,;: ]|\\q?quad|\\(?:text|mathrm)\s*\{\s*(?:and|or|,)\s*\}|\\(?:text|mathrm)\s*\{\s*\}"
    r"|and\b|or\b|und\b|et\b|和|或|[a-zA-Z](?:_\{?\w\}?)?\s*=|\\\)|\\\(){1,40}"
)


class Boxes:
    """The boxes of a text from `start` on, without those that stand in another one."""

    def __init__(self, text: str, start: int = 0) -> None:
        self.text = text
        self.matches: list[re.Match[str]] = []
        boxes = list(_BOX.finditer(text, start))
        self._closing = closing_braces(text, start) if boxes else {}
        end = start
        for box in boxes:
            if box.start() >= end:
                self.matches.append(box)
                end = self._end(box) or end
        self.starts = [box.start() for box in self.matches]

    def content(self, number: int) -> str | None:
        """None where it is cut off, "" where it is empty."""
        box, text = self.matches[number], self.text
        if self._has_brace(box):
            end = self._end(box)
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

    def last(self) -> str | None:
        """What is in the last box and in those that are one list with it; None where it is cut off or there is none."""
        content = self.content(len(self.matches) - 1) if self.matches else None
        if not content:
            return content
        return ", ".join(dict.fromkeys([*self.list_before(len(self.matches) - 1)[1], content]))

    def hold(self, at: int) -> bool:
        """Whether a box holds the place `at`."""
        before = bisect_left(self.starts, at) - 1
        if before < 0 or at - self.starts[before] > LONGEST:
            return False
        box = self.matches[before]
        if not self._has_brace(box):
            return False
        end = self._end(box)
        return box.end() < at < (box.end() + _CUT_BOX if end is None else end)

    def _has_brace(self, box: re.Match[str]) -> bool:
        return self.text[box.end() : box.end() + 1] == "{"

    def _end(self, box: re.Match[str]) -> int | None:
        """Where the brace of a box is closed; None where it has none, or is not closed in so many characters."""
        end = self._closing.get(box.end()) if self._has_brace(box) else None
        return None if end is None or end - box.end() > LONGEST else end

    def _linked(self, number: int, upto: int) -> str | None:
        """The content of the box before one, where the two are one list."""
        box, text = self.matches[number], self.text
        end = self._end(box)
        if end is None or "\n\n" in text[end:upto] or not _BOX_LINK.fullmatch(text, end + 1, upto):
            return None
        return clean(text[box.end() + 1 : end]) or None
