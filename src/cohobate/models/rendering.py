"""A conversation through a model's chat template: one text, or its token ids.

It is the only place that calls a template. The template runs in transformers' sandbox with the recipe's variables and
a fixed date, and what people have written in the conversation stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cohobate.config import FIXED_DATE, Templated
from cohobate.core.errors import ModelError
from cohobate.models.special_tokens import (
    control_tokens,
    encode_marked,
    holds_control,
    mark,
    tokens_of_no_response,
)
from cohobate.models.template_revision import written_template

_LONGEST_MESSAGE = 200
_CLOCK = "strftime_now"
_CALL = re.compile(_CLOCK + r"""\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")
_HARMLESS = re.compile(rf"\{{#.*?#\}}|{_CLOCK}\s+is\s+(?:not\s+)?defined", re.DOTALL)

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Rendering:
    """How a section of the recipe has its model's template rendered; see `Templated`."""

    section: str = "student"
    args: Mapping[str, Any] = field(default_factory=dict)
    date: date = FIXED_DATE
    fold_system: bool = False

    @classmethod
    def of(cls, section: Templated) -> Rendering:
        """That of a teacher, a judge or a student."""
        day = section.template_date or FIXED_DATE
        return cls(section.section, section.template_args, day, section.fold_system)


def template_variables(folder: Path, section: Templated) -> dict[str, Any]:
    """What another program passes to `apply_chat_template` to render as this one: the variables, and a fixed date."""
    template = section.template or written_template(folder)
    own = section.template is not None or _CLOCK in template
    fixed = {"chat_template": with_date(template, section.template_date or FIXED_DATE)} if own else {}
    return {**section.template_args, **fixed}


def folded(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    """`conversation` with its system message at the head of the first user message."""
    if not conversation or conversation[0]["role"] != "system":
        return [dict(message) for message in conversation]
    system, rest = conversation[0], [dict(message) for message in conversation[1:]]
    for message in rest:
        if message["role"] == "user":
            message["content"] = f"{system['content']}\n\n{message['content']}"
            return rest
    return [{**system, "role": "user"}, *rest]


def rendered(tokenizer: Any, conversation: Sequence[Message], rendering: Rendering, *, generate: bool = True) -> str:
    """The text of `conversation`; generate: up to where the assistant begins. Raises ModelError as `rendered_ids`."""
    return _apply(tokenizer, conversation, rendering, generate=generate)


def rendered_ids(tokenizer: Any, conversation: Sequence[Message], rendering: Rendering) -> list[int]:
    """Ids of `conversation` up to where the assistant begins.

    Special tokens in what people have written are text; the marks of its thoughts in what an assistant has said are
    tokens, as when it said so. Raises ModelError where there is no template, or it refuses the conversation.
    """
    if not any(holds_control(tokenizer, text) for text in _texts([conversation, rendering.args])):
        return _ids(tokenizer, _apply(tokenizer, conversation, rendering, generate=True))
    control = control_tokens(tokenizer, str(tokenizer.chat_template))
    of_roles = {"assistant": tokens_of_no_response(tokenizer)}
    turns = [mark(turn, of_roles.get(turn["role"], control)) for turn in conversation]
    text = _apply(tokenizer, turns, replace(rendering, args=mark(rendering.args, control)), generate=True)
    return encode_marked(tokenizer, text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _apply(tokenizer: Any, conversation: Sequence[Message], rendering: Rendering, *, generate: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the {rendering.section}'s tokenizer has no chat template; use a chat model, or give a template in "
            f"{rendering.section}.template_file"
        )
    turns = folded(conversation) if rendering.fold_system else list(conversation)
    try:
        template = with_date(tokenizer.get_chat_template(), rendering.date)
        text: str = tokenizer.apply_chat_template(
            turns,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=generate,
            **rendering.args,
        )
    except ModelError:
        raise
    except Exception as error:  # a template raises what it likes
        raise _refusal(tokenizer, turns, rendering, error) from error
    return text


def _refusal(tokenizer: Any, turns: Sequence[Message], rendering: Rendering, error: Exception) -> ModelError:
    """A sentence on why the template does not write `turns`."""
    why, section = " ".join(f"{error}".split())[:_LONGEST_MESSAGE] or type(error).__name__, rendering.section
    line = getattr(error, "lineno", None)
    if turns and turns[0]["role"] == "system" and _writes(tokenizer, turns[1:], rendering):
        return ModelError(
            f"the {section}'s chat template takes no system message ({why}); set {section}.fold_system = true to write "
            f"it at the head of the first user message, or leave out {section}.system"
        )
    place = f" in line {line}" if line else ""
    return ModelError(
        f"the {section}'s chat template cannot be rendered ({why}{place}); give another one in "
        f"{section}.template_file, or the variables that it needs in {section}.template_args"
    )


def _writes(tokenizer: Any, turns: Sequence[Message], rendering: Rendering) -> bool:
    try:
        template = with_date(tokenizer.get_chat_template(), rendering.date)
        tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, **rendering.args)
    except Exception:  # the first error is the one that is told
        return False
    return True


@lru_cache(maxsize=16)
def with_date(template: str, day: date) -> str:
    """`template` with the dates of `day` in place of its calls of the clock.

    Raises ModelError for a call whose format is no text of the template's own.
    """
    if _CLOCK not in template:
        return template
    midnight = datetime(day.year, day.month, day.day)
    fixed = _CALL.sub(lambda call: repr(midnight.strftime(call["format"])), template)
    if _CLOCK in _HARMLESS.sub("", fixed):
        raise ModelError(
            f"a chat template reads the clock ({_CLOCK}) in a way that cannot be fixed to a date, so the same recipe "
            "would give other data tomorrow; give a template without it in template_file"
        )
    return fixed


def _texts(value: Any) -> list[str]:
    """Every text in a value of JSON's kind."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for part in parts for text in _texts(part)]
