"""An endpoint that refuses, breaks off, or sends what is no reply: each ends as a failure with its reason, or stops."""

import functools
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohobate.core.errors import CohobateError, EndpointError, TeacherError
from cohobate.evaluation.verifiers import judge
from cohobate.store.artifacts import Store
from cohobate.teachers.response_store import ResponseStore
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.odd_json import ODD_VALUES
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, Body, WireServer, completion, error

pytestmark = pytest.mark.serves


@pytest.mark.parametrize(
    "act",
    [
        error(402, "Payment Required"),
        error(400, "Your credit balance is too low to go on"),
        Act(payload={"error": {"code": 402, "message": "add credits"}}),
    ],
)
def test_a_spent_account_stops_the_run_and_what_is_under_way_is_kept(
    act: Act, server: WireServer, tmp_path: Path, data: Path
) -> None:
    def plan(body: Body, time: int) -> Act:
        return act if number(body) == 30 else Act(delay=0.5 if number(body) > 20 else 0)

    server.plan = plan
    recipe = recipe_of(tmp_path, server.url, 60, triples={"max_failures": 0.5, "concurrency": 8})
    with pytest.raises(EndpointError, match=r"account is spent .*top it up") as caught:
        make(recipe)
    assert caught.value.exit_code == 2 and [each.stage for each in Store().all()] == ["questions"]
    before = len(server.seen)
    paid = {seen.key for seen in server.seen if seen.status == 200 and number(seen.body) != 30}
    server.plan = lambda body, time: Act()
    assert len(table(make(recipe))) == 60
    assert len(paid) > 20 and not paid & set(server.keys[before:])


@pytest.mark.parametrize("status", [429, 503, 200])
def test_a_wait_beyond_the_longest_is_a_failure_with_its_reason(
    status: int, server: WireServer, tmp_path: Path, data: Path
) -> None:
    refused = error(status, "tokens per day", Retry_After="7200")
    refused.payload["error"]["code"] = 429
    server.plan = lambda body, time: refused if number(body) % 10 == 3 else Act()
    made = make(recipe_of(tmp_path, server.url, 20))
    assert len(table(made)) == 18
    [message] = set(table(made, "failures")["message"])
    assert message == "it was asked to wait 2 h (tokens per day), longer than triples.max_wait = 3600 s"


