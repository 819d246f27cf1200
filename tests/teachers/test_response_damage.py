"""Damage in the response store costs the rows that it hit, is said, and is in nobody's way."""

import json
import os
import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.core.errors import DamagedFileError
from cohobate.teachers import response_parts
from cohobate.teachers.base import Response
from cohobate.teachers.response_journal import storable
from cohobate.teachers.response_store import ResponseStore
from tests.support.damage import damages

KEYS = [f"key-{number:02d}" for number in range(24)]
TEXTS = {key: f"{key}: {'we add the numbers, ' * 40}\nAnswer: {key[-1]} é" for key in KEYS}
GROUP = 6


def response(key: str) -> Response:
    return Response(key, TEXTS[key], f"thought of {key}", "stop", 7, 9, 1.5, served_model="m")


def write(folder: Path, *, compacted: bool) -> Path:
    """The one file of a store of all keys, in four row groups or lines; a journal as a kill leaves it."""
    store = ResponseStore(folder)
    with store.writer(paid_by="me", max_tokens=64, engine_version="1") as writer:
        for start in range(0, len(KEYS), GROUP):
            writer.append([response(key) for key in KEYS[start : start + GROUP]])
        [journal] = folder.glob("journal-*.jsonl")
        content = journal.read_bytes()
    [part] = folder.glob("part-*.parquet")
    if compacted:
        return part
    for path in folder.glob("part-*"):
        path.unlink()
    journal.write_bytes(content)
    return journal


def texts(folder: Path) -> dict[str, str]:
    return dict(ResponseStore(folder).find(KEYS, 64).select("key", "text").iter_rows())


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from cohobate.teachers import response_store

    for module in (response_store, response_parts):
        monkeypatch.setattr(module, "GROUP_ROWS", GROUP)


