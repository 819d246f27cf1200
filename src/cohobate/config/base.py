"""What every section of a recipe is made of."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _Execution:
    """Marks a field that cannot change the data."""


EXECUTION = _Execution()

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Memory = Annotated[int, Field(ge=1), EXECUTION]
StageName = Literal["questions", "triples", "sft", "opd", "evaluation", "report"]
SplitName = Literal["train", "fresh", "validation", "test", "hard"]


class Section(BaseModel):
    """A frozen part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """What changes the data: all fields but those marked EXECUTION, as JSON values."""
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if EXECUTION in field.metadata:
                continue
            value = getattr(self, name)
            kept[name] = value.identity() if isinstance(value, Section) else value
        return kept


def _must_ask(prompt: str) -> str:
    if "{question}" not in prompt:
        raise ValueError("a prompt must contain {question}")
    return prompt


Prompt = Annotated[str, AfterValidator(_must_ask)]
