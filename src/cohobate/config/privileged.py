"""Privileged context: the part of the scoring prompt that the student does not see."""

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from cohobate.config.base import Prompt
from cohobate.core.settings import EXECUTION, Section

QUESTION, FEEDBACK = "question", "feedback"
_NAME = re.compile(r"\{([^\W\d]\w*)\}")


class Example(Section):
    """A question that was answered well, shown to the teacher before the one that it scores."""

    question: str
    """The user message, as it stands."""
    response: str
    """The assistant's message."""


class Privileged(Section):
    """The conversation under which the teacher scores what the student wrote; the student never sees it."""

    section: ClassVar[str] = "teacher.privileged"
    """Its name in messages."""

    prompt: Prompt | None = None
    """The user message. {question} is replaced, and so are {gold_answer}, {gold_response}, {feedback} (the verdict on
    the rollout that is scored, with its reason) and every other column of the questions, such as {document}. None: the
    prompt that it has otherwise."""
    system: str | None = None
    """A system message, in which the same names are replaced. None: the one that it has otherwise."""
    examples: tuple[Example, ...] = ()
    """Questions with good responses, shown as earlier turns."""
    mentions: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], EXECUTION] = (
        *("the document", "the passage", "the reference", "the given answer", "the correct answer is given"),
        *("the hint", "the feedback"),
    )
    """Words with which a student would speak of what it was not shown: `metrics.parquet` has the share of its rollouts
    with one of them, since a teacher that uses such words teaches them."""

    @property
    def names(self) -> list[str]:
        """The names that are replaced beside {question}, in order."""
        names = (name for text in (self.prompt, self.system) for name in _NAME.findall(text or ""))
        return [name for name in dict.fromkeys(names) if name != QUESTION]

    @property
    def characters(self) -> int:
        """Of all that is shown, without the values of its names."""
        turns = sum(len(example.question) + len(example.response) for example in self.examples)
        return len(self.prompt or "") + len(self.system or "") + turns

    @property
    def uses_feedback(self) -> bool:
        """Whether the verdict on a rollout is shown."""
        return FEEDBACK in self.names

    def identity(self) -> dict[str, Any]:
        values = super().identity()
        return {**values, "examples": [example.identity() for example in self.examples]}

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        if self.prompt is None and self.system is None and not self.examples:
            raise ValueError("nothing is shown; give prompt, system or examples, or drop [teacher.privileged]")
        return self


def filled(text: str, values: dict[str, str]) -> str:
    """`text` with the values of its names, each once: what a value says is never replaced again."""
    return _NAME.sub(lambda match: values.get(match[1], match[0]), text)
