"""The response store: journals and parts, several writers, torn lines, kills."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cohobate.teachers import response_journal, response_parts
from cohobate.teachers.base import Request, Response
from cohobate.teachers.response_store import ResponseStore

REQUEST = Request(
    question_id="q",
    messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}],
    model="m",
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    max_tokens=64,
    seed=0,
    sample_index=0,
)
# A run that stores 4 responses of 20 kB at a time, and says so after each batch.
WRITER = """
import sys
from pathlib import Path
from cohobate.teachers.response_store import ResponseStore
from cohobate.teachers.base import Response

folder, name, batches = sys.argv[1:]
with ResponseStore(Path(folder)).writer(paid_by=name, max_tokens=64, engine_version="1") as writer:
    for i in range(int(batches)):
        keys = [f"{name}-{i}-{j}" for j in range(4)]
        writer.append([Response(key, key * 2000, None, "stop", 7, 9, 1.0) for key in keys])
        print(i, flush=True)
"""


def response(key: str, text: str = "text", *, tokens: int = 10, finish_reason: str = "stop") -> Response:
    return Response(key, text, None, finish_reason, 7, tokens, latency_ms=1.5)


def write(store: ResponseStore, rows: list[Response], *, paid_by: str = "me", max_tokens: int = 64) -> None:
    with store.writer(paid_by=paid_by, max_tokens=max_tokens, engine_version="1") as writer:
        writer.append(rows)


def texts(store: ResponseStore, keys: Sequence[str], max_tokens: int = 64) -> dict[str, str]:
    return dict(store.find(keys, max_tokens).select("key", "text").iter_rows())


def journal(folder: Path, batches: Sequence[Sequence[Response]]) -> bytes:
    """What a writer of these batches has on the disk before its block ends: what a kill leaves behind."""
    store = ResponseStore(folder)
    with store.writer(paid_by="killed", max_tokens=64, engine_version="1") as writer:
        for batch in batches:
            writer.append(batch)
        [path] = folder.glob("journal-*")
        return path.read_bytes()


def start_writer(folder: Path, name: str, batches: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(folder), name, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_is_stored_is_found_as_it_was(data: Path) -> None:
    started = datetime.now(UTC)
    stored = [
        response("plain"),
        response("odd", '<think>"é日"\n\u2028\\boxed{5}</think>\r\n\tAnswer: 5'),
        replace(response("reasoned"), reasoning="2 + 3", attempts=3),
        response("empty", "", tokens=1),
    ]
    write(ResponseStore(), stored, paid_by="me")
    found = ResponseStore().find([item.key for item in stored], 64)
    rows = {row["key"]: row for row in found.iter_rows(named=True)}
    for item in stored:
        row = rows[item.key]
        assert {name: row[name] for name in asdict(item)} == asdict(item)
        assert (row["paid_by"], row["max_tokens"], row["engine_version"]) == ("me", 64, "1")
        assert abs((row["created_at"] - started).total_seconds()) < 60
    assert list((data / "responses").glob("part-*.parquet"))


def test_only_the_keys_asked_for_are_found_once_each(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    assert store.find(["a"], 64).is_empty()
    write(store, [response(key) for key in "abc"])
    assert sorted(store.find(["a", "c", "a", "unknown"], 64)["key"]) == ["a", "c"]
    assert store.find([], 64).is_empty()


def test_others_see_a_response_as_soon_as_it_is_stored(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    with store.writer(paid_by="run", max_tokens=64, engine_version="1") as writer:
        writer.append([response("a")])
        assert texts(ResponseStore(tmp_path), ["a"]) == {"a": "text"}


def test_a_journal_in_use_is_not_compacted(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    with store.writer(paid_by="run", max_tokens=64, engine_version="1") as writer:
        writer.append([response("a")])
        write(ResponseStore(tmp_path), [response("b")])  # compacts at its end
        writer.append([response("c")])
    assert set(texts(store, ["a", "b", "c"])) == {"a", "b", "c"}


def test_compaction_keeps_every_row_and_leaves_no_journal(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    for i in range(5):
        write(store, [response(f"{i}-{j}", f"text {i} {j}") for j in range(3)])
    expected = {f"{i}-{j}": f"text {i} {j}" for i in range(5) for j in range(3)}
    assert texts(store, list(expected)) == expected
    assert not list(tmp_path.glob("journal-*"))
    store.compact()
    assert texts(store, list(expected)) == expected


def test_a_failed_stage_keeps_what_it_received(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt),
        store.writer(paid_by="run", max_tokens=64, engine_version="1") as writer,
    ):
        writer.append([response("a")])
        raise KeyboardInterrupt
    assert texts(store, ["a"]) == {"a": "text"}
    # "compacted when the block ends, however it ends"
    assert not list(tmp_path.glob("journal-*"))


def test_a_torn_line_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    content = journal(tmp_path / "whole", [[response("a")], [response("b")], [response("é", "日本")]])
    whole, last = content[: content[:-1].rindex(b"\n") + 1], content[content[:-1].rindex(b"\n") + 1 :]
    store = ResponseStore(tmp_path / "torn")
    store.folder.mkdir()
    path = store.folder / "journal-killed.jsonl"
    for cut in [*range(0, len(last), 5), len(last) - 1]:
        path.write_bytes(whole + last[:cut])
        assert set(texts(store, ["a", "b", "é"])) == {"a", "b"}
    path.write_bytes(content)
    assert set(texts(store, ["a", "b", "é"])) == {"a", "b", "é"}


def test_compaction_of_a_torn_journal_keeps_its_whole_lines(tmp_path: Path) -> None:
    content = journal(tmp_path / "whole", [[response("a"), response("b")], [response("c")]])
    store = ResponseStore(tmp_path / "torn")
    store.folder.mkdir()
    (store.folder / "journal-killed.jsonl").write_bytes(content[:-9])
    write(store, [response("d")])  # the next run's writer compacts what it finds
    assert not list(store.folder.glob("journal-*"))
    assert set(texts(store, list("abcd"))) == {"a", "b", "d"}


def test_an_empty_journal_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "journal-killed.jsonl").touch()
    store = ResponseStore(tmp_path)
    assert store.find(["a"], 64).is_empty()
    store.compact()
    assert not list(tmp_path.glob("journal-*")) and not list(tmp_path.glob("part-*"))


def test_a_larger_limit_asks_again_only_for_what_was_cut(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    write(store, [response("ended", tokens=10), response("cut", "2 +", tokens=64, finish_reason="length")])
    assert set(texts(store, ["ended", "cut"], 64)) == {"ended", "cut"}
    assert set(texts(store, ["ended", "cut"], 128)) == {"ended"}
    assert set(texts(store, ["ended", "cut"], 32)) == {"ended"}
    assert set(texts(store, ["ended", "cut"], 9)) == set()  # it would have been cut there
    assert set(texts(store, ["ended", "cut"], 10)) == {"ended"}


def test_what_a_server_broke_off_is_no_response(tmp_path: Path) -> None:
    """Earlier versions stored such responses as they came, in the words of their servers."""
    store = ResponseStore(tmp_path)
    words = {"a": "error", "b": "ABORT", "c": "cancelled", "d": "content_filter", "e": "MAX_TOKENS", "f": "end_turn"}
    write(store, [response(key, "2 +", tokens=64, finish_reason=word) for key, word in words.items()])
    assert set(texts(store, [*words], 64)) == {"d", "e", "f"}
    assert set(texts(store, [*words], 128)) == {"d", "f"}
    assert store.locate([*words], 64).missing.to_list() == [0, 1, 2]
    write(store, [response("a", "2 + 3 = 5", tokens=64)])
    assert texts(store, ["a"], 64) == {"a": "2 + 3 = 5"}


def test_the_same_keys_under_another_limit_replace_nothing(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    write(store, [response(key, "2 +", tokens=64, finish_reason="length") for key in "ab"], max_tokens=64)
    write(store, [response(key, "2 + 3 = 5", tokens=100) for key in "ab"], max_tokens=128)
    assert texts(store, ["a", "b"], 64) == {"a": "2 +", "b": "2 +"}
    assert texts(store, ["a", "b"], 128) == {"a": "2 + 3 = 5", "b": "2 + 3 = 5"}


@pytest.mark.parametrize("also", [[], ["other"]])
def test_the_first_payer_stays_the_payer(also: list[str], tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    write(store, [response("a", "first")], paid_by="first")
    time.sleep(0.01)
    write(store, [response(key, "second") for key in ["a", *also]], paid_by="second")
    found = store.find(["a"], 64)
    assert found.select("text", "paid_by").rows() == [("first", "first")]


@pytest.mark.kill
def test_a_killed_run_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    child = start_writer(tmp_path, "killed", 1_000_000)
    assert child.stdout
    for line in child.stdout:
        if line == "20\n":
            break
    os.kill(child.pid, signal.SIGKILL)
    stored = 21 + len(child.stdout.readlines())  # batches acknowledged before the kill
    child.wait()
    keys = {f"killed-{i}-{j}" for i in range(stored) for j in range(4)}
    underway = {f"killed-{stored}-{j}" for j in range(4)}
    store = ResponseStore(tmp_path)
    for _ in range(2):  # from the journal, and from what it is compacted to
        found = texts(store, [*keys, *underway])
        assert set(found) in (keys, keys | underway)
        assert all(text == key * 2000 for key, text in found.items())
        store.compact()
    assert not list(tmp_path.glob("journal-*"))


@pytest.mark.serves
def test_several_writers_at_a_time_lose_nothing(tmp_path: Path) -> None:
    children = [start_writer(tmp_path, name, 10) for name in "abc"]
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0, 0, 0]
    keys = [f"{name}-{i}-{j}" for name in "abc" for i in range(10) for j in range(4)]
    assert set(texts(ResponseStore(tmp_path), keys)) == set(keys)


def test_a_journal_is_not_swept_away_before_its_writer_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        ResponseStore(tmp_path).compact()  # another run, at the worst moment
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write(ResponseStore(tmp_path), [response("a")])
    assert texts(ResponseStore(tmp_path), ["a"]) == {"a": "text"}


def test_a_row_is_found_while_it_is_being_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = journal(tmp_path / "whole", [[response("a")]])
    store = ResponseStore(tmp_path / "store")
    store.folder.mkdir()
    (store.folder / "journal-killed.jsonl").write_bytes(content)
    look = Path.glob

    def slow(folder: Path, pattern: str) -> list[Path]:
        seen = list(look(folder, pattern))
        with monkeypatch.context() as real:
            real.setattr(Path, "glob", look)
            ResponseStore(store.folder).compact()  # another run, between two looks at the folder
        return seen

    monkeypatch.setattr(Path, "glob", slow)
    assert texts(store, ["a"]) == {"a": "text"}


def test_a_store_larger_than_what_is_read_at_a_time_gives_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (response_journal, response_parts):
        monkeypatch.setattr(module, "READ_ROWS", 7)
    store, keys = ResponseStore(tmp_path), [f"{number:03d}" for number in range(60)]
    for start, end in ((0, 40), (40, 60)):
        with store.writer(paid_by="me", max_tokens=64, engine_version="1") as writer:
            for at in range(start, end, 4):
                writer.append([response(key, key * 3) for key in keys[at : at + 4]])
    assert len(list(tmp_path.glob("part-*.parquet"))) == 2
    for chosen in (keys, keys[::-1], keys[3::11], ["059", "none", "000"], ["041"]):
        assert store.find(chosen, 64)["text"].to_list() == [key * 3 for key in chosen if key != "none"]


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, messages=[{"role": "user", "content": "2 + 3?"}]),
        replace(REQUEST, messages=[*REQUEST.messages[:1], {"role": "user", "content": "2 + 4?"}]),
        replace(REQUEST, model="another"),
        replace(REQUEST, temperature=0.5),
        replace(REQUEST, top_p=0.9),
        replace(REQUEST, top_k=5),
        replace(REQUEST, seed=1),
        replace(REQUEST, sample_index=1),
    ],
    ids=["system", "question", "model", "temperature", "top_p", "top_k", "seed", "sample"],
)
def test_whatever_changes_the_response_changes_the_key(other: Request) -> None:
    assert other.key != REQUEST.key


def test_neither_the_limit_nor_the_questions_id_changes_the_key() -> None:
    assert replace(REQUEST, max_tokens=128, question_id="renamed").key == REQUEST.key
    assert replace(REQUEST, temperature=1).key == REQUEST.key
