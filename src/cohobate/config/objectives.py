"""The objectives that recipes can name: those that are installed, and a training stage that chooses one of them.

A declaration stands beside its loss, in the room of training, which comes after this one. So it is reached through the
registry `cohobate.OBJECTIVES` and through entry points, never by an import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import getdoc
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer, model_validator

from cohobate import OBJECTIVE_ENTRY_POINTS, OBJECTIVES
from cohobate.config.training import Training
from cohobate.core.errors import RecipeError
from cohobate.core.plug_ins import PlugIn, plug_in_of
from cohobate.core.settings import Section


class Needs(Protocol):
    """The part of `TeacherNeeds` (training/objectives/base) that recipes read."""

    @property
    def hidden(self) -> bool: ...
    @property
    def spans(self) -> bool: ...
    @property
    def listed(self) -> int: ...


class Declaration(Protocol):
    """The part of `Objective` (training/objectives/base, which says what each member means) that recipes read."""

    stage: ClassVar[Literal["sft", "opd"]]
    name: ClassVar[str]
    settings: ClassVar[type[Section]]
    version: ClassVar[int]
    for_server: ClassVar[str]
    dropout: ClassVar[bool]
    across_tokenizers: ClassVar[str]

    def __init__(self, config: Any) -> None: ...
    @property
    def needs(self) -> Needs | None: ...
    @property
    def samples_needed(self) -> int: ...
    def refusals(self) -> Iterator[str]: ...


class OnPolicyDeclaration(Declaration, Protocol):
    """The part of `OnPolicyObjective` that recipes read."""

    @property
    def rewarded(self) -> bool: ...
    @property
    def compares_group(self) -> bool: ...
    @property
    def references(self) -> Literal["triples", "gold"] | None: ...
    @property
    def on_policy_share(self) -> float: ...
    @property
    def prices_length(self) -> bool: ...
    def overlap_conflicts(self) -> Mapping[str, str]: ...


class ObjectiveStage(Training):
    """Settings of a training stage whose objective is chosen by name."""

    declarations: ClassVar[Mapping[str, type[Declaration]]] = {}
    """The objectives of the stage, by name."""

    objective: str = ""
    """The name of one; in a recipe the first that is declared."""

    @classmethod
    def served(cls) -> list[str]:
        """The names of those objectives that a server can score, as they are unless a recipe says otherwise."""
        stages = (cls(objective=name) for name in cls.declarations)
        return [s.objective for s in stages if s.asks_teacher and not s.needs_distributions and not s.by_spans]

    @property
    def declared(self) -> Declaration:
        """The declaration of the objective, with these settings."""
        return self.declarations[self.objective](self)

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher scores what is learnt."""
        return self.declared.needs is not None

    @property
    def needs_distributions(self) -> bool:
        """Whether it needs the teacher's whole distribution."""
        needs = self.declared.needs
        return needs is not None and needs.hidden

    @property
    def by_spans(self) -> bool:
        """Whether the teacher scores spans of text instead of tokens."""
        needs = self.declared.needs
        return needs is not None and needs.spans

    @property
    def teacher_top_k(self) -> int:
        """How many of the teacher's likeliest tokens it needs."""
        needs = self.declared.needs
        return 0 if needs is None else needs.listed

    def identity(self) -> dict[str, Any]:
        """The settings of another objective change nothing."""
        others = self.declarations.keys() - {self.objective}
        values = {name: value for name, value in super().identity().items() if name not in others}
        kind = self.declarations[self.objective]
        if kind.version != 1:
            values["objective_version"] = kind.version
        plug_in = _brought().get(kind)
        return {**values, **plug_in.identity(f"{kind.stage}.objective", RecipeError)} if plug_in else values

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for refusal in self.declared.refusals():
            raise ValueError(refusal)
        return self

    @model_serializer(mode="wrap")
    def _without_unused_plug_ins(self, to_values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A record can be read where a package is not installed whose objective it does not use."""
        values: dict[str, Any] = to_values(self)
        for name, kind in self.declarations.items():
            if name != self.objective and not _is_built_in(kind) and getattr(self, name, None) == kind.settings():
                values.pop(name, None)
        return values


Stage = TypeVar("Stage", bound=ObjectiveStage)


def with_objectives(stage: Literal["sft", "opd"]) -> Callable[[type[Stage]], type[Stage]]:
    """A class decorator: the settings of `stage`, with the names of its objectives and a section for each.

    Raises RecipeError where an installed package's objective cannot be loaded, or takes a name that is in use.
    """

    def extend(plain: type[Stage]) -> type[Stage]:
        declarations = {kind.name: kind for kind in installed() if kind.stage == stage}
        if clashes := declarations.keys() & plain.model_fields.keys():
            raise RecipeError(f"an objective cannot be called '{min(clashes)}', which is a setting of [{stage}]")
        summaries = (f"{name}: {_summary(kind)}" for name, kind in declarations.items())
        objective = Field(default=next(iter(declarations)), description=" ".join(summaries))
        fields: dict[str, Any] = {"objective": (Literal[tuple(declarations)], objective)}
        fields |= {name: (k.settings, k.settings()) for name, k in declarations.items() if k.settings.model_fields}
        extended: type[Stage] = _extended(plain, fields)
        extended.declarations = declarations
        return extended

    return extend


@cache
def installed() -> tuple[type[Declaration], ...]:
    """The declarations of cohobate, which need no metadata to be found, and those of installed packages."""
    declarations = (*map(_load, OBJECTIVES), *_brought())
    names = [(kind.stage, kind.name) for kind in declarations]
    if twice := [name for stage, name in names if names.count((stage, name)) > 1]:
        raise RecipeError(f"two installed objectives are called '{twice[0]}'; remove a package that brings one")
    return declarations


@cache
def _brought() -> Mapping[type[Declaration], PlugIn]:
    """The declarations of installed packages."""
    declarations: dict[type[Declaration], PlugIn] = {}
    for point in sorted(entry_points(group=OBJECTIVE_ENTRY_POINTS), key=lambda point: point.name):
        try:
            kind = point.load()
            if getattr(kind, "stage", None) not in ("sft", "opd"):
                raise TypeError("no objective of a stage")
            declarations[kind] = plug_in_of(point)
        except Exception as error:
            raise RecipeError(
                f"the objective '{point.name}' of an installed package cannot be loaded from {point.value} "
                f"({type(error).__name__}: {error}); mend the package or remove it"
            ) from error
    return declarations


def _extended(plain: type[Stage], fields: dict[str, Any]) -> Any:
    """A subclass in the place of `plain`, with further fields (Any: the type checker sees `plain`)."""
    same: dict[str, Any] = {"__base__": plain, "__module__": plain.__module__, "__doc__": plain.__doc__}
    return create_model(plain.__name__, **same, **fields)


def _load(path: str) -> type[Declaration]:
    module, _, name = path.partition(":")
    declaration: type[Declaration] = getattr(import_module(module), name)
    return declaration


def _is_built_in(kind: type[Declaration]) -> bool:
    return f"{kind.__module__}:{kind.__name__}" in OBJECTIVES


def _summary(kind: type[Declaration]) -> str:
    return (getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
