r"""The gold answer in a text: what stands after a mark, in the last \boxed{}, or the text itself."""

from __future__ import annotations

import re

from cohobate.sources.values import RowError

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
_BOX_AS_MARK = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\{\s*\}?)?")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def gold_of(text: str | None, mark: str | None, name: str) -> str | None:
    r"""The gold answer in `text` of the column `name`.

    mark: it stands after the last of these, or in the last box where the mark is \boxed. A text with a box is a
    solution, whose answer is in the last one. Raises RowError where the mark or the end of a box is missing.
    """
    if text is None:
        return None
    if mark is not None and not _BOX_AS_MARK.fullmatch(mark.strip()):
        if mark not in text:
            raise _without(mark, name)
        text = text.rpartition(mark)[2].strip()
    elif mark is not None and not _BOX.search(text):
        raise _without(mark, name)
    return text if mark is None and "\\boxed" not in text else _last_box(text, name)


def _without(mark: str, name: str) -> RowError:
    return RowError(f"'{name}' holds no {mark!r}; correct questions.gold_after, or the row")


def _last_box(text: str, name: str) -> str:
    """What is in the last box that is in no other one; the text itself where there is none."""
    content, at = text, 0
    while opening := _BOX.search(text, at):
        closing = _closing_brace(text, opening.end())
        if closing is None:
            raise RowError(f"'{name}' holds a {opening[0]} without its closing brace; correct the row")
        content, at = text[opening.end() : closing].strip(), closing + 1
    inner = _BOX.match(content)
    if at and inner and _closing_brace(content, inner.end()) == len(content) - 1:
        return _last_box(content, name)
    return content


def _closing_brace(text: str, start: int) -> int | None:
    r"""Where the group that begins before `start` ends; \{ and \} are characters."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None
