"""`cohobate` as a user runs it: a process of its own, its JSON, its one sentence of refusal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def cohobate(*arguments: str, data: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cohobate", *arguments],
        env={**os.environ, "COHOBATE_DATA": str(data)},
        cwd=data.parent if data.parent.is_dir() else None,
        capture_output=True,
        text=True,
        timeout=120,
    )


def answer(*arguments: str, data: Path) -> Any:
    """The JSON that a script would read."""
    result = cohobate(*arguments, "--json", data=data)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def refusal(*arguments: str, data: Path) -> str:
    """The one line on standard error of a command that exits with 2."""
    result = cohobate(*arguments, data=data)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "Traceback" not in line
    return line
