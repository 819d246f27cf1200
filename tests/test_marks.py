"""The marks of tests are true, and a run of the tests in which none ran does not succeed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = """
import socket, subprocess, sys
import pytest

def test_adds():
    assert 1 + 1 == 2

def test_starts():
    subprocess.run([sys.executable, "-c", ""], check=True)

@pytest.mark.serves
def test_says_that_it_starts():
    test_starts()

def test_listens():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))

@pytest.mark.skip
def test_is_skipped():
    pass

@pytest.fixture(scope="session")
def finished():
    pass

def test_looks_at_a_run(finished):
    test_starts()
"""

pytestmark = pytest.mark.serves


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_it.py").write_text(SOURCE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.marks", "-p", "no:cacheprovider", "-q", "-rA"]
    return subprocess.run(
        [*command, "--rootdir", str(folder), *arguments, str(folder)], cwd=ROOT, capture_output=True, text=True
    )


def test_what_is_unmarked_is_fast_and_neither_starts_nor_listens(tmp_path: Path) -> None:
    result = run(tmp_path, "-m", "fast")
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    outcomes = {line.partition("::")[2].split(" ")[0]: line.split(" ")[0] for line in result.stdout.splitlines()}
    assert {name: outcome for name, outcome in outcomes.items() if name} == {
        "test_adds": "PASSED",
        "test_starts": "FAILED",
        "test_listens": "FAILED",
    }
    assert f"unmarked, and it starts {Path(sys.executable).name}" in result.stdout
    assert "unmarked, and it listens" in result.stdout


def test_what_is_marked_may(tmp_path: Path) -> None:
    result = run(tmp_path, "-m", "serves or trains")
    assert result.returncode == 0 and "2 passed" in result.stdout


@pytest.mark.parametrize("chosen", ["test_is_skipped", "none"])
def test_a_run_without_a_test_fails(chosen: str, tmp_path: Path) -> None:
    assert run(tmp_path, "-k", chosen).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
