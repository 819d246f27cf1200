"""Types that several sections of a recipe share."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from cohobate.core.settings import Section

StageName = Literal["questions", "triples", "sft", "opd", "evaluation", "report"]
SplitName = Literal["train", "fresh", "validation", "test", "hard"]


class Experiment(Section):
    """The section of an experiment, which its commands need and no stage of a distillation reads."""

    key: ClassVar[str]
    """Its key in the recipe."""
    shipped: ClassVar[str]
    """A shipped recipe that has it."""


# Of a name in a file name with a fingerprint, a suffix and the marks of a temporary file, which may take 255 bytes.
_LONGEST_NAME = 200


def _must_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        shown = repr(name if len(name) <= 60 else f"{name[:60]}...")
        raise ValueError(
            f"{shown} is no name: it begins with a letter (a to z) or a digit, and holds letters, digits, dots, "
            "hyphens and underscores"
        )
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name of {len(name)} characters is too long for a folder; shorten it")
    return name


RecipeName = Annotated[str, AfterValidator(_must_name)]
"""A recipe's name, of which the names of folders are made."""


def _must_ask(prompt: str) -> str:
    if "{question}" not in prompt:
        raise ValueError("a prompt must contain {question}")
    return prompt


Prompt = Annotated[str, AfterValidator(_must_ask)]
