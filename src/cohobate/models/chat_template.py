"""Prompts, completions and loss masks: the only place that turns questions and triples into token ids.

Prompts are rendered once per model, with that model's own template. Completions are tokenized apart from the prompt,
exactly as they are generated: the prompt's ids never depend on the completion.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cohobate.config import Recipe
from cohobate.core.conversation import Conversation, Query
from cohobate.models import thoughts
from cohobate.models.continuation import continuation
from cohobate.models.end_of_response import taught_end, turn_end
from cohobate.models.rendering import Rendering, folded, rendered_ids
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import encode

PromptFormatName = Literal["chat", "plain"]


@dataclass(frozen=True)
class PromptFormat:
    """The form of a model's prompt and completion.

    chat: the model's chat template, loss on the completion. plain: `question<sep>rationale<sep>answer`, loss on all.
    answer: a further form of final answers (`teacher.answer`). opening: the beginning of a thought with which the
    prompt ends, in place of what the template writes; see thoughts.
    """

    template: str = "{question}"
    system: str | None = None
    name: PromptFormatName = "chat"
    separator: str = " ### "
    answer: str | None = None
    rendering: Rendering = field(default_factory=Rendering)
    opening: str | None = None


def student_format(recipe: Recipe) -> PromptFormat:
    """The prompt format in which the student of `recipe` is trained and asked."""
    student = recipe.student
    return PromptFormat(
        student.prompt,
        student.system,
        recipe.sft.format,
        recipe.sft.separator,
        recipe.teacher.answer,
        Rendering.of(student),
    )


def teacher_format(recipe: Recipe) -> PromptFormat:
    """The prompt format in which the teacher of `recipe` is asked, and under which it scores."""
    teacher = recipe.teacher
    return PromptFormat(teacher.prompt, teacher.system, answer=teacher.answer, rendering=Rendering.of(teacher))


def scoring_format(recipe: Recipe, student_tokenizer: Any) -> PromptFormat:
    """The format in which the teacher scores what the student writes: the prompt ends as the student's does."""
    own = student_format(recipe)
    if own.name == "plain":
        return teacher_format(recipe)
    opening = prompt_opening(student_tokenizer, own)
    return replace(teacher_format(recipe), opening=opening.text if opening else "")


def prompt_opening(tokenizer: Any, prompt_format: PromptFormat) -> thoughts.Opening | None:
    """The beginning of a thought, or the empty one, with which the prompts of a model end."""
    if prompt_format.name == "plain":
        return None
    return thoughts.opening_of(tokenizer, question_ids(tokenizer, "?", prompt_format))


def messages(question: Query, template: str, system: str | None, *, fold: bool = False) -> list[dict[str, str]]:
    """The conversation that asks `question`; `template` holds `{question}`, fold is `fold_system` of the recipe.

    Of a conversation the last user message takes the place of `{question}`, and its own instructions come after
    `system`.
    """
    if isinstance(question, str):
        asking = Conversation.of_text(template.replace("{question}", question))
    else:
        asking = question.with_last(template.replace("{question}", question.last))
    conversation = asking.under(system).as_dicts()
    return folded(conversation) if fold else conversation


def question_ids(tokenizer: Any, question: Query, prompt_format: PromptFormat) -> list[int]:
    """Ids of the prompt that asks `question` in this format."""
    if prompt_format.name == "plain":
        text = question.transcript if isinstance(question, Conversation) else question
        return encode(tokenizer, text + prompt_format.separator)
    conversation = messages(question, prompt_format.template, prompt_format.system)
    ids = rendered_ids(tokenizer, conversation, prompt_format.rendering)
    return ids if prompt_format.opening is None else thoughts.reopened(tokenizer, ids, prompt_format.opening)


def completion_text(response: str, rationale: str | None, answer: str, prompt_format: PromptFormat) -> str:
    """The completion that a student learns: the teacher's own words, or the parts of a plain triple."""
    if prompt_format.name == "plain":
        return (rationale or "") + prompt_format.separator + answer
    return response


def training_sequence(
    tokenizer: Any,
    question: Query,
    completion: str,
    prompt_format: PromptFormat,
    *,
    ended: bool,
    end: int | None = None,
) -> TrainingSequence:
    """Prompt and completion of a triple.

    end: the id behind the completion, None for the student's own. It is appended only when the teacher's response
    `ended` by itself: a truncated one must not teach the student to stop anywhere.
    """
    prompt = question_ids(tokenizer, question, prompt_format)
    chat = prompt_format.name == "chat"
    if end is None:
        end = (turn_end(tokenizer) if chat else None) or taught_end(tokenizer)
    # Plain text is learnt from its second token on: nothing comes before the first to predict it from.
    context = len(prompt) if chat else 1
    text = completion
    if chat:
        spoken = thoughts.translated(tokenizer, completion, ended=ended)
        text = thoughts.fitted(spoken, thoughts.opening_of(tokenizer, prompt))
    response = continuation(tokenizer, text, prompt_format.rendering if chat else None)
    return TrainingSequence([*prompt, *response, *([end] if ended else [])], context)
