"""Batches whose server is late, tells half, or is reached otherwise: nothing is paid twice without a word."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cohobate.core.errors import AwaitingError, BatchFailuresError, CohobateError, EndpointError, TeacherError
from cohobate.teachers.endpoint.batch_records import BatchRecords
from tests.support.batch_server import ONCE, ROWS, BatchServer, Fate, batch_recipe, billed, reply
from tests.support.endpoint_recipe import number
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, completion, error

pytestmark = pytest.mark.serves


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has a moment instead of ten seconds."""
    for module in ("batch", "batch_submission"):
        monkeypatch.setattr(f"cohobate.teachers.endpoint.{module}.SETTLE_SECONDS", 0.3)


def test_the_last_of_many_lines_are_read(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    """Of a batch of 1,300 the run wants the last: their lines come behind more than a thousand others."""
    batches.fate = lambda number: Fate(delay=3600)
    with pytest.raises(AwaitingError):
        make(batch_recipe(tmp_path, batches, 1300, teacher={"batch_wait": 0.0}))
    few = batch_recipe(tmp_path, batches, 3)
    wanted = {f"Question {each}?" for each in range(3)}
    lines = batches.batches[0].lines
    lines.sort(key=lambda line: line["body"]["messages"][-1]["content"] in wanted)
    batches.batches[0].fate.delay = 0.0
    assert len(table(make(few))) == 3 and len(batches.batches) == 1


def test_a_file_without_an_end_is_not_taken_for_the_whole(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(mangle=lambda lines: [*["{}"] * 3000, *lines])
    for _ in range(2):
        with pytest.raises(EndpointError, match=r"none of batch batch_1 \(it holds more than 1,024 lines\); have it"):
            make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1


def test_a_creation_that_goes_on_behind_a_gateway_is_not_repeated(
    batches: BatchServer, tmp_path: Path, data: Path, at_once: None
) -> None:
    """It gives up later than the server is given to list the batch, says when to come again, and the batch follows."""
    batches.late = 0.4
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 1 and batches.calls["create"] == 1


def test_a_file_that_is_not_given_is_paid_again_when_the_note_is_deleted(
    batches: BatchServer, tmp_path: Path, data: Path, at_once: None
) -> None:
    batches.lacking.add("file-2")
    for _ in range(2):
        with pytest.raises(
            EndpointError, match=r"\(status 404 for its file file-2\).*delete .*\.json to submit"
        ) as lost:
            make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1
    [note] = (data / "responses" / "batches").glob("*.json")
    assert str(note) in str(lost.value)
    note.unlink()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and len(batches.batches) == 2


def test_a_file_that_is_given_a_little_later_is_waited_for(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.answers["content"] = [reply(404, {}), reply(404, {})]
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


def test_another_address_of_the_server_finds_the_batch(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(delay=3600)
    for host in ("127.0.0.1", "localhost", "127.0.0.1"):
        address = batches.url.replace("127.0.0.1", host)
        with pytest.raises(AwaitingError):
            make(batch_recipe(tmp_path, batches, teacher={"batch_wait": 0.0, "base_url": address}))
    assert len(batches.batches) == 1


def test_failures_wait_for_the_other_batches(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    """A night that ends as awaiting leaves them to the next one, which submits none of them again."""
    batches.plan = lambda body, time: error(400, "too long") if number(body) == 2 else Act()
    batches.fate = lambda number: Fate(delay=0.0 if number == 1 else 3600)
    sections: dict[str, Any] = {"triples": {"max_failures": 0.2}}
    for wait in (0.0, 0.0001):
        with pytest.raises(AwaitingError):
            make(batch_recipe(tmp_path, batches, teacher={"batch_requests": 6, "batch_wait": wait}, **sections))
    batches.batches[1].fate.delay = 0.0
    made = make(batch_recipe(tmp_path, batches, **sections))
    assert len(table(made)) == ROWS - 1 and len(table(made, "failures")) == 1
    assert len(batches.batches) == 2 and max(batches.ran.values()) == 1
    assert not BatchRecords(data / "responses" / "batches", "", {}).pending()


def test_too_many_failures_of_batches_have_an_error_of_their_own(
    batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    """Direct requests are tried again at once, batches are not."""
    batches.plan = lambda body, time: Act(payload=completion(body, finish_reason="content_filter", content=""))
    for batch in (True, False):
        with pytest.raises(TeacherError, match="have failed") as caught:
            make(batch_recipe(tmp_path, batches, teacher={"batch": batch}))
        assert isinstance(caught.value, BatchFailuresError) == batch
    assert len(batches.batches) == 1


def test_a_body_that_ends_too_early_is_fetched_again(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    content = gzip.compress(b"".join(json.dumps({"custom_id": str(n)}).encode() + b"\n" for n in range(500)))
    half = web.Response(body=content[: len(content) // 2], headers={"Content-Encoding": "gzip"})
    batches.answers["content"] = [half]
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


def test_a_file_with_fewer_lines_than_the_server_says_is_not_the_whole(
    batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    batches.fate = lambda number: Fate(mangle=lambda lines: lines[4:]) if number == 1 else Fate()
    for _ in range(2):
        with pytest.raises(CohobateError, match=rf"says that {ROWS} are done, and its files say {ROWS - 4}\)") as lost:
            make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1
    [note] = (data / "responses" / "batches").glob("*.json")
    assert str(note) in str(lost.value)
    note.unlink()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert [len(batch.lines) for batch in batches.batches] == [ROWS, 4]


def test_two_runs_note_what_they_have_of_one_batch(tmp_path: Path) -> None:
    records = BatchRecords(tmp_path, "u", {})
    record = records.new(["a", "b", "c"], 1)
    records.save(record)
    records.settle(record, ["a"])
    records.settle(record, ["b"])
    assert [each.requests for each in records.pending()] == [["c"]]


def test_a_key_that_occurs_in_names_spoils_none(
    batches: BatchServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers of one's own take any key, such as a single letter."""
    monkeypatch.setenv("KEY", "e")
    recipe = batch_recipe(tmp_path, batches, teacher={"api_key_env": "KEY"})
    assert len(table(make(recipe))) == ROWS and billed(batches) == ONCE
