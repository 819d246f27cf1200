"""A teacher asked in batches: each request is billed once, whatever becomes of its batch."""

from pathlib import Path

import polars as pl
import pytest

from cohobate.core.errors import AwaitingError, CohobateError, EndpointError, TeacherError
from cohobate.store.artifacts import Artifact
from tests.support.batch_server import ONCE, ROWS, SERVER_ERROR, BatchServer, Fate, batch_recipe, billed, reply
from tests.support.endpoint_recipe import number
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, Body, completion, error

pytestmark = pytest.mark.serves

OF_THE_RUN = ["latency_ms", "created_at", "run_id", "flow_run_id", "config_sha256", "engine_version"]


def test_a_batch_gives_the_rows_that_direct_requests_give(
    batches: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each way finds in the store what the other has paid."""
    made: dict[bool, Artifact] = {}
    for batch in (False, True):
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / f"data-{batch}"))
        made[batch] = make(batch_recipe(tmp_path, batches, teacher={"batch": batch}))
    assert billed(batches) == ONCE and len(batches.seen) == ROWS
    assert {seen.key for seen in batches.seen} == set(batches.ran)
    assert made[True].fingerprint == made[False].fingerprint
    rows = {batch: table(each).drop(OF_THE_RUN) for batch, each in made.items()}
    assert rows[True].equals(rows[False])
    for batch in (False, True):  # in the other's folder, under a verifier that makes the stage run again
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / f"data-{not batch}"))
        again = make(batch_recipe(tmp_path, batches, teacher={"batch": batch}, triples={"verifier": "numeric"}))
        assert not again.cached and table(again)["cached"].all()
    assert billed(batches) == ONCE and len(batches.seen) == ROWS


def test_a_batch_costs_a_part_of_the_price_whoever_reads_it(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    prices = {"price_input": 1.0, "price_output": 2.5}
    direct = make(batch_recipe(tmp_path, batches, 4, teacher={**prices, "batch": False}))
    made = make(batch_recipe(tmp_path, batches, 10, teacher=prices))
    full = (10 * 1.0 + 20 * 2.5) / 1e6
    assert direct.manifest.named_metrics["cost_usd"] == pytest.approx(4 * full)
    assert table(made)["cost_usd"].to_list() == pytest.approx([full] * 4 + [full / 2] * 6)
    assert made.manifest.named_metrics["cost_usd"] == pytest.approx(6 * full / 2)
    assert made.manifest.named_metrics["cost_usd_earlier"] == pytest.approx(4 * full)
    third = make(batch_recipe(tmp_path, batches, 13, teacher={**prices, "batch_price": 0.25}))
    assert third.manifest.named_metrics["cost_usd"] == pytest.approx(3 * full / 4)


def test_requests_fill_files_of_the_size_that_is_set(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    made = make(batch_recipe(tmp_path, batches, teacher={"batch_requests": 5}))
    assert [len(batch.lines) for batch in batches.batches] == [5, 5, 2]
    assert len(table(made)) == ROWS and billed(batches) == ONCE
    bodies = {line["body"]["messages"][-1]["content"] for batch in batches.batches for line in batch.lines}
    assert bodies == {f"Question {n}?" for n in range(ROWS)}


def test_a_run_ends_as_awaiting_and_another_goes_on(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(delay=0.6)
    with pytest.raises(
        AwaitingError, match=rf"^{ROWS} requests are under way in 1 batch at .*`cohobate resume`"
    ) as late:
        make(batch_recipe(tmp_path, batches, teacher={"batch_wait": 0.0}))
    assert late.value.exit_code == 4
    # More questions meanwhile: only they are submitted.
    made = make(batch_recipe(tmp_path, batches, ROWS + 3))
    assert [len(batch.lines) for batch in batches.batches] == [ROWS, 3]
    assert len(table(made)) == ROWS + 3 and billed(batches) == {"requests": ROWS + 3, "times": 1}
    assert make(batch_recipe(tmp_path, batches)).manifest.named_metrics["samples"] == ROWS
    assert len(batches.batches) == 2


def test_a_smaller_run_leaves_the_rest_of_a_batch_to_others(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(delay=0.3)
    with pytest.raises(AwaitingError):
        make(batch_recipe(tmp_path, batches, teacher={"batch_wait": 0.0}))
    make(batch_recipe(tmp_path, batches, 4))
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 1 and billed(batches) == ONCE


def test_another_data_folder_finds_the_batch_by_its_requests(
    batches: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lost", "new"):
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / name))
        assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 1 and billed(batches) == ONCE


@pytest.mark.parametrize("ran", [0, 5])
def test_an_expired_batch_costs_only_what_is_missing(
    ran: int, batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    batches.fate = lambda number: Fate(status="expired", ran=ran) if number == 1 else Fate()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert [len(batch.lines) for batch in batches.batches] == [ROWS, ROWS - ran] and billed(batches) == ONCE


def test_requests_that_no_batch_answers_are_failures_after_three(
    batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    batches.fate = lambda number: Fate(status="expired", ran=0)
    with pytest.raises(TeacherError, match=rf"{ROWS} of {ROWS} requests have failed .*not executed before the window"):
        make(batch_recipe(tmp_path, batches))
    assert [len(batch.lines) for batch in batches.batches] == [ROWS] * 3
    batches.fate = lambda number: Fate()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS  # in a batch of its own
    assert len(batches.batches) == 4 and billed(batches) == ONCE


def test_a_cancelled_batch_is_not_submitted_again_by_itself(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(status="cancelled", ran=7) if number == 1 else Fate()
    with pytest.raises(EndpointError, match=rf"batch_1 at .* was cancelled with 7 of {ROWS} responses, which are kept"):
        make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


def test_failures_are_those_of_direct_requests(
    batches: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad requests, unusable replies, and errors that another attempt mends."""

    def plan(body: Body, time: int) -> Act:
        if number(body) == 2:
            return error(400, "maximum context length exceeded")
        if number(body) == 3:
            return Act(payload=completion(body, finish_reason="content_filter", content=""))
        if number(body) == 4 and time == 1:
            return error(500, "try again")
        return Act()

    batches.plan = plan
    failures: dict[bool, pl.DataFrame] = {}
    for batch in (False, True):
        batches.times.clear()
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / f"data-{batch}"))
        made = make(batch_recipe(tmp_path, batches, 20, teacher={"batch": batch}, triples={"max_failures": 0.1}))
        assert len(table(made)) == 18
        failures[batch] = table(made, "failures").drop("last_at")
    assert failures[True].equals(failures[False])
    assert failures[True]["error_class"].to_list() == ["BadRequestError", "Refused"]
    assert [len(each.lines) for each in batches.batches] == [20, 1]


