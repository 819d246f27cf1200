"""The parts of a response: the rationale, the final answer, and where each stands.

Servers and models write the rationale in several places: in a field of its own, between the marks of a thought, or
plainly before the final answer. All are accepted; which one it was is recorded. docs/answers.md lists the forms of a
final answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from cohobate.core.answer_forms import find_answer
from cohobate.core.reasoning import split

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Parsed:
    """rationale and answer are None where there is none. rationale_source: field, think, or content."""

    rationale: str | None
    answer: str | None
    rationale_source: str | None


def parse(text: str, reasoning: str | None = None, *, form: str | None = None) -> Parsed:
    """Rationale and final answer of a response.

    reasoning: what the server sent in a field of its own. form: how the recipe's answers may be stated besides (see
    core/answer_forms). Raises RecipeError for a form that is a function and cannot be loaded.
    """
    parts = split(text)
    thought, source = parts.thought, "think"
    if reasoning and reasoning.strip():
        thought, source = "\n\n".join(filter(None, (reasoning.strip(), thought))), "field"
    statement = find_answer(parts.visible, form)
    answer = statement.answer if statement else None
    if thought:
        return Parsed(thought, answer, source)
    rationale = (parts.visible[: statement.start] if statement else parts.visible).strip() or None
    return Parsed(rationale, answer, "content" if rationale else None)


def after_thinking(text: str) -> str:
    """A response without its thoughts and without the marks around them."""
    return split(text).visible


def parse_plain(text: str, separator: str) -> Parsed:
    """The parts of a plain `rationale<sep>answer` response."""
    before, mark, after = text.rpartition(separator)
    if not mark:
        return Parsed(text.strip() or None, None, "content" if text.strip() else None)
    rationale = before.strip() or None
    return Parsed(rationale, after.strip() or None, "content" if rationale else None)
