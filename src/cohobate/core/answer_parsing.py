"""The parts of a response: the rationale, the final answer, and where each stands.

Servers and models write the rationale in several places: in a field of its own, between <think> tags (sometimes
without the opening one), or plainly before the final answer. All are accepted; which one it was is recorded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Only the last statement of an answer counts: models restate and correct themselves.
_ANSWER_LINE = re.compile(
    r"^[ \t]*(?:the )?(?:final )?answer\b(?: is\b)?[ \t]*[:=]?[ \t]*([^\s:=].*)", re.IGNORECASE | re.MULTILINE
)
_HASHES = re.compile(r"####[ \t]*(.+)")
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Parsed:
    """rationale and answer are None where there is none. rationale_source: field, think, or content."""

    rationale: str | None
    answer: str | None
    rationale_source: str | None


def parse(text: str, reasoning: str | None = None) -> Parsed:
    """Rationale and final answer of a response; `reasoning` is what the server sent in a field of its own."""
    source, thought, rest = _thought(text, reasoning)
    before, answer = _final_answer(rest)
    if thought is not None:
        return Parsed(thought or None, answer, source if thought else None)
    rationale = before.strip() or None if answer is not None else rest.strip() or None
    return Parsed(rationale, answer, "content" if rationale else None)


def parse_plain(text: str, separator: str) -> Parsed:
    """The parts of a plain `rationale<sep>answer` response."""
    before, mark, after = text.rpartition(separator)
    if not mark:
        return Parsed(text.strip() or None, None, "content" if text.strip() else None)
    rationale = before.strip() or None
    return Parsed(rationale, after.strip() or None, "content" if rationale else None)


def after_thinking(text: str) -> str:
    """A response without the rationale between its tags."""
    return text.rpartition(THINK_CLOSE)[2]


def _thought(text: str, reasoning: str | None) -> tuple[str | None, str | None, str]:
    if reasoning and reasoning.strip():
        return "field", reasoning.strip(), text
    before, end, after = text.rpartition(THINK_CLOSE)
    if end:
        return "think", before.replace(THINK_OPEN, "").strip(), after
    return None, None, text.replace(THINK_OPEN, "")


def _final_answer(text: str) -> tuple[str, str | None]:
    """The text before the last final answer, and the answer."""
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    lines = list(_ANSWER_LINE.finditer(text)) or list(_HASHES.finditer(text))
    if not lines:
        return text, None
    answer = lines[-1].group(1).strip()
    return text[: lines[-1].start()], answer or None


def _last_boxed(text: str) -> tuple[str, str | None] | None:
    r"""`\\boxed{...}` with balanced braces."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[:start], text[start + len("\\boxed{") : at].strip() or None
    return None
