"""Chat templates and loss masks: the only place that turns questions and triples into token ids.

Prompts are rendered once per model, with that model's own template. Completions are tokenized apart from the prompt,
exactly as they are generated: the prompt's ids never depend on the completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cohobate.config import Recipe
from cohobate.models.end_of_response import taught_end, turn_end
from cohobate.models.sequence import TrainingSequence

PromptFormatName = Literal["chat", "plain"]


@dataclass(frozen=True)
class PromptFormat:
    """The form of a model's prompt and completion.

    chat: the model's chat template, loss on the completion. plain: `question<sep>rationale<sep>answer`, loss on all.
    answer: a further form of final answers (`teacher.answer`).
    """

    template: str = "{question}"
    system: str | None = None
    name: PromptFormatName = "chat"
    separator: str = " ### "
    answer: str | None = None


def student_format(recipe: Recipe) -> PromptFormat:
    """The prompt format in which the student of `recipe` is trained and asked."""
    student = recipe.student
    return PromptFormat(student.prompt, student.system, recipe.sft.format, recipe.sft.separator, recipe.teacher.answer)


def teacher_format(recipe: Recipe) -> PromptFormat:
    """The prompt format in which the teacher of `recipe` is asked, and under which it scores."""
    return PromptFormat(recipe.teacher.prompt, recipe.teacher.system, answer=recipe.teacher.answer)


def messages(question: str, template: str, system: str | None) -> list[dict[str, str]]:
    """The conversation that asks `question`; `template` holds `{question}`."""
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": template.replace("{question}", question)}]


def prompt_ids(tokenizer: Any, question: str, template: str, system: str | None) -> list[int]:
    """Ids of the conversation that asks `question`, up to where the assistant begins."""
    return conversation_ids(tokenizer, messages(question, template, system))


def conversation_ids(tokenizer: Any, conversation: list[dict[str, str]]) -> list[int]:
    """Ids of `conversation` up to where the assistant begins."""
    return encode(tokenizer, tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` with nothing added: templates write their own special tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of `ids` without special tokens."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text


def question_ids(tokenizer: Any, question: str, prompt_format: PromptFormat) -> list[int]:
    """Ids of the prompt that asks `question` in this format."""
    if prompt_format.name == "plain":
        return encode(tokenizer, question + prompt_format.separator)
    return prompt_ids(tokenizer, question, prompt_format.template, prompt_format.system)


def completion_text(response: str, rationale: str | None, answer: str, prompt_format: PromptFormat) -> str:
    """The completion that a student learns: the teacher's own words, or the parts of a plain triple."""
    if prompt_format.name == "plain":
        return (rationale or "") + prompt_format.separator + answer
    return response


def training_sequence(
    tokenizer: Any,
    question: str,
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
    if end is None:
        end = (turn_end(tokenizer) if prompt_format.name == "chat" else None) or taught_end(tokenizer)
    # Plain text is learnt from its second token on: nothing comes before the first to predict it from.
    context = 1 if prompt_format.name == "plain" else len(prompt)
    return TrainingSequence([*prompt, *encode(tokenizer, completion), *([end] if ended else [])], context)
