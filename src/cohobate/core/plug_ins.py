"""Plug-ins: what installed packages bring by entry points, under a name that recipes give.

A package declares, for instance, `[project.entry-points."cohobate.verifiers"] shouted = "my_package.judging:shouted"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cohobate.core.errors import UserError
from cohobate.core.user_code import is_function_name, source_hash


@dataclass(frozen=True)
class PlugIn:
    """An entry point of an installed package. value: module:function."""

    name: str
    value: str
    distribution: str
    version: str

    def identity(self, setting: str, error: type[UserError]) -> dict[str, Any]:
        """What of it changes the data: its name, its package's version, and the sha256 of its module's source.

        Raises `error`, which names the `setting`, where there is no such module.
        """
        package = {"distribution": self.distribution, "version": self.version}
        return {"plug_in": self.name, **package, "source": source_hash(self.value, setting, error)}


def plug_in_of(point: EntryPoint) -> PlugIn:
    """An entry point, and the package that brings it."""
    dist = point.dist
    return PlugIn(point.name, point.value, dist.name if dist else "", dist.version if dist else "")


def plug_ins(group: str) -> Mapping[str, PlugIn]:
    """The plug-ins of a group, sorted by name.

    Raises ValueError where two packages bring the same name, or one is not written as module:function.
    """
    named: dict[str, PlugIn] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        plug_in = plug_in_of(point)
        if not is_function_name(plug_in.value):
            raise ValueError(
                f"the entry point '{point.name}' of {plug_in.distribution} in {group} is '{point.value}', and not "
                "module:function; mend the package or remove it"
            )
        other = named.setdefault(point.name, plug_in)
        if other != plug_in:
            raise ValueError(
                f"{other.distribution} and {plug_in.distribution} both bring '{point.name}' in {group}; remove one"
            )
    return named


def function_name(group: str, name: str, built_in: tuple[str, ...], what: str) -> str:
    """`name`, if it is built in, a plug-in of `group`, or module:function. what: a word for it.

    Raises ValueError, in one sentence that lists what there is, for another.
    """
    if name in built_in or is_function_name(name) or name in (installed := plug_ins(group)):
        return name
    names = ", ".join((*built_in, *installed))
    brought = "" if installed else f" (no installed package brings one as an entry point of {group})"
    raise ValueError(f"there is no {what} '{name}'; give {names}, or your own as module:function{brought}")