def test_lines_that_are_missing_are_submitted_again(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    fewer = {"total": ROWS, "completed": ROWS - 4, "failed": 0}
    batches.fate = lambda number: Fate(mangle=lambda lines: lines[4:], counts=fewer) if number == 1 else Fate()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert [len(batch.lines) for batch in batches.batches] == [ROWS, 4]


def test_a_full_account_gets_the_next_batch_when_another_has_ended(
    batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    full = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
    batches.fate = lambda number: Fate(errors=full) if number == 2 else Fate(delay=0.4)
    assert len(table(make(batch_recipe(tmp_path, batches, teacher={"batch_requests": 6})))) == ROWS
    assert [len(batch.lines) for batch in batches.batches] == [6, 6, 6] and billed(batches) == ONCE
    batches.fate = lambda number: Fate(errors=full)
    with pytest.raises(TeacherError, match=r"no room .*Enqueued token limit reached.*lower teacher.batch_requests"):
        make(batch_recipe(tmp_path, batches, triples={"seed": 1}))


@pytest.mark.parametrize("route", ["list", "upload", "create", "retrieve", "content"])
@pytest.mark.parametrize("status", [500, 429])
def test_any_call_is_tried_again(
    route: str, status: int, batches: BatchServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohobate.teachers.endpoint.batch_submission.SETTLE_SECONDS", 0.1)
    batches.answers[route] = [reply(status, SERVER_ERROR, **{"Retry-After": "0.1"}) for _ in range(2)]
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert not batches.answers[route] and len(batches.batches) == 1 and billed(batches) == ONCE


def test_a_lost_reply_to_a_creation_is_looked_up(
    batches: BatchServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file where the server keeps no metadata; what was not created is created."""
    monkeypatch.setattr("cohobate.teachers.endpoint.batch_submission.SETTLE_SECONDS", 0.3)
    batches.keeps_metadata = False
    with batches.holding("create", done=True):
        make(batch_recipe(tmp_path, batches, triples={"timeout": 0.5, "attempts": 3}))
    assert len(batches.batches) == 1 and billed(batches) == ONCE
    batches.answers["create"] = [reply(502, SERVER_ERROR)]
    make(batch_recipe(tmp_path, batches, triples={"seed": 1, "attempts": 3}))
    assert len(batches.batches) == 2 and max(batches.ran.values()) == 1


def test_a_record_that_was_altered_is_put_aside(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    """The batch is found by its requests."""
    batches.fate = lambda number: Fate(delay=0.2)
    with pytest.raises(AwaitingError):
        make(batch_recipe(tmp_path, batches, teacher={"batch_wait": 0.0}))
    [record] = (data / "responses" / "batches").glob("*.json")
    record.write_bytes(record.read_bytes().replace(b"batch_1", b"batch_7"))
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 1 and billed(batches) == ONCE
    assert len([*record.parent.glob("*damaged*")]) == 1


def test_the_list_of_an_account_is_read_to_its_end(
    batches: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "one"))
    make(batch_recipe(tmp_path, batches))
    batches.batches += [batches.batches[0].__class__(f"other_{n}", {**OTHER}, [], Fate(), 0.0) for n in range(250)]
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "two"))
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert billed(batches) == ONCE and batches.calls["list"] == 1 + 3


OTHER: Body = {"endpoint": "/v1/chat/completions", "input_file_id": "file-x", "metadata": {"of": "somebody else"}}


def test_nothing_is_begun_for_what_is_stored(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    make(batch_recipe(tmp_path, batches))
    before = dict(batches.calls)
    make(batch_recipe(tmp_path, batches, triples={"verifier": "numeric"}))
    assert dict(batches.calls) == before
    assert [*(data / "responses" / "batches").iterdir()]


def test_a_server_that_is_away_during_the_wait_is_asked_again(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    batches.fate = lambda number: Fate(delay=0.5)
    batches.answers["retrieve"] = [reply(503, SERVER_ERROR), reply(200, text="not json"), reply(500, SERVER_ERROR)]
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


@pytest.mark.parametrize("counts", [None, {}, {"total": ROWS, "completed": 1, "failed": 1}])
def test_a_completed_batch_without_its_file_is_not_paid_again(
    counts: dict[str, int] | None, batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    """Whether or not the counts say so, and beside a file with the request that failed."""
    if counts:
        batches.plan = lambda body, time: error(400, "too long") if number(body) == 2 else Act()
    batches.fate = lambda number: Fate(names_output=False, counts=counts)
    for _ in range(2):
        with pytest.raises(CohobateError, match="names no file with its responses"):
            make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1
