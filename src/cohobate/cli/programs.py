"""Programs that know Prefect: they replace the process of the command line, so that it imports none of it.

The process id stays the same, so that signals reach the work itself.
"""

from __future__ import annotations

import os
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
    """Replace this process by `python -m module`; flows and tasks of a source tree are found beside src."""
    root = Path(__file__).parents[3]
    if (root / "flows").is_dir():
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH")) if part)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
