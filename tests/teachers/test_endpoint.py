"""An endpoint as teacher, over real sockets: each fault ends as a triple, a failure with a reason, or a sentence."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cohobate.core.errors import CohobateError, EndpointError, TeacherError
from cohobate.store.artifacts import Store
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, Body, WireServer, completion, error, unused_port

pytestmark = pytest.mark.serves

ROWS = int(os.environ.get("COHOBATE_FAULT_ROWS", "800"))
# Reasoning as parts of the content.
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "by thought"}]},
    {"type": "text", "text": "Answer: 1"},
]
Answerer = Callable[[Body], Act]

# What goes wrong with every twentieth question when it comes for the first time; the second time all is well.
PASSING: dict[int, Answerer] = {
    0: lambda body: error(429, "slow down", Retry_After="0.05"),
    1: lambda body: error(429, "slow down"),
    2: lambda body: error(500, "something broke"),
    3: lambda body: Act(hang=True),
    4: lambda body: Act(tear=True),
    5: lambda body: Act(halfway=True),
    6: lambda body: Act(raw='{"choices": [{"mess'),
    7: lambda body: Act(payload=completion(body, "")),
    8: lambda body: Act(payload=completion(body, model="another")),
}
# What every twentieth question gets each time.
LASTING: dict[int, Answerer] = {
    9: lambda body: Act(payload=completion(body, "Answer: 1", reasoning_content="by thought")),
    10: lambda body: Act(payload=completion(body, "Answer: 1", reasoning="by thought")),
    11: lambda body: Act(payload=completion(body, "<think>by thought</think>Answer: 1")),
    12: lambda body: Act(trickle=0.02),
    15: lambda body: Act(payload=completion(body, "by thought</think>Answer: 1")),
    16: lambda body: Act(payload=completion(body, PARTS)),
    13: lambda body: error(400, "too long:\n  the prompt has 9000 tokens"),
    14: lambda body: error(500, "broken for good"),
}


# Where the rationale of such a response is found.
SOURCES = {9: "field", 10: "field", 11: "think", 15: "think", 16: "field"}


def faulty(body: Body, time: int) -> Act:
    kind = number(body) % 20
    passing = PASSING.get(kind) if time == 1 else None
    answerer = passing or LASTING.get(kind)
    return answerer(body) if answerer else Act()


def test_every_row_ends_as_a_triple_or_as_a_failure_with_its_reason(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    server.plan = faulty
    execution = {"attempts": 3, "timeout": 1.5, "concurrency": 64, "max_failures": 0.2}
    made = make(recipe_of(tmp_path, server.url, ROWS, triples=execution))
    rows, failures = table(made), table(made, "failures")
    numbers = rows["question"].str.extract(r"(\d+)").cast(pl.Int64)
    kinds = dict(zip(rows["question"], numbers % 20, strict=True))
    each = ROWS // 20
    assert len(rows) == 18 * each and not set(kinds.values()) & {13, 14}
    for row in rows.to_dicts():
        kind = kinds[row["question"]]
        assert row["attempts"] == (2 if kind in PASSING else 1)
        assert row["rationale_source"] == SOURCES.get(kind, "content")
        if kind in SOURCES:
            assert row["rationale"] == "by thought" and (row["response"].startswith("<think>") or kind == 15)
        assert row["answer"] and (row["prompt_tokens"], row["completion_tokens"]) == (10, 20)
    assert len(failures) == 2 * each and set(failures["request_key"]).isdisjoint(rows["request_key"])
    reasons = Counter(failures.select("error_class", "status", "message", "attempts").iter_rows())
    assert reasons == {
        ("BadRequestError", 400, "too long: the prompt has 9000 tokens", 1): each,
        ("InternalServerError", 500, "broken for good", 3): each,
    }
    assert len(server.seen) == ROWS + 9 * each + 2 * each
    metrics = made.manifest.metrics
    assert isinstance(metrics, dict) and metrics["failures"] == 2 * each
    assert metrics["failure_classes"] == {"BadRequestError": each, "InternalServerError": each}


def test_failures_are_asked_again_by_a_run_that_allows_none(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: error(422, "no") if number(body) % 10 == 3 and time == 1 else Act()
    first = make(recipe_of(tmp_path, server.url, 40))
    assert len(table(first)) == 36 and len(table(first, "failures")) == 4
    assert make(recipe_of(tmp_path, server.url, 40)).cached and len(server.seen) == 40
    second = make(recipe_of(tmp_path, server.url, 40, triples={"max_failures": 0.0}))
    assert len(table(second)) == 40 and table(second, "failures").is_empty()
    assert [number(seen.body) for seen in server.seen[40:]] == [3, 13, 23, 33]


def test_too_many_failures_publish_nothing_and_lose_nothing(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: error(422, "no") if number(body) % 4 == 3 and time == 1 else Act()
    recipe = recipe_of(tmp_path, server.url, 40, triples={"concurrency": 1})
    with pytest.raises(TeacherError, match=r"\d of 40 requests have failed .*UnprocessableEntityError.*max_failures"):
        make(recipe)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]
    answered = {seen.key for seen in server.seen if seen.status == 200}
    before = len(server.seen)
    server.plan = lambda body, time: Act()
    assert len(table(make(recipe))) == 40
    again = answered & set(server.keys[before:])
    assert len(again) <= 1 and len(set(server.keys)) == 40  # at most what was in flight when it stopped


def test_concurrency_grows_to_the_ceiling_where_nothing_is_refused(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    server.plan = lambda body, time: Act(delay=0.1)
    make(recipe_of(tmp_path, server.url, 300, triples={"concurrency": 48}))
    assert server.most_in_flight == 48


def test_concurrency_falls_to_what_the_server_takes(server: WireServer, tmp_path: Path, data: Path) -> None:
    def full(body: Body, time: int) -> Act:
        return error(429, "busy", Retry_After="0.05") if server.in_flight > 8 else Act(delay=0.03)

    server.plan = full
    made = make(recipe_of(tmp_path, server.url, 400, triples={"concurrency": 64}))
    assert len(table(made)) == 400 and table(made, "failures").is_empty()
    refused = [seen.status == 429 for seen in server.seen]
    assert sum(refused[:16]) > 4  # too many at first
    late = refused[len(refused) // 2 :]
    assert sum(late) < 0.3 * len(late)


def test_retry_after_is_honoured_and_holds_no_slot(server: WireServer, tmp_path: Path, data: Path) -> None:
    def plan(body: Body, time: int) -> Act:
        return error(429, "wait", Retry_After="1") if number(body) == 0 and time == 1 else Act()

    server.plan = plan
    make(recipe_of(tmp_path, server.url, 5, triples={"concurrency": 1}))
    assert [number(seen.body) for seen in server.seen] == [0, 1, 2, 3, 4, 0]
    answered = server.seen[0].answered
    assert answered is not None and server.seen[4].received - answered < 0.9
    assert server.seen[5].received - answered >= 1.0


def test_replicas_share_the_work_and_a_dead_one_costs_nothing(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick, slow = WireServer(lambda body, time: Act(delay=0.01)), WireServer(lambda body, time: Act(delay=0.1))
    with quick.running(), slow.running():
        dead = f"http://127.0.0.1:{unused_port()}/v1"
        made = make(recipe_of(tmp_path, [quick.url, dead, slow.url], 200, triples={"concurrency": 24}))
    assert len(table(made)) == 200 and table(made, "failures").is_empty()
    assert len(quick.seen) + len(slow.seen) == 200 and len(quick.seen) > 2 * len(slow.seen) > 0
    assert set(table(made)["attempts"]) == {1}
    assert f"nothing listens at {dead}" in capsys.readouterr().err


def test_a_server_that_restarts_in_the_middle_loses_nothing(tmp_path: Path, data: Path) -> None:
    server = WireServer(lambda body, time: Act(delay=0.05))
    finished = threading.Event()
    up = threading.Event()

    def restart() -> None:
        with server.running():
            up.set()
            while len(server.seen) < 60:
                time.sleep(0.01)
        time.sleep(0.7)
        with server.running():
            finished.wait(60)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert up.wait(10)
        made = make(recipe_of(tmp_path, server.url, 150))
    finally:
        finished.set()
        thread.join()
    assert len(table(made)) == 150 and table(made, "failures").is_empty()
    answers = Counter(seen.key for seen in server.seen if seen.status == 200)
    assert len(answers) == 150 and sum(answers.values()) <= 150 + 16


SYSTEMATIC: dict[str, tuple[Answerer, type[CohobateError], str]] = {
    "a wrong key": (lambda body: error(401, "Incorrect API key provided: s3cret"), EndpointError, "valid key into KEY"),
    "no right": (lambda body: error(403, "not for you"), EndpointError, "valid key into KEY"),
    "no such model": (lambda body: error(404, "The model `m` does not exist"), EndpointError, "has no model 'm'"),
    "no credit": (lambda body: error(429, "no quota", "insufficient_quota"), EndpointError, "account is spent"),
    "bad parameters": (lambda body: error(400, "unknown parameter: seed"), EndpointError, "unknown parameter: seed"),
    "another model": (lambda body: Act(payload=completion(body, model="x")), EndpointError, "teacher.served_as"),
    "nothing at all": (lambda body: Act(payload=completion(body, "")), TeacherError, "are all empty"),
}


@pytest.mark.parametrize("case", SYSTEMATIC)
def test_a_systematic_failure_stops_early_in_one_sentence(
    case: str, server: WireServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, kind, words = SYSTEMATIC[case]
    monkeypatch.setenv("KEY", "s3cret")
    server.plan = lambda body, time: act(body)
    teacher = {"kind": "endpoint", "model": "m", "base_url": server.url, "api_key_env": "KEY", "prompt": "{question}"}
    with pytest.raises(kind) as caught:
        make(recipe_of(tmp_path, server.url, 500, teacher=teacher))
    message = str(caught.value)
    assert words in message and server.url in message and "\n" not in message and "s3cret" not in message
    assert len(server.seen) < 60
    assert server.seen[0].headers["Authorization"] == "Bearer s3cret"
    assert caught.value.exit_code == (2 if kind is EndpointError else 1)


def test_an_address_where_nothing_listens_is_reported_at_once(tmp_path: Path, data: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1"
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"nothing listens at .*teacher\.base_url"):
        make(recipe_of(tmp_path, url, 50))
    assert time.monotonic() - started < 10