def refill(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["part", "journal", "checksums"])
def test_wherever_a_file_is_damaged_no_other_text_comes_out(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, compacted=kind != "journal")
    path = path.with_name(f"{path.name}.crc32") if kind == "checksums" else path
    files = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    lost = []
    for content in damages(files[path.name], 62, 1):
        refill(tmp_path, {**files, path.name: content})
        capsys.readouterr()
        found = texts(tmp_path)
        said = capsys.readouterr().err
        assert {key: TEXTS[key] for key in found} == found
        lost.append(len(KEYS) - len(found))
        # A journal that was cut looks as a kill leaves it.
        assert kind != "part" or path.name in said
        assert texts(tmp_path) == found and "moved aside" not in capsys.readouterr().err
        ResponseStore(tmp_path).compact()
        assert texts(tmp_path) == found
    assert len(lost) == 124
    if kind == "checksums":
        assert set(lost) == {0}
    else:
        flips = lost[:62]
        # A row group, or a line; two where the byte between two lines was hit, or a block in which two row groups lie.
        assert sorted(flips)[len(flips) // 2] <= 2 * GROUP and 0 < max(flips) <= len(KEYS)


def test_a_cut_part_keeps_the_row_groups_before_the_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts that cannot be compressed, so that the row groups are longer than a block."""
    draw = random.Random(0)
    noise = {key: draw.randbytes(30_000).hex() for key in KEYS}
    store = ResponseStore(tmp_path)
    with store.writer(paid_by="me", max_tokens=64, engine_version="1") as writer:
        writer.append([replace(response(key), text=noise[key]) for key in KEYS])
    [part] = tmp_path.glob("part-*.parquet")
    content = part.read_bytes()
    part.write_bytes(content[: len(content) * 5 // 8])
    found = texts(tmp_path)
    assert sorted(found) == KEYS[: 2 * GROUP] and all(noise[key] == text for key, text in found.items())
    assert f"{part} was altered and is moved aside; 12 of its 24 responses" in capsys.readouterr().err
    assert part.with_name(f"{part.name}.damaged-1").read_bytes() == content[: len(content) * 5 // 8]
    content = (rescued := part.with_name(f"{part.stem}-rescued.parquet")).read_bytes()
    rescued.write_bytes(content[:-100_000])  # and it happens again
    assert sorted(texts(tmp_path)) == KEYS[:GROUP]


def folder_there(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


@pytest.mark.parametrize("put", [folder_there, link_to_nothing, os.mkfifo])
@pytest.mark.parametrize("name", ["part-x.parquet", "journal-x.jsonl", ".claims-1-x"])
def test_what_is_no_file_is_passed_over(
    put: Callable[[Path], object], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, compacted=True)
    put(tmp_path / name)
    store = ResponseStore(tmp_path)
    with store.claims() as claims:
        assert claims.take(["another"]) == [True]
        assert texts(tmp_path) == TEXTS
    store.compact()
    assert texts(tmp_path) == TEXTS and f"{tmp_path / name} is no file" in capsys.readouterr().err


def test_a_store_of_before_it_had_checksums_is_read_and_gets_them(tmp_path: Path) -> None:
    part = write(tmp_path, compacted=True)
    checksums = part.with_name(f"{part.name}.crc32")
    before = json.loads(checksums.read_text())
    checksums.unlink()
    line = {"max_tokens": 64, "paid_by": "me", "engine_version": "1", "created_at": "2026-01-01T00:00:00.000+00:00"}
    rows = [["old", "an old text", None, "stop", 7, 9, 1.0, 1, None, None]]
    (tmp_path / "journal-old.jsonl").write_text(json.dumps({**line, "rows": rows}) + "\n")
    assert texts(tmp_path) == TEXTS
    assert ResponseStore(tmp_path).find(["old"], 64)["text"].to_list() == ["an old text"]
    assert json.loads(checksums.read_text()) == before


def test_what_an_earlier_version_let_into_a_journal_costs_its_own_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"max_tokens": 64, "paid_by": "me", "engine_version": "1", "created_at": "2026-01-01T00:00:00.000+00:00"}
    good = ["good", "text", None, "stop", 7, 9, 1.0, 1, None, "m"]
    bad: list[list[Any]] = [
        ["count", "text", None, "stop", 2**31, 9, 1.0, 1, None, None],
        ["words", "text", None, "stop", "seven", 9, 1.0, 1, None, None],
        ["parts", [{"text": "text"}], None, "stop", 7, 9, 1.0, 1, None, None],
        ["nothing", None, None, "stop", 7, 9, 1.0, 1, None, None],
        ["huge", "text", None, "stop", 7, 10**30, 1.0, 1, 10**30, None],
    ]
    store = ResponseStore(tmp_path)
    for number, row in enumerate(bad):
        (tmp_path / f"journal-{number}.jsonl").write_text(json.dumps({**line, "rows": [row, good]}) + "\n")
    for _ in range(2):
        assert store.find(["good", *(row[0] for row in bad)], 64)["key"].to_list() == ["good"]
        store.compact()
    assert not list(tmp_path.glob("journal-*.jsonl")) and "journal-0.jsonl: 1 responses" in capsys.readouterr().err


def test_a_kill_between_a_part_and_the_end_of_its_journal_leaves_one_of_each_response(tmp_path: Path) -> None:
    journal = write(tmp_path, compacted=False)
    content = journal.read_bytes()
    store = ResponseStore(tmp_path)
    store.compact()
    [part] = tmp_path.glob("part-*.parquet")
    inode = part.stat().st_ino
    journal.write_bytes(content)
    assert texts(tmp_path) == TEXTS
    store.compact()
    assert part.stat().st_ino == inode and texts(tmp_path) == TEXTS and not journal.exists()


def test_a_part_that_is_altered_between_the_look_up_and_the_reading_is_refused(tmp_path: Path) -> None:
    part = write(tmp_path, compacted=True)
    responses = ResponseStore(tmp_path).locate(KEYS, 64)
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 4
    part.write_bytes(content)
    with pytest.raises(DamagedFileError, match=part.name):
        responses.read()


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=20), st.lists(st.text())
)


@given(
    text=st.text(st.characters(), max_size=40),
    reasoning=st.none() | st.text(st.characters(), max_size=40),
    counts=st.tuples(anything, anything, anything),
    model=anything,
    finish=st.text(st.characters(), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_reply_holds_the_store_takes_and_gives_back(
    text: str, reasoning: str | None, counts: tuple[Any, Any, Any], model: Any, finish: str
) -> None:
    response = Response("key", text, reasoning, finish, counts[0], counts[1], 1.0, 1, counts[2], model)
    stored = storable(response)
    frame = pl.DataFrame({"text": [stored.text], "model": [stored.served_model], "count": [stored.prompt_tokens]})
    assert frame["text"][0] == stored.text and 0 <= stored.prompt_tokens < 2**31
    odd = any(0xD800 <= ord(c) < 0xE000 or (unicodedata.category(c) == "Cc" and c not in "\t\n\r") for c in text)
    assert odd or stored.text == text
    assert json.dumps([stored.text, stored.reasoning, stored.finish_reason], ensure_ascii=False).encode()
    assert storable(stored) == stored
