"""The commands of the documents that this machine can run, run as a reader types them, page by page."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pages
from tests.support.page_commands import why_not_run

pytestmark = [pytest.mark.trains, pytest.mark.serves, pytest.mark.timeout(900)]

# The share of `make check`: the first hour of a reader, and what takes seconds. The others are behind the mark `long`.
SHORT = {"docs/tutorials/embedded-world.md", "docs/doctor.md", "docs/how-to/nightly.md"}


def runnable(page: str) -> list[pages.Command]:
    files = pages.known_files(page)
    return [command for command in pages.commands(page) if command.typed and not why_not_run(command, files)]


def parameters() -> Iterator[object]:
    for page in pages.names():
        if runnable(page):
            yield pytest.param(page, marks=[pytest.mark.long] if page not in SHORT else [])


def run(command: pages.Command, folder: Path, environment: dict[str, str]) -> str:
    """What a command that fails says; nothing of one that ends well."""
    line = [sys.executable, "-m", "cohobate", *command.words[1:]]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    return f"{command.place}\n{done.stdout}{done.stderr}" if done.returncode else ""


@pytest.mark.parametrize("page", parameters())
def test_the_commands_of_a_page_run(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in pages.files(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    # Of this page alone: what another has made would make the beginnings of ids mean several things.
    own = {"COHOBATE_DATA": str(tmp_path / "data"), "PREFECT_HOME": str(tmp_path / "prefect")}
    environment = {**os.environ, **own}
    said = [run(command, tmp_path, environment) for command in runnable(page)]
    with capsys.disabled():
        print(f" [{page}: {len(said)} commands ran]", end="")
    assert [text for text in said if text] == []
    assert said
