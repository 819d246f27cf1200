"""A source of questions that is a function: of the user (module:function), or of an installed package.

It is called with the keyword path, which is None where the recipe has none, and those of questions.options; it gives
rows, dicts by the names of columns, which are read as those of a file. It runs in this process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cohobate import SOURCE_ENTRY_POINTS
from cohobate.config import Questions
from cohobate.core import plug_ins
from cohobate.core.errors import CohobateError, QuestionsError
from cohobate.core.fingerprint import canonical
from cohobate.core.sanitize import first_line
from cohobate.core.user_code import is_function_name, load_function, source_hash
from cohobate.sources.base import LONGEST_ROW, NumberedRow, Part, Row

_SETTING = "questions.source"
_MOST = 10_000_000  # rows; a function that gives them without end would be waited for without end


def identity(config: Questions) -> dict[str, Any]:
    """The function, and the sha256 of the rows that it gives now: what it reads, and from where, is its own affair.

    Raises QuestionsError for a function that cannot be loaded, fails, or gives other rows when it is called again.
    """
    if is_function_name(config.source):
        function = {"name": config.source, "source": source_hash(config.source, _SETTING, QuestionsError)}
    else:
        function = _plug_in(config).identity(_SETTING, QuestionsError)
    content = _content(config)
    if content != _content(config):
        raise QuestionsError(
            f"{_SETTING}: {config.source} gives other rows each time it is called, so what is made of them would never "
            "be found again; let it draw by a seed of its own, and sort what has no order"
        )
    return {**function, "content": content}


def part(config: Questions) -> Part:
    """The rows of the function."""
    return Part(config.source, "row", lambda: _rows(config))


def _content(config: Questions) -> str:
    """sha256 over the rows, of which each stands in a line."""
    digest = hashlib.sha256()
    for number, row in _rows(config):
        if number > _MOST:
            raise QuestionsError(f"{_SETTING}: {config.source} gives more than {_MOST:,} rows; write them to a file")
        digest.update(canonical(row) + b"\n")
    return digest.hexdigest()


def _rows(config: Questions) -> Iterator[NumberedRow]:
    function, number = _load(config), 0
    try:
        given = iter(function(path=config.path, **config.options))
        for number, row in enumerate(given, start=1):
            yield number, _checked(row, f"{config.source} row {number}")
    except CohobateError:
        raise
    except Exception as error:  # it is the user's, and can raise anything
        place = f"after row {number}" if number else "before its first row"
        raise QuestionsError(
            f"{_SETTING}: {config.source} fails {place} ({type(error).__name__}: {first_line(error)}); mend it"
        ) from error


def _checked(row: Any, where: str) -> Row:
    """The row as plain JSON values, so that it is what a file would hold."""
    if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
        raise QuestionsError(
            f"{where} is no dict with texts as keys but {type(row).__name__}; give {{'question': ...}}"
        )
    try:
        text = canonical(dict(row))
    except (TypeError, ValueError, RecursionError) as error:
        raise QuestionsError(
            f"{where} holds what JSON has no form for ({first_line(error)}); give plain values"
        ) from None
    if len(text) > LONGEST_ROW:
        raise QuestionsError(f"{where} is larger than {LONGEST_ROW >> 20} MiB, and is no question")
    values: Row = json.loads(text)
    return values


def _load(config: Questions) -> Callable[..., Any]:
    value = config.source if is_function_name(config.source) else _plug_in(config).value
    return load_function(value, _SETTING, QuestionsError)


def _plug_in(config: Questions) -> plug_ins.PlugIn:
    return plug_ins.plug_ins(SOURCE_ENTRY_POINTS)[config.source]  # the recipe was refused without it