def test_a_server_that_sends_everybody_away_for_hours_is_left(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: error(429, "tokens per day", Retry_After="999999999")
    with pytest.raises(TeacherError, match=r"asks to wait 1\S+ days \(status 429: tokens per day\); run again then"):
        make(recipe_of(tmp_path, server.url, 500, triples={"max_failures": 1.0}))
    assert len(server.seen) < 60


def test_waits_add_up_and_are_said(
    server: WireServer, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan = lambda body, time: error(429, "slow \x1b[1mdown", Retry_After="5") if time == 1 else Act()
    made = make(recipe_of(tmp_path, server.url, 2, triples={"max_wait": 10}))
    assert len(table(made)) == 2
    said = capsys.readouterr().err
    assert said.count("asks to wait 5 s (status 429: slow \\x1b[1mdown); requests that wait: 1;") == 1
    server.plan = lambda body, time: error(429, "slow down", Retry_After="0.6")
    with pytest.raises(TeacherError, match=r"asked to wait 1 s \(slow down\), longer than triples.max_wait = 1 s"):
        make(recipe_of(tmp_path, server.url, 3, triples={"max_wait": 1, "seed": 1}))
    assert set(server.times.values()) >= {2}


def test_an_error_within_status_200_is_outlived_as_one_of_http_is(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    busy = Act(payload={"error": {"message": "busy", "code": 429}}, headers={"Retry-After": "0.02"})
    server.plan = lambda body, time: busy if time <= 5 else Act()
    made = make(recipe_of(tmp_path, server.url, 10, triples={"attempts": 1}))
    assert table(made)["attempts"].to_list() == [6] * 10


PAGE = Act(raw="<html><head><title>Log in</title></head></html>", headers={})


def test_a_web_page_names_the_address_at_once_and_is_outlived_later(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    server.plan = lambda body, time: PAGE
    with pytest.raises(EndpointError, match=r"no interface of a model .*'Log in'.*; correct teacher\.base_url"):
        make(recipe_of(tmp_path, server.url, 100))
    assert len(server.seen) <= 16
    server.plan = lambda body, time: PAGE if number(body) == 15 and time == 1 else Act()
    assert len(table(make(recipe_of(tmp_path, server.url, 20, triples={"concurrency": 4})))) == 20


def test_what_is_never_a_completion_names_the_address(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: Act(payload={"status": "fine"})
    with pytest.raises(EndpointError, match=r"none of the first 20 replies .* is a completion .*teacher.base_url"):
        make(recipe_of(tmp_path, server.url, 100))


def strict(body: Body, time: int) -> Act:
    """Takes no seed, and no temperature but 1."""
    if "seed" in body:
        return Act(status=422, payload={"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    if body.get("temperature", 1.0) != 1.0:
        return error(400, "'temperature' does not support 0.0 with this model")
    return Act(payload=completion(body, "+1")) if body["model"] == "judge" else Act()


def test_a_parameter_that_is_refused_can_be_left_out(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = strict
    with pytest.raises(EndpointError, match=r'status 422: .*seed\); `seed` comes from .*teacher.omit = \["seed"\]'):
        make(recipe_of(tmp_path, server.url, 50))
    assert len(server.seen) <= 16
    before = len(server.seen)
    made = make(recipe_of(tmp_path, server.url, 50, teacher={"omit": ["seed"]}))
    assert len(table(made)) == 50 and all("seed" not in seen.body for seen in server.seen[before:])
    assert set(table(made)["extra"]) == {'{"omit": ["seed"]}'}
    server.plan = lambda body, time: Act()
    with_seed = make(recipe_of(tmp_path, server.url, 50))
    assert not with_seed.cached and not set(table(with_seed)["request_key"]) & set(table(made)["request_key"])


def test_a_limit_that_is_left_out_costs_no_response(server: WireServer, tmp_path: Path, data: Path) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 500}
    server.plan = lambda body, time: Act(payload=completion(body, usage=usage))
    made = make(recipe_of(tmp_path, server.url, 5, teacher={"omit": ["max_tokens"]}))
    assert not any("max_tokens" in seen.body for seen in server.seen)
    assert table(made).select("completion_tokens", "truncated").unique().rows() == [(500, False)]
    again = recipe_of(tmp_path, server.url, 5, teacher={"omit": ["max_tokens"]}, triples={"verifier": "numeric"})
    assert len(table(make(again))) == len(server.seen) == 5


def test_a_failure_among_few_names_the_setting_too(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = strict
    with pytest.raises(CohobateError, match=r'teacher.omit = \["seed"\]'):
        make(recipe_of(tmp_path, server.url, 1))


def test_a_judge_leaves_out_what_its_server_refuses(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = strict
    judging: dict[str, Any] = {"kind": "endpoint", "model": "judge", "base_url": server.url, "omit": ["seed"]}
    section = {"verifier": {"name": "judge", "judge": judging}}
    recipe = recipe_of(tmp_path, server.url, 30, teacher={"omit": ["seed"]}, triples=section)
    with pytest.raises(EndpointError, match=r'temperature.*triples.verifier.judge.omit = \["temperature"\] leaves'):
        make(recipe)
    section["verifier"]["judge"] = {**judging, "omit": ["seed", "temperature"]}
    recipe = recipe_of(tmp_path, server.url, 30, teacher={"omit": ["seed"]}, triples=section)
    assert set(table(make(recipe), "verdicts")["verdict"]) == {"correct"}
    spec = recipe.triples.verifier.judge
    assert spec is not None and judge.identity(spec)["omit"] == ["seed", "temperature"]


def test_what_is_left_out_contradicts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"teacher.omit leaves out temperature, .*triples.temperature = 0.0"):
        recipe_of(tmp_path, "http://h/v1", 1, teacher={"omit": ["temperature"]}, triples={"temperature": 0.0})
    with pytest.raises(ValueError, match="omit is for an endpoint"):
        recipe_of(tmp_path, "http://h/v1", 1, teacher={"kind": "local", "base_url": None, "omit": ["seed"]})


@pytest.mark.parametrize("key", ["s3cret\nX-More: 1", "s3\x1bcret", "s3crét", "s3cret more"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent_and_not_shown(
    key: str, server: WireServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", key)
    with pytest.raises(EndpointError, match=r"^KEY holds no key: ") as caught:
        make(recipe_of(tmp_path, server.url, 5, teacher={"api_key_env": "KEY"}))
    assert "s3" not in str(caught.value) and not server.seen


def test_a_response_that_was_cut_is_kept_as_cut_and_one_that_was_given_up_is_asked_again(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    def plan(body: Body, time: int) -> Act:
        word = {0: "content_filter", 1: "model_length", 2: "error"}.get(number(body), "end_turn")
        gone = word == "error" and time > 2
        return Act(payload=completion(body, finish_reason="stop" if gone else word))

    server.plan = plan
    made = make(recipe_of(tmp_path, server.url, 5, triples={"attempts": 3}))
    rows = table(made).sort("question").select("finish_reason", "truncated", "attempts").rows()
    whole = ("stop", False, 1)
    assert rows == [("content_filter", True, 1), ("model_length", True, 1), ("stop", False, 3), whole, whole]
    before = len(server.seen)
    make(recipe_of(tmp_path, server.url, 5, triples={"max_tokens": 128}))
    assert len(server.seen) == before


def test_whatever_a_server_replies_each_row_has_its_outcome_and_the_store_opens(
    server: WireServer, tmp_path: Path, data: Path
) -> None:
    """A value of every odd kind as content, as a count of tokens, and as the whole body."""
    rows = 3 * len(ODD_VALUES)

    def plan(body: Body, time: int) -> Act:
        value, place = ODD_VALUES[number(body) // 3], number(body) % 3
        if place == 2:
            return Act(raw=value)
        odd = completion(body, "HERE") if place else completion(body, usage={"completion_tokens": "HERE"})
        return Act(raw=json.dumps(odd).replace('"HERE"', value))

    server.plan = plan
    made = make(recipe_of(tmp_path, server.url, rows, triples={"attempts": 1, "max_failures": 1.0}))
    failures = table(made, "failures")
    assert len(table(made)) + len(failures) == rows and len(failures) >= len(ODD_VALUES)
    assert all(failures["message"]) and len(table(made)) >= 10
    before, server.plan = len(server.seen), lambda body, time: Act()
    again = make(recipe_of(tmp_path, server.url, rows, triples={"verifier": "numeric"}))
    assert len(table(again)) == rows and len(server.seen) == before + len(failures)


GIGABYTE = 1 << 30


def plain() -> Iterator[bytes]:
    yield b'{"choices": [{"message": {"content": "'
    for _ in range(GIGABYTE >> 20):
        yield b"x" * (1 << 20)


@functools.cache
def bomb() -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    pieces = [packer.compress(b"x" * (1 << 24)) for _ in range(GIGABYTE >> 24)]
    return b"".join([*pieces, packer.flush()])


MEMORY = """
import sys
from cohobate.config import Teacher, Triples
from cohobate.teachers.base import Failure, Request
from cohobate.teachers.endpoint.client import EndpointTeacher
from tests.support.processes import peak_memory

teacher = Teacher(kind="endpoint", model="m", base_url=sys.argv[1])
backend = EndpointTeacher(teacher, Triples(concurrency=8, attempts=2))

def ask(count, text):
    messages = [{"role": "user", "content": text}]
    requests = [Request("q", messages, "m", 1.0, 1.0, 0, 64, 0, index) for index in range(count)]
    return [item for batch in backend.answer(requests) for item in batch]

assert not isinstance(ask(1, "small")[0], Failure)
before = peak_memory()
reasons = {item.error_class for item in ask(8, sys.argv[2])}
print(peak_memory() - before, *reasons)
"""


@pytest.mark.parametrize("name", ["plain", "gzip", "twice"])
def test_a_gigabyte_costs_no_more_than_the_limit_and_64_mb(name: str, server: WireServer) -> None:
    def plan(body: Body, time: int) -> Act:
        if body["messages"][0]["content"] == "small":
            return Act()
        if name == "plain":
            return Act(content=plain())
        encoding = "gzip" if name == "gzip" else "gzip, gzip"
        return Act(content=[bomb()], headers={"Content-Encoding": encoding})

    server.plan = plan
    done = subprocess.run([sys.executable, "-c", MEMORY, server.url, name], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    more, *reasons = done.stdout.split()
    assert reasons == ["MalformedReply" if name == "twice" else "TooLong"]
    assert int(more) < (8 << 20) + 64e6
    assert all(seen.status == 200 for seen in server.seen)


def test_packed_replies_are_read(server: WireServer, tmp_path: Path, data: Path) -> None:
    def plan(body: Body, time: int) -> Act:
        content = json.dumps(completion(body, "We add.\nAnswer: 5" + " " * 3_000_000)).encode()
        if number(body) == 1:
            return Act(content=[zlib.compress(content)], headers={"Content-Encoding": "deflate"})
        if number(body) == 2:
            return Act(content=[gzip.compress(content)[:-400]], headers={"Content-Encoding": "gzip"})
        return Act(content=[gzip.compress(content)], headers={"Content-Encoding": "gzip"})

    server.plan = plan
    made = make(recipe_of(tmp_path, server.url, 8, triples={"attempts": 1, "max_failures": 0.2}))
    assert set(table(made)["answer"]) == {"5"} and len(table(made)) == 7
    assert table(made, "failures")["error_class"].to_list() == ["MalformedReply"]
    assert len(ResponseStore().find(table(made)["request_key"].to_list(), 64)) == 7
