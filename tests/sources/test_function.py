"""Questions of a function: the user's own, or one that an installed package brings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cohobate.config import Questions
from cohobate.core.errors import QuestionsError
from cohobate.sources.read import identity, read
from tests.support.distributions import write_distribution

SQUARES = """
def squares(path=None, count=30):
    for n in range(count):
        yield {"question": f"What is {n} squared?", "gold_answer": n * n, "split": ("train", "test")[n % 2]}
"""


def installed(folder: Path, patch: pytest.MonkeyPatch, source: str = SQUARES, module: str = "square_source") -> Path:
    """A package on the path that brings the source `squares`."""
    entry_points = {"cohobate.sources": {"squares": f"{module}:squares"}}
    made = write_distribution(folder, module, {f"{module}.py": source}, entry_points)
    patch.syspath_prepend(str(made))
    return made / f"{module}.py"


def in_folder(source: str, folder: Path, patch: pytest.MonkeyPatch, module: str) -> Questions:
    """A recipe's questions of a function in the working folder."""
    (folder / f"{module}.py").write_text(source)
    patch.chdir(folder)
    return Questions(source=f"{module}:rows")


def test_its_rows_are_read_as_those_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch)
    table = read(Questions(source="squares", options={"count": 7})).questions
    assert table.select("question", "gold_answer", "split").rows() == [
        (f"What is {n} squared?", str(n * n), ("train", "test")[n % 2]) for n in range(7)
    ]


def test_function_package_version_options_and_rows_are_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = installed(tmp_path, monkeypatch, module="known_squares")
    few, many = (Questions(source="squares", options={"count": count}) for count in (3, 4))
    seen = [identity(few), identity(many)]
    assert (
        seen[0]["function"].items() >= {"plug_in": "squares", "distribution": "known_squares", "version": "1.0"}.items()
    )
    file.write_text(SQUARES + "\n# another version of the source\n")
    seen.append(identity(few))
    metadata = tmp_path / "known_squares-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    seen.append(identity(few))
    assert [seen.count(each) for each in seen] == [1, 1, 1, 1]
    assert identity(few) == seen[-1]


def test_rows_that_change_between_runs_are_another_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.txt"
    table.write_text("a\nb\n")
    source = "def rows(path):\n    return [{'question': line} for line in open(path)]\n"
    config = in_folder(source, tmp_path, monkeypatch, "from_table").model_copy(update={"path": str(table)})
    before = identity(config)
    table.write_text("a\nb\nc\n")
    assert identity(config) != before and len(read(config).questions) == 3


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_module", "cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"),
        ("rows = 3", "is no function but int"),
        ("def rows():\n    pass", "fails before its first row (TypeError"),
        ("def rows(path):\n    yield {'question': 'a'}\n    raise KeyError('x\\ny')", "fails after row 1 (KeyError"),
        ("def rows(path):\n    return None", "fails before its first row (TypeError"),
        ("def rows(path):\n    yield ['a']", "row 1 is no dict with texts as keys but list"),
        ("def rows(path):\n    yield {1: 'a'}", "row 1 is no dict with texts as keys"),
        ("def rows(path):\n    yield {'question': object()}", "row 1 holds what JSON has no form for"),
        (
            "def rows(path):\n    yield {'question': 'a', 'score': float('nan')}",
            "row 1 holds what JSON has no form for",
        ),
        ("import random\ndef rows(path):\n    yield {'question': str(random.random())}", "gives other rows each time"),
        ("def rows(path):\n    yield {'query': 'a'}", "has no column 'question'"),
        ("def rows(path):\n    return []", "holds no question"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_sentence(
    source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    config = in_folder(source, tmp_path, monkeypatch, f"broken_{abs(hash(source))}")
    with pytest.raises(QuestionsError) as caught:
        identity(config)
        read(config)
    assert sentence in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"source": "cubes"},
            "no source of questions 'cubes'; give world, file, documents, squares, or your own",
        ),
        ({"source": "world", "options": {"count": 3}}, "options are for a source of your own"),
        ({"source": "squares", "options": {"count": [3]}}, "options"),
        ({"source": "file"}, "source = 'file' needs a path"),
    ],
)
def test_a_recipe_that_names_none_is_refused(
    values: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    with pytest.raises(ValidationError, match=sentence):
        Questions.model_validate(values)
