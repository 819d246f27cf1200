"""Whether the chat templates of this machine can render a recipe's conversations, before anybody is paid for them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Student, Teacher
from cohobate.core.conversation import Conversation, Message, Role, queries
from cohobate.core.errors import ModelError

if TYPE_CHECKING:
    import polars as pl


def require_templates(recipe: Recipe, questions: pl.DataFrame, student: str | None = None) -> None:
    """Render one conversation of each sequence of roles in `questions`, for the student and for a teacher here.

    questions: columns question, conversation. student: the folder of the model that is asked alone, in place of both.
    Raises ModelError where a template refuses a conversation, or leaves a message out.
    """
    from cohobate.models.loading import outline

    shapes: dict[tuple[Role, ...], Conversation] = {}
    for each in queries(questions):
        if isinstance(each, Conversation):
            shapes.setdefault(tuple(message.role for message in each.messages), each)
    sections: list[tuple[str, Student | Teacher]] = []
    if recipe.sft.format == "chat":
        sections.append((student or recipe.student.model, recipe.student))
    teachers = [each.teacher for each in recipe.by_teacher.values()] if student is None else []
    sections += [(each.model, each) for each in teachers if each.is_folder]
    for name, section in sections if shapes else ():
        tokenizer = outline(name, template=section.template).tokenizer
        for roles, first in sorted(shapes.items(), key=itemgetter(0)):
            try:
                _require_whole(tokenizer, section, roles)
            except ModelError as error:
                raise ModelError(
                    f"{error}; it is so for conversations of {', '.join(roles)}, such as the one that asks "
                    f"{first.last[:60]!r}"
                ) from error


def _require_whole(tokenizer: Any, section: Student | Teacher, roles: tuple[Role, ...]) -> None:
    from cohobate.models.chat_template import messages
    from cohobate.models.rendering import Rendering, rendered

    conversation = Conversation(tuple(Message(role, f"words-{number}.") for number, role in enumerate(roles)))
    text = rendered(tokenizer, messages(conversation, section.prompt, section.system), Rendering.of(section))
    for number, message in enumerate(conversation.messages, 1):
        if message.content not in text:
            raise ModelError(
                f"the {section.section}'s chat template leaves out the {message.role} message {number} of a "
                f"conversation; give another one in {section.section}.template_file, or leave out such questions"
            )
