"""The check of chat templates: each writes all that it is given, and its tokens are those of its text."""

from __future__ import annotations

import unicodedata
from typing import Any

from cohobate.config import FIXED_DATE, Recipe, Student, Teacher, Templated
from cohobate.core.errors import CohobateError
from cohobate.stages.preflight.scope import Scope

_QUESTION = "What is 2 + 3?"


def template(scope: Scope) -> str:
    """Each model's template writes a whole prompt, and its tokens are those of the text."""
    findings = [
        f"{role}{_require_template(role, getattr(scope.recipe, role), model.tokenizer)}"
        for role, model in scope.models.items()
        if role != "student" or scope.recipe.sft.format == "chat"
    ]
    return f"renders and round-trips for {' and '.join(findings)}" if findings else "no model is asked by a template"


def privileged(scope: Scope) -> str:
    """The template of the model that scores writes all that only it is shown."""
    from cohobate.core.conversation import Conversation
    from cohobate.models.chat_template import messages
    from cohobate.models.privileged import Shown, format_of_scoring
    from cohobate.models.rendering import rendered
    from cohobate.teachers.endpoint.scoring_checks import scoring_tokenizer

    recipe, student = scope.recipe, scope.loaded["student"]
    shown, follows = Shown.of(recipe), recipe.teacher.follow is not None
    tokenizer = student.tokenizer if follows else scoring_tokenizer(recipe.teacher, student)
    query = shown.query(_QUESTION, {name: f"({name})" for name in shown.names})
    how = format_of_scoring(recipe, student.tokenizer)
    text = _letters(rendered(tokenizer, messages(query, how.template, how.system), how.rendering))
    every = query.messages if isinstance(query, Conversation) else Conversation.of_text(query).messages
    role = "student" if follows else "teacher"
    for message in every:
        if _letters(message.content) not in text:
            raise CohobateError(
                f"the {role}'s chat template leaves out the {message.role} message of teacher.privileged; set "
                f"{role}.fold_system = true, or say it in teacher.privileged.prompt"
            )
    return f"the teacher reads {len(every)} messages where it scores, with {', '.join(shown.names) or 'no column'}"


def require_student_template(recipe: Recipe) -> None:
    """The same of a student whose weights are not loaded."""
    from cohobate.models.loading import outline

    if recipe.sft.format == "chat":
        student = outline(recipe.student.model, template=recipe.student.template)
        _require_template("student", recipe.student, student.tokenizer)


def _require_template(role: str, section: Teacher | Student, tokenizer: Any) -> str:
    """Words on the template's date, where it writes one."""
    from cohobate.models.chat_template import messages
    from cohobate.models.rendering import Rendering, rendered, rendered_ids

    conversation = messages(_QUESTION, section.prompt, section.system)
    text = rendered(tokenizer, conversation, Rendering.of(section))
    _require_whole(role, section, text)
    decoded = _decoded(tokenizer, rendered_ids(tokenizer, conversation, Rendering.of(section)))
    if _letters(decoded) != _letters(text):
        raise CohobateError(
            f"the {role}'s tokenizer does not give its own prompt back ({decoded[:80]!r} for {text[:80]!r}); give the "
            "tokenizer that the model was trained with"
        )
    return _clock(section, tokenizer)


def _require_whole(role: str, section: Teacher | Student, text: str) -> None:
    """Refuse a template that leaves out what it is given."""
    for name, part in (("system message", section.system), ("question", _QUESTION)):
        if part and _letters(part) not in _letters(text):
            remedy = f"set {role}.fold_system = true" if part == section.system else f"give {role}.template_file"
            raise CohobateError(f"the {role}'s chat template leaves out the {name}; {remedy}")


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def _letters(text: str) -> str:
    """A text without white space, which tokenizers of SentencePiece's kind add, and in one form of Unicode."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _clock(section: Templated, tokenizer: Any) -> str:
    """Words for a template that writes the date."""
    if "strftime_now" not in str(tokenizer.chat_template):
        return ""
    return f" (it writes the date, which is {section.template_date or FIXED_DATE}: {section.section}.template_date)"
