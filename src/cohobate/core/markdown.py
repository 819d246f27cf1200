"""Markdown that is written by hand: cells, tables, code blocks, YAML front matter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

Yaml = str | Sequence["Yaml"] | Mapping[str, "Yaml"]
# JSON's two escapes of one character beyond U+FFFF, which YAML does not join.
_SURROGATES = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")


def cell(value: object) -> str:
    """The text of a table's cell, on one line, with its bars escaped."""
    return " ".join(str(value).replace("|", "\\|").split())


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any run of backticks inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def quoted(text: str) -> str:
    """`text` as a double-quoted scalar of YAML: JSON's escapes, but one escape for a character beyond U+FFFF."""
    return _SURROGATES.sub(_one_escape, json.dumps(text))


def _one_escape(pair: re.Match[str]) -> str:
    character: str = json.loads(f'"{pair[0]}"')
    return f"\\U{ord(character):08x}"


def front_matter(values: Mapping[str, Yaml]) -> str:
    """`values` as the YAML between the dashes; strings are not quoted, which `quoted` does where it is needed."""
    return "\n".join(_yaml(values))


def _yaml(value: Yaml) -> list[str]:
    if isinstance(value, str):
        return [value]
    lines: list[str] = []
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str):
                lines.append(f"{name}: {inner}")
            else:
                indent = "  " if isinstance(inner, Mapping) else ""
                lines += [f"{name}:", *(indent + line for line in _yaml(inner))]
        return lines
    for inner in value:
        first, *rest = _yaml(inner)
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines
