r"""The gold answer in a text: what stands after a mark, in the last \boxed{}, or the text itself."""

from __future__ import annotations

import re

from cohobate.core.answer_boxes import Boxes
from cohobate.core.answer_value import LONGEST
from cohobate.sources.values import RowError

_BOX_AS_MARK = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\{\s*\}?)?")


def gold_of(text: str | None, mark: str | None, name: str) -> str | None:
    r"""The gold answer in `text` of the column `name`.

    mark: it stands after the last of these, or in the last box where the mark is \boxed. A text with a box is a
    solution, whose answer is in the last one. Raises RowError where the mark or the end of a box is missing.
    """
    if text is None:
        return None
    is_box = mark is not None and _BOX_AS_MARK.fullmatch(mark.strip()) is not None
    if mark is not None and not is_box:
        if mark not in text:
            raise _without(mark, name)
        text = text.rpartition(mark)[2].strip()
    boxes = Boxes(text) if mark is not None or "\\boxed" in text else None
    if boxes is not None and boxes.matches:
        return _last_box(boxes, name)
    if mark is not None and is_box:
        raise _without(mark, name)
    return text


def _without(mark: str, name: str) -> RowError:
    return RowError(f"'{name}' holds no {mark!r}; correct questions.gold_after, or the row")


def _last_box(boxes: Boxes, name: str) -> str:
    """What is in the last box that is in no other one, or in those that are one list with it; "" where it is empty."""
    content = boxes.last()
    if content is None:
        raise RowError(
            f"'{name}' holds a {boxes.matches[-1][0].strip()}{{ without its closing brace within {LONGEST:,} "
            "characters; correct the row"
        )
    return content
