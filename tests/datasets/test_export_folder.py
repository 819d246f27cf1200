"""The folder of an export: its card, what it replaces, and what remains of one that fails."""

from pathlib import Path

import pytest
import yaml

from cohobate.config import Recipe
from cohobate.core.errors import DamagedFileError, ExportError, SelectionError
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.store.artifacts import Artifact
from tests.support.exports import ALL, lines
from tests.support.made_triples import sample, triples


def test_the_card_says_what_the_data_are(mixed: Artifact, tmp_path: Path) -> None:
    export(mixed, Request("messages", Selection("correct", 1, (0.5, 1.0))), tmp_path / "out")
    _, front, text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(front)
    assert "license" not in head and head["size_categories"] == ["n<1K"]
    assert head["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}]
    for fact in [
        "| rows here | 2 |",
        "at most 1 a question, pass rate 0.5 to 1.0",
        "7 samples of 3 questions",
        "3 correct, 3 incorrect, 1 undecided",
        "1 never right, 2 sometimes right",
        mixed.fingerprint[:16],
        Recipe().teacher.prompt,
    ]:
        assert fact in text


def test_a_known_licence_stands_on_the_card(tmp_path: Path) -> None:
    rows = [sample("a", "x\nAnswer: 1", licence="CC-BY-4.0"), sample("b", "y\nAnswer: 1", licence="MIT")]
    export(triples(tmp_path, rows), Request("text", ALL), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == ["cc-by-4.0", "mit"]
    assert "| licence | CC-BY-4.0, MIT |" in card


def test_an_example_with_backticks_stays_in_its_block(tmp_path: Path) -> None:
    export(triples(tmp_path, [sample("a", "```\nx\n```\nAnswer: 1")]), Request("messages", ALL), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    # JSON writes the line breaks as \n, so the inner fences never begin a line.
    assert not any(line.startswith("```\\n") for line in card.splitlines())
    assert "````json" in card


def test_an_export_is_not_replaced_unless_forced(mixed: Artifact, tmp_path: Path) -> None:
    export(mixed, Request("messages", ALL), tmp_path / "out")
    with pytest.raises(ExportError, match="--force"):
        export(mixed, Request("alpaca", ALL), tmp_path / "out")
    assert "messages" in lines(tmp_path / "out")[0]
    export(mixed, Request("alpaca", ALL), tmp_path / "out", force=True)
    assert "instruction" in lines(tmp_path / "out")[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_a_folder_of_somebodys_own_is_never_replaced(mixed: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="other files"):
        export(mixed, Request("messages", ALL), tmp_path / "out", force=True)
    with pytest.raises(ExportError, match="is a file"):
        export(mixed, Request("messages", ALL), tmp_path / "out" / "thesis.txt", force=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_sentence(mixed: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(ExportError, match=f"{place} cannot be written") as caught:
            export(mixed, Request("messages", ALL), place)
        assert "\n" not in str(caught.value)


def test_an_export_that_fails_leaves_nothing_and_keeps_the_old_one(mixed: Artifact, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="--policy correct"):
        export(mixed, Request("messages", Selection("correct", None, (0.0, 0.1))), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    export(mixed, Request("messages", ALL), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(SelectionError, match="preference pairs"):
        export(mixed, Request("preference", Selection("all", None, (1.0, 1.0))), tmp_path / "out", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_damaged_triples_are_not_exported(mixed: Artifact, tmp_path: Path) -> None:
    with (mixed.path / "triples.parquet").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DamagedFileError, match=r"triples\.parquet"):
        export(mixed, Request("messages", ALL), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_export_twice_is_the_same_bytes(mixed: Artifact, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export(mixed, Request("messages", ALL), tmp_path / name / "out")
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name / "out").iterdir()} for name in ("a", "b"))
    assert one == other and len(one) > 1
