"""Functions of the user, named as module:function in a recipe."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cohobate.core.errors import UserError
from cohobate.core.fingerprint import hash_file
from cohobate.core.sanitize import first_line

# sha256 of the source with which `load_function` has loaded each module.
_loaded: dict[str, str] = {}


def is_function_name(text: str) -> bool:
    """Whether it is written as module:function."""
    module, colon, function = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), function))


def source_hash(name: str, setting: str, error: type[UserError]) -> str:
    """sha256 of the source of the module in `module:function`; the module is located, not run.

    Raises `error`, which names the `setting`, where there is no such source.
    """
    module = name.partition(":")[0]
    try:
        with _working_folder_first():
            source = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        source = None
    if source is None or not source.origin or not Path(source.origin).is_file():
        raise error(
            f"{setting}: there is no module '{module}' with a source file for '{name}'; give module:function of a file "
            "in the working directory or of an installed package"
        )
    return hash_file(Path(source.origin))


def load_function(name: str, setting: str, error: type[UserError]) -> Callable[..., Any]:
    """The function `module:function` of a file in the working directory, or of an installed package.

    A module whose source has changed since it was loaded here is loaded again: its code is that of `source_hash`.
    Raises `error`, which names the `setting`, where it cannot be loaded.
    """
    source = source_hash(name, setting, error)
    module, _, attribute = name.partition(":")
    try:
        with _working_folder_first(), _without_bytecode():
            imported = importlib.import_module(module)
            if _loaded.get(module, source) != source:
                imported = importlib.reload(imported)
        function: Callable[..., Any] = getattr(imported, attribute)
    except Exception as problem:  # importing runs the user's code, which can raise anything
        raise error(
            f"{setting}: {name} cannot be loaded ({type(problem).__name__}: {first_line(problem)}); give "
            "module:function of a file in the working directory or of an installed package"
        ) from problem
    if not callable(function):
        raise error(f"{setting}: {name} is no function but {type(function).__name__}")
    _loaded[module] = source
    return function


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """As workers look for modules."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Without files of bytecode, which stand for a source by its length and the second it was written in."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
