"""The programs that replace the command line's process."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_module_of_the_working_folder_takes_no_librarys_place(tmp_path: Path) -> None:
    (tmp_path / "annotated_types.py").write_text("raise SystemExit('the wrong one')\n")
    program = "from cohobate.cli.programs import become; become('tasks.parameters', [])"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
