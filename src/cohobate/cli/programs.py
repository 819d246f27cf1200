"""Programs that know Prefect: they replace the process of the command line, so that it imports none of it.

The process id stays the same, so that signals reach the work itself.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cohobate.core import interrupts


def become_flow(flow: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the program of a flow."""
    # In a terminal the progress lines are enough; Prefect's log still goes to its server.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    interrupts.delay()  # until the program is ready to say how to go on
    become(f"flows.{flow}", arguments)


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `module` of flows or tasks, as `python -m` would run it."""
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (str(_home()), os.environ.get("PYTHONPATH")) if part)
    sys.stdout.flush()
    # -P: a module of the working folder must not stand before a library that has the same name.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "cohobate.cli.programs", module, *arguments])


def _home() -> Path:
    """The folder with flows and tasks: `_prefect` of an installed package, else the repository.

    So that an installation takes no such common names, they are imported from there by cohobate's own programs alone.
    """
    package = Path(__file__).parents[1]
    installed = package / "_prefect"
    return installed if installed.is_dir() else package.parents[1]


if __name__ == "__main__":
    # Before the working folder, which may hold flows and tasks of somebody's own.
    sys.path.insert(0, str(_home()))
    # Behind the libraries: a function that the recipe names may import its neighbours when it is called.
    sys.path.append(str(Path.cwd()))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
