"""`cohobate completion`: what a shell needs to complete commands, options, recipes, artifacts and runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

_VARIABLE = "_COHOBATE_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


# zsh evaluates what it is given.
_HARMLESS = re.compile(r"[\w./-]+")


def _harmless(names: Iterable[str]) -> list[str]:
    return [name for name in names if _HARMLESS.fullmatch(name)]


def recipes() -> list[str]:
    """Names of the shipped recipes, and the recipe files of the working folder."""
    from cohobate.core.shipped import shipped_recipes

    return [*shipped_recipes(), *_harmless(sorted(path.name for path in Path().glob("*.toml")))]


def artifacts() -> list[str]:
    """Ids of the artifacts, by the names of their folders."""
    from cohobate.store.artifacts import data_root
    from cohobate.store.folders import is_artifact

    folders = [path.parent for path in data_root().glob("*/*/manifest.json")]
    return _harmless(sorted(f"{folder.parent.name}/{folder.name}" for folder in folders if is_artifact(folder)))


def run_records() -> list[str]:
    """Ids of the runs, newest first."""
    from cohobate.store.artifacts import data_root

    files = sorted((data_root() / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return _harmless(path.stem for path in files)


def stages() -> list[str]:
    """The stages of a distillation."""
    from cohobate.store.artifacts import STAGES

    return list(STAGES)


def shells() -> list[str]:
    """The shells that can be completed in."""
    return list(_SHELLS)


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=shells)],
) -> None:
    """Print the code that makes a shell complete cohobate's commands: eval "$(cohobate completion bash)"."""
    from typer._completion_shared import get_completion_script  # what its own --show-completion prints

    from cohobate.core.errors import UserError

    if shell not in _SHELLS:
        raise UserError(f"completion {shell}: the shells are {', '.join(_SHELLS)}")
    print(get_completion_script(prog_name="cohobate", complete_var=_VARIABLE, shell=shell))


def prepare() -> None:
    """Make typer know its shells where one of them asks for completions."""
    if _VARIABLE in os.environ:
        from typer._completion_classes import completion_init  # typer itself does so for --install-completion

        completion_init()
