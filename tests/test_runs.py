"""Records of runs, and which of them `cohobate resume` goes on with."""

from pathlib import Path

import pytest

from cohobate import runs
from cohobate.config import Recipe


def test_an_unreadable_record_is_named_and_passed_over(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = runs.begin(Recipe(name="whole"), "report")
    broken = runs.begin(Recipe(name="broken"), "report")
    broken.path.write_bytes(broken.path.read_bytes()[:40])
    assert runs.to_resume(None).id == whole.id
    assert str(broken.path) in capsys.readouterr().err
