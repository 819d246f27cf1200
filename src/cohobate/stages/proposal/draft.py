"""A recipe while it is proposed: settings in the order of its sections, each with the reason beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cohobate.config import Recipe
from cohobate.config.load import apply, make_recipe
from cohobate.core.errors import RecipeError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT_AT = 36  # column


@dataclass
class Draft:
    """sections: by their dotted names ("" the top), the keys with value and comment, in the order of the file."""

    sections: dict[str, dict[str, tuple[Any, str]]] = field(default_factory=dict)

    def set(self, section: str, comment: str = "", **values: Any) -> None:
        """Set keys of a section; `comment` stands behind the first of them. None: the key is left out."""
        keys = self.sections.setdefault(section, {})
        for key, value in values.items():
            if value is not None:
                keys[key] = (value, comment)
                comment = ""

    def values(self) -> dict[str, Any]:
        """The recipe's values, as TOML would give them."""
        values: dict[str, Any] = {}
        for section, keys in self.sections.items():
            table = values
            for part in section.split(".") if section else ():
                table = table.setdefault(part, {})
            table.update({key: value for key, (value, _) in keys.items()})
        return values

    def recipe(self) -> Recipe:
        """The recipe as it stands. Raises RecipeError."""
        return make_recipe(self.values(), "the proposed recipe")

    def override(self, overrides: Sequence[str]) -> None:
        """Put `section.key=value` over what was proposed. Raises RecipeError."""
        for each in overrides:
            table: dict[str, Any] = {}
            apply(table, each)
            path, value = _only(table)
            if isinstance(value, dict):
                raise RecipeError(f"--set {each}: set the keys of {'.'.join(path)} one by one")
            if ".".join(path) in self.sections:
                raise RecipeError(f"--set {each}: [{'.'.join(path)}] is a section; set its keys")
            self._override(path, value, each)

    def _override(self, path: Sequence[str], value: Any, override: str) -> None:
        """Set the value at `path`, which may lie in a table that is written on one line."""
        for cut in range(1, len(path) - 1):
            section, key = ".".join(path[:cut]), path[cut]
            if key in self.sections.get(section, {}):
                table, comment = self.sections[section][key]
                if not isinstance(table, Mapping):
                    raise RecipeError(f"--set {override}: '{section}.{key}' is a value, not a section")
                self.set(section, comment, **{key: _with(table, path[cut + 1 :], value)})
                return
        self.set(".".join(path[:-1]), "as --set says", **{path[-1]: value})

    def text(self, head: Sequence[str]) -> str:
        """The file, whose first comment is `head`."""
        lines = [f"# {line}".rstrip() for line in head]
        for section, keys in self.sections.items():
            if keys:
                lines += ["", f"[{section}]"] if section else [""]
                lines += [line for key, each in keys.items() for line in _lines(key, *each)]
        return "\n".join(lines) + "\n"


def _only(table: Mapping[str, Any]) -> tuple[list[str], Any]:
    """The path to the one value of nested tables, and the value."""
    path: list[str] = []
    value: Any = table
    while isinstance(value, dict) and len(value) == 1:
        [(key, value)] = value.items()
        path.append(key)
    return path, value


def _with(table: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`table` with another value at `path`."""
    key, *rest = path
    below = table.get(key)
    return {**table, key: _with(below if isinstance(below, Mapping) else {}, rest, value) if rest else value}


def _lines(key: str, value: Any, comment: str) -> list[str]:
    """The setting with its comment behind it, or above it where it is long."""
    line = f"{_key(key)} = {_toml(value)}"
    if not comment:
        return [line]
    return [f"{line:<{_COMMENT_AT - 1}} # {comment}"] if len(line) < _COMMENT_AT else [f"# {comment}", line]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _toml(key)


def _toml(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # TOML's escapes are JSON's, but that it escapes DEL too and no halves of pairs
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
