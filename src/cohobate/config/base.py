"""Types that several sections of a recipe share."""

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


def _must_ask(prompt: str) -> str:
    if "{question}" not in prompt:
        raise ValueError("a prompt must contain {question}")
    return prompt


Prompt = Annotated[str, AfterValidator(_must_ask)]
