"""Functions of the user, named as module:function in a recipe."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from cohobate.core.errors import UserError
from cohobate.core.fingerprint import hash_file


def is_function_name(text: str) -> bool:
    """Whether it is written as module:function."""
    module, colon, function = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), function))


def source_hash(name: str, setting: str, error: type[UserError]) -> str:
    """sha256 of the source of the module in `module:function`; the module is located, not run.

    Raises `error`, which names the `setting`, where there is no such source.
    """
    module = name.partition(":")[0]
    before = list(sys.path)
    try:
        sys.path.insert(0, str(Path.cwd()))  # where workers look first
        source = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        source = None
    finally:
        sys.path[:] = before
    if source is None or not source.origin or not Path(source.origin).is_file():
        raise error(
            f"{setting}: there is no module '{module}' with a source file for '{name}'; give module:function of a file "
            "in the working directory or of an installed package"
        )
    return hash_file(Path(source.origin))
