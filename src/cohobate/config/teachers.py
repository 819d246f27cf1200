"""Several teachers with names, and which of them a question goes to."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import model_validator

from cohobate.config.base import RecipeName
from cohobate.config.models import Teacher
from cohobate.config.opd import Opd
from cohobate.core.settings import EXECUTION, PositiveShare, Section

# Of shares that add up to 1, as people write thirds.
_ROUNDING = 1e-3


class NamedTeacher(Teacher):
    """One of several teachers: the settings of [teacher], and a name."""

    name: Annotated[RecipeName, EXECUTION]
    """What [route], the triples and the ledger call it."""

    @property
    def settings(self) -> Teacher:
        """The same teacher without its name, as a recipe of one teacher has it."""
        return Teacher.model_validate(self.model_dump(exclude={"name"}))


class Route(Section):
    """Which of several teachers a question goes to: by a column of the questions, or by shares of all."""

    column: str | None = None
    """The column that decides: one that the questions' own file brings and that nothing else uses, or kind or depth."""
    values: dict[str, str] = {}
    """The teacher of each value of the column, such as {math = "big"}; numbers are written as in JSON."""
    default: str | None = None
    """The teacher of questions with another value, or without one; None: they are refused before anything is spent."""
    share: dict[str, PositiveShare] = {}
    """In place of a column, the share of each teacher, such as {big = 0.7, small = 0.3}. The hash of a question's id
    decides, so that a question which is added moves no other; the parts are in the order of [[teachers]]."""

    def identity(self) -> dict[str, Any]:
        values = super().identity()
        if list(self.share) != sorted(self.share):  # the order of names was that of all routes before
            values["order"] = list(self.share)
        if any(map(_is_number, self.values)):  # which before met no float that is written with a fraction of zero
            values["numbers"] = 2
        return values

    def in_order_of(self, names: Sequence[str]) -> Self:
        """The same route, with the shares in the order of the teachers' names."""
        return type(self).model_validate(
            {**self.model_dump(), "share": {name: self.share[name] for name in names if name in self.share}}
        )

    @property
    def names(self) -> list[str]:
        """The teachers that it names, in order."""
        default = [] if self.default is None else [self.default]
        return list(dict.fromkeys([*self.values.values(), *default, *self.share]))

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.column is None and not self.share:
            raise ValueError("say what decides: column and values, or share")
        if self.column is not None and self.share:
            raise ValueError("column and share are two ways to decide; give one of them")
        if self.column is None and (self.values or self.default):
            raise ValueError("values and default belong to a column, and share needs neither; set column, or drop them")
        if self.column is not None and not self.values:
            raise ValueError(f"no value of the column '{self.column}' has a teacher; give some in values")
        if self.share and not adds_up(self.share):
            raise ValueError(f"the shares add up to {sum(self.share.values()):g}, not to 1")
        return self


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def adds_up(shares: Mapping[str, float]) -> bool:
    """Whether shares add up to 1, but for rounding."""
    return math.isclose(sum(shares.values()), 1, abs_tol=_ROUNDING)


def refuse_unroutable(teachers: Sequence[NamedTeacher], route: Route | None) -> None:
    """Raise ValueError where teachers and route do not belong together."""
    names = [teacher.name for teacher in teachers]
    if not names:
        if route is not None:
            raise ValueError("[route] is for several teachers; name them in [[teachers]], or drop it")
        return
    if len(names) == 1:
        raise ValueError(f"[[teachers]] has one teacher, '{names[0]}'; write one as [teacher], without a name")
    folded = [name.casefold() for name in names]
    if twice := [name for name, low in zip(names, folded, strict=True) if folded.count(low) > 1]:
        raise ValueError(f"two of [[teachers]] have the name '{twice[0]}'; give each its own, other than in case too")
    if route is None:
        raise ValueError("[[teachers]] needs [route], which says whose question is whose; set route.column or share")
    for name in route.names:
        if name not in names:
            raise ValueError(f"[route] names the teacher '{name}', and [[teachers]] are {', '.join(names)}")
    if idle := [name for name in names if name not in route.names]:
        raise ValueError(f"[route] sends no question to the teacher '{idle[0]}'; name it there, or drop it")
    if len({teacher.answer for teacher in teachers}) > 1:
        raise ValueError("students' answers are read in one form, so all of [[teachers]] must have the same answer")


def refuse_unmixable(teachers: Sequence[NamedTeacher], opd: Opd) -> None:
    """Raise ValueError where opd.mixture is none of these teachers' distributions."""
    if not opd.mixture:
        return
    names = [teacher.name for teacher in teachers]
    if not names:
        raise ValueError("opd.mixture is of several teachers; name them in [[teachers]], or drop it")
    for name in opd.mixture:
        if name not in names:
            raise ValueError(f"opd.mixture names the teacher '{name}', and [[teachers]] are {', '.join(names)}")
    if len(opd.mixture) == 1:
        raise ValueError("opd.mixture has one teacher; a question goes to one by [route], so drop the mixture")
    if not adds_up(opd.mixture):
        raise ValueError(f"the shares of opd.mixture add up to {sum(opd.mixture.values()):g}, not to 1")
    needs = opd.declared.needs
    if needs is None:
        raise ValueError(f"opd.objective = '{opd.objective}' asks no teacher for scores; drop opd.mixture")
    if needs.spans:
        raise ValueError(
            "opd.mixture is of distributions over one vocabulary, and the objective scores spans of text; drop "
            "opd.mixture, or let the teachers read the student's tokens"
        )
    served = [teacher.name for teacher in teachers if teacher.name in opd.mixture and teacher.scores_by_server]
    if served and needs.listed:
        raise ValueError(
            f"the likeliest tokens of a mixture are no server's, and '{served[0]}' scores by one; set opd.objective = "
            "'sampled', or that teacher's scoring = 'local'"
        )
