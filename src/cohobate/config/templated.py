"""How a model's chat template is rendered: which template, with which arguments, on which date."""

import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, JsonValue, model_validator

from cohobate.core.settings import EXECUTION, Section

# A template that writes the date writes this one unless the recipe says another: artifacts depend on no clock.
FIXED_DATE = date(2025, 1, 1)
_LONGEST_TEMPLATE = 1 << 18
# Arguments of transformers' own call, which the program gives itself.
_OWN_ARGUMENTS = {
    *("self", "conversation", "conversations", "messages", "tools", "documents", "chat_template", "tokenizer_kwargs"),
    *("add_generation_prompt", "continue_final_message", "tokenize", "sanitize_control_tokens", "padding"),
    *("truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "strftime_now"),
}


def _are_arguments(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name in arguments:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith("__"):
            raise ValueError(f"{name!r} is no name of a template's variable, such as enable_thinking")
        if name in _OWN_ARGUMENTS:
            raise ValueError(f"{name} is set by cohobate itself; a template's own variables are for template_args")
    if not all(map(math.isfinite, _floats(arguments))):
        raise ValueError("inf and nan are no values of a template's variables")
    return arguments


def _floats(value: JsonValue) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _floats(item)


class Templated(Section):
    """The settings of a model's chat template, which every rendering of it uses."""

    section: ClassVar[str]
    """Its name in messages."""

    template: str | None = None
    """A Jinja chat template in place of the model's own, for a base model that has none; it runs in the sandbox of
    transformers. The student is published with it."""
    template_file: Annotated[str | None, EXECUTION] = None
    """The file with such a template; its path counts from the recipe's folder, and its content identifies it."""
    template_args: Annotated[dict[str, JsonValue], AfterValidator(_are_arguments)] = {}
    """Variables that the template reads, such as {enable_thinking = false}. An endpoint is sent them as
    `chat_template_kwargs`."""
    template_date: Annotated[date | None, Field(strict=False)] = None
    """The date that a template writes which asks for it (`strftime_now`), such as 2025-07-01; None: 2025-01-01."""
    fold_system: bool = False
    """Write the system message at the head of the first user message, for a template that takes no system message."""

    def identity(self) -> dict[str, Any]:
        """As of any section, but that artifacts which are older than these settings stay the same."""
        values = super().identity()
        for name in ("template", "template_args", "template_date", "fold_system"):
            if not values[name]:
                del values[name]
        if self.template_date is not None:
            values["template_date"] = self.template_date.isoformat()
        return values

    @model_validator(mode="before")
    @classmethod
    def _with_content(cls, values: Any) -> Any:
        """The template in place of its file: a run reads the file once."""
        if not isinstance(values, dict) or values.get("template_file") is None:
            return values
        if values.get("template") is not None:
            raise ValueError("template and template_file say the same; give one of them")
        return {**values, "template_file": None, "template": _content(str(values["template_file"]))}


def _content(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LONGEST_TEMPLATE + 1)
    except OSError as error:
        raise ValueError(f"template_file {path} cannot be read: {error.strerror}") from None
    if len(content) > _LONGEST_TEMPLATE:
        raise ValueError(f"template_file {path} is longer than {_LONGEST_TEMPLATE >> 10} KiB; no chat template is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"template_file {path} is not UTF-8 (byte {error.start})") from None
