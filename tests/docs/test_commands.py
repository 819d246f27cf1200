"""Every command of the documents is one that cohobate takes, with settings that its recipe takes."""

from collections import Counter
from pathlib import Path

import pytest

from cohobate.core.errors import CohobateError
from tests.support import pages
from tests.support.page_commands import WrongCommandError, check_recipe, parse, why_not_run


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("page", pages.names())
def test_the_commands_of_a_page_are_taken(page: str, reader: Path) -> None:
    files = pages.files(page)
    save(files, reader)
    wrong = []
    for command in pages.commands(page):
        try:
            parameters = parse(command.words, strict=command.typed)
            check_recipe(parameters, list(files))
        except (WrongCommandError, CohobateError) as error:
            wrong.append(f"{command.place}: {error}")
    assert wrong == []


def test_it_is_said_which_are_run_and_which_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = Counter(
        why_not_run(command, pages.known_files(page))
        for page in pages.names()
        for command in pages.commands(page)
        if command.typed
    )
    run = reasons.pop("", 0)
    with capsys.disabled():
        print(f"\ncommands in blocks of the documents: {run} are run, {sum(reasons.values())} parsed, of which")
        for reason, count in reasons.most_common():
            print(f"  {count:3}  {reason}")
    assert run
