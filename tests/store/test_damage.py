"""Damaged files of the data folder: named, set aside, and in nobody's way."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.store import gc, listing, promotion, runs
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.folders import is_artifact, is_damaged
from tests.support.artifacts import make
from tests.support.command import cohobate


def flip(path: Path, place: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(path.read_text().replace(old, new))


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
    "deep objects": lambda path: path.write_text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no text": lambda path: path.write_bytes(bytes(range(256))),
    "nothing": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[1, 2]"),
    "no fields": lambda path: path.write_text("{}"),
    "another version": replace('"schema_version": 1', '"schema_version": 7'),
    "a huge number": lambda path: path.write_text('{"schema_version": ' + "9" * 10_000 + "}"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_manifest_that_cannot_be_read_hides_no_other_artifact(
    kind: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = make("questions", "questions")
    whole, broken = make("one", "triples", questions), make("two", "triples", questions)
    UNREADABLE[kind](broken.path / "manifest.json")
    assert [artifact.id for artifact in Store().all()] == [questions.id, whole.id]
    assert str(broken.path / "manifest.json") in capsys.readouterr().err
    status = {each.id: each.status for each in listing.list_artifacts()}
    assert status == {questions.id: "done", whole.id: "done", broken.id: "damaged"}
    assert Store().find("triples/").id == whole.id
    assert broken.path not in {each.path for each in gc.plan(keep=1).garbage}
    assert make("one", "triples", questions).cached


def test_every_bit_of_a_manifest_counts(data: Path) -> None:
    artifact = make("one", "questions")
    path = artifact.path / "manifest.json"
    content, manifest, named = path.read_bytes(), artifact.manifest, 0
    for place in range(0, len(content), 3):
        flip(path, place, place % 8)
        try:
            assert artifact.manifest == manifest  # such as another blank between two values
        except DamagedFileError as error:
            named += str(path) in str(error)
        path.write_bytes(content)
    assert named > 0.9 * len(range(0, len(content), 3))


def test_what_is_damaged_is_moved_aside_by_who_holds_the_lock(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process may be at this very artifact: it rebuilt it while we waited for the lock."""
    artifact = make("one", "questions")
    content = (artifact.path / "file").read_bytes()
    flip(artifact.path / "file", 500)

    def rebuilt_meanwhile(path: Path, artifact_id: str) -> object:
        monkeypatch.undo()
        (artifact.path / "file").write_bytes(content)
        return exclusive(path, artifact_id)

    from cohobate.core.locks import exclusive

    monkeypatch.setattr("cohobate.store.artifacts.exclusive", rebuilt_meanwhile)
    again = make("one", "questions")
    assert again.cached and again.path == artifact.path
    assert not Store().damaged() and "moved aside" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["x.damaged", "a-12345678.damaged", "b.damaged-1", "c.partial", "d-0a1b2c3d", "e.curated"]
)
def test_an_artifact_is_known_by_its_end_whatever_its_recipe_is_called(name: str, data: Path) -> None:
    artifact = make("one", "questions", recipe=name)
    assert [each.id for each in listing.list_artifacts()] == [artifact.id]
    assert Store().find(artifact.id).fingerprint == artifact.fingerprint
    flip(artifact.path / "file", 9)
    make("one", "questions", recipe=name)
    [aside] = Store().damaged()
    assert aside.name == f"{artifact.path.name}.damaged-1"
    assert [each.path for each in gc.plan(keep=1).garbage if each.why == "a damaged artifact"] == [aside]
    assert [each.status for each in listing.list_artifacts()] == ["done"]


def test_no_name_is_both_an_artifacts_and_a_damaged_ones() -> None:
    names = [
        f"{stem}-{end}" for stem in ("a", "a.damaged", "a-01234567.damaged") for end in ("01234567", "1", "abcdef01")
    ]
    both = [name for name in names if is_artifact(Path(name)) and is_damaged(Path(name))]
    assert both == [] and is_damaged(Path("a-01234567.damaged-1")) and is_artifact(Path("a-01234567.damaged-01234567"))


def student(data: Path) -> Artifact:
    """A student with its ancestors, of whose triples a byte is altered."""
    questions = make("questions", "questions")
    triples = make("triples", "triples", questions)
    flip(triples.path / "file", 999)
    return make("student", "sft", triples, questions)


def test_what_is_read_is_verified_first(data: Path) -> None:
    artifact = student(data)
    assert Store().open(artifact.id).id == artifact.id
    with pytest.raises(DamagedFileError, match=r"triples/night-\w+/file was altered.*run its recipe again"):
        Store().open("triples/night")


def test_what_was_made_of_damaged_data_is_not_promoted(data: Path) -> None:
    artifact = student(data)
    with pytest.raises(DamagedFileError, match=r"triples/night-\w+/file"):
        promotion.promote_lineage(Store(), artifact, "by hand")
    assert promotion.promoted("night") is None


@pytest.mark.serves
@pytest.mark.parametrize("command", ["show", "page", "publish", "promote", "export"])
def test_a_command_refuses_what_is_damaged_in_one_sentence(command: str, data: Path) -> None:
    triples = make("triples", "triples", make("questions", "questions"))
    flip(triples.path / "file", 0, 7)
    more = ["--format", "messages"] if command == "export" else []
    said = cohobate(command, triples.id, *more, data=data)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    [line] = said.stderr.splitlines()
    assert line.startswith("cohobate: ") and f"{triples.path.name}/file was altered" in line


@pytest.mark.parametrize("kind", [kind for kind in UNREADABLE if kind != "another version"])
def test_a_damaged_promotion_or_record_stops_no_list(kind: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = make("one", "questions")
    promotion.promote("night", [artifact], "by hand")
    promotion.promote("other", [artifact], "by hand")
    broken, whole = runs.begin(Recipe(name="broken"), "report"), runs.begin(Recipe(name="whole"), "report")
    pointer = data / "promoted" / "night.json"
    UNREADABLE[kind](pointer)
    UNREADABLE[kind](broken.path)
    assert [each.promoted for each in listing.list_artifacts()] == [True]
    assert [record.id for record in runs.all_records()] == [whole.id]
    said = capsys.readouterr().err
    assert str(pointer) in said and str(broken.path) in said
    runs.add_artifact(broken.id, artifact.id)
    runs.end(whole, "done")
    with pytest.raises(StoreError, match=r"night\.json cannot be read as a promotion"):
        gc.plan(keep=1)  # which could not tell what is promoted


@pytest.mark.parametrize(
    ("old", "new"), [('"tiny"', '"tinx"'), ('"seed": 0', '"seed": 1'), ("questions/a-1", "questions/a-2")]
)
def test_a_record_that_was_altered_is_not_resumed(old: str, new: str, data: Path) -> None:
    record = runs.begin(Recipe(name="tiny"), "report")
    runs.add_artifact(record.id, "questions/a-1")
    text = record.path.read_text()
    assert old in text
    record.path.write_text(text.replace(old, new))
    assert runs.all_records() == []


def test_records_and_promotions_of_before_they_had_checksums_are_read(data: Path) -> None:
    record = runs.begin(Recipe(name="old"), "report")
    promotion.promote("old", [make("one", "questions")], "by hand")
    for path in (record.path, data / "promoted" / "old.json"):
        values = json.loads(path.read_text())
        del values["seal"]
        path.write_text(json.dumps(values))
    assert [each.id for each in runs.all_records()] == [record.id]
    assert promotion.promoted("old") == promotion.all_promotions()[0]
