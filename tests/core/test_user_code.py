"""Functions of the user: what runs is the source that the identity is of."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cohobate.config import Questions
from cohobate.core.answer_forms import find_answer, form_identity
from cohobate.core.errors import RecipeError
from cohobate.core.user_code import load_function, source_hash
from cohobate.sources.function import identity


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module of the working folder, which no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "changing_code", raising=False)
    yield tmp_path / "changing_code.py"
    sys.modules.pop("changing_code", None)


def test_a_form_that_is_edited_between_two_stages_runs_as_it_is_now(module: Path) -> None:
    """Of the same length, within the same second: no file of bytecode stands for the source."""
    answers = []
    for word in ("alpha", "gamma"):
        module.write_text(f"def answer(text):\n    return '{word}'\n")
        identified = form_identity("changing_code:answer")
        statement = find_answer("Nothing is said.", "changing_code:answer")
        assert statement is not None
        answers.append((statement.answer, identified["answer_form"][1]))
    assert [text for text, _ in answers] == ["alpha", "gamma"] and answers[0][1] != answers[1][1]
    assert not list(module.parent.rglob("*.pyc"))


def test_a_source_that_is_edited_gives_its_new_rows(module: Path) -> None:
    seen = []
    for word in ("alpha", "gamma"):
        module.write_text(f"def rows(path):\n    return [{{'question': 'What is {word}?'}}]\n")
        seen.append(identity(Questions(source="changing_code:rows")))
    assert seen[0]["content"] != seen[1]["content"] and seen[0]["source"] != seen[1]["source"]


def test_what_cannot_be_loaded_is_one_sentence(module: Path) -> None:
    module.write_text("value = 3\n")
    for name, reason in (("changing_code:value", "is no function but int"), ("changing_code:other", "AttributeError")):
        with pytest.raises(RecipeError, match=reason):
            load_function(name, "teacher.answer", RecipeError)
    before = list(sys.path)
    with pytest.raises(RecipeError, match="there is no module 'no_such_module'"):
        source_hash("no_such_module:answer", "teacher.answer", RecipeError)
    assert sys.path == before
