"""A section of settings: frozen, without unknown keys, and with an identity.

Fields marked EXECUTION say how the work is done (memory, cadence, machine) and never what comes out: they are no part
of an artifact's identity. Every other field is.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Execution:
    """Marks a field that cannot change the data."""


EXECUTION = _Execution()

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Memory = Annotated[int, Field(ge=1), EXECUTION]


class Section(BaseModel):
    """A frozen part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> dict[str, Any]:
        """The fields that change the data: all but those marked EXECUTION, as JSON values."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if EXECUTION in field.metadata:
                continue
            value = getattr(self, name)
            values[name] = value.identity() if isinstance(value, Section) else value
        return values
