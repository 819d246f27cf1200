"""A teacher asked in batches by a server that refuses, spoils its files, or has no batches: a reason in a sentence."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cohobate.core.errors import EndpointError
from cohobate.stages.preflight import check
from tests.support.batch_server import ONCE, ROWS, BatchServer, Fate, batch_recipe, billed, reply
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, error

pytestmark = pytest.mark.serves


def _spoiled(lines: list[str]) -> list[str]:
    """Shuffled, repeated, foreign, torn and odd lines between the good ones."""
    parsed = [json.loads(line) for line in lines]
    other = {**parsed[0], "custom_id": "0" * 64}
    changed = {**parsed[0], "response": {"status_code": 500, "body": {"error": {"message": "late"}}}}
    odd = [
        *("{", "null", "[]", "7", '"x"', "", "  ", "\x00\x01", "<html>", "[" * 5000, "{}", '{"custom_id": null}'),
        json.dumps({**parsed[1], "custom_id": [parsed[1]["custom_id"]]}),
        json.dumps(other),
        '{"custom_id": "' + "x" * (9 << 20),
    ]
    mixed = [*lines, *odd, lines[3], lines[3]]
    random.Random(1).shuffle(mixed)
    return [*mixed, json.dumps(changed)]


def test_odd_lines_cost_nothing(
    batches: BatchServer, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches.fate = lambda number: Fate(mangle=_spoiled)
    made = make(batch_recipe(tmp_path, batches))
    assert len(table(made)) == ROWS == table(made)["request_key"].n_unique()
    assert len(batches.batches) == 1 and billed(batches) == ONCE
    assert "lines are damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "response",
    [
        *(None, 7, [], {}, {"body": None}, {"status_code": 200}, {"status_code": None, "body": {}}),
        *(
            {"status_code": 200.5},
            {"status_code": 3_000_000_000},
            {"status_code": -1, "body": {}},
            {"status_code": True},
        ),
    ],
)
def test_a_line_without_a_usable_reply_is_a_failure_with_a_reason(
    response: Any, batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    def mangle(lines: list[str]) -> list[str]:
        return [json.dumps({**json.loads(lines[0]), "response": response}), *lines[1:]]

    batches.fate = lambda number: Fate(mangle=mangle)
    made = make(batch_recipe(tmp_path, batches, triples={"max_failures": 0.1}))
    assert len(table(made)) == ROWS - 1
    [message] = table(made, "failures")["message"].to_list()
    assert message and "\n" not in message


def test_a_refused_batch_ends_in_the_words_of_the_server(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    reason = {"code": "model_not_found", "message": "no model \x1b[31mm", "line": 3}
    batches.fate = lambda number: Fate(errors=[reason]) if number == 1 else Fate()
    with pytest.raises(EndpointError, match=r"refuses batch batch_1 \(line 3: no model \\x1b\[31mm\); correct what"):
        make(batch_recipe(tmp_path, batches))
    assert len(batches.batches) == 1
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (error(404, "The model `m` does not exist"), r"has no model 'm' \(The model `m` does not exist\)"),
        (error(400, "Unknown parameter: seed"), r'rejects all of the first 3 requests .*teacher.omit = \["seed"\]'),
        (error(429, "You exceeded your current quota", "insufficient_quota"), r"account is spent .*top it up"),
        (Act(payload={"error": {"code": 402, "message": "add credits"}}), r"account is spent .*top it up"),
    ],
)
def test_lines_that_refuse_all_end_as_direct_requests_do(
    refusal: Act, words: str, batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    """And what was read once is not read again: the next run submits anew."""
    batches.plan = lambda body, time: refusal
    with pytest.raises(EndpointError, match=words):
        make(batch_recipe(tmp_path, batches))
    batches.ran.clear()
    batches.plan = lambda body, time: Act()
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 2 and billed(batches) == ONCE


def test_preflight_looks_for_batches_and_submits_none(batches: BatchServer, tmp_path: Path, data: Path) -> None:
    findings = {each.name: each for each in check(batch_recipe(tmp_path, batches), ["teacher"])}
    assert findings["teacher in batches"].passed and not batches.batches
    batches.answers["list"] = [reply(404, {})]
    findings = {each.name: each for each in check(batch_recipe(tmp_path, batches), ["teacher"])}
    assert "has no batches (status 404)" in findings["teacher in batches"].detail
    direct = check(batch_recipe(tmp_path, batches, teacher={"batch": False}), ["teacher"])
    assert "teacher in batches" not in {each.name for each in direct}


@pytest.mark.parametrize(
    ("route", "answer", "words"),
    [
        ("list", reply(404, {"detail": "Not Found"}), r"has no batches \(status 404\); set teacher.batch = false"),
        ("list", reply(405, {}), r"has no batches \(status 405\)"),
        ("list", reply(200, {"data": 7}), r"has no batches \(no list of batches"),
        ("list", reply(200, text="<html><title>Hello</title>"), r"has no batches .*'Hello'"),
        ("list", reply(401, {"error": {"message": "bad key"}}), r"does not let us in \(status 401: bad key\)"),
        ("list", reply(402, {"error": {"message": "no credit"}}), "account is spent .*top it up"),
        ("upload", reply(404, {}), r"has no batches \(status 404\)"),
        ("upload", reply(200, {"id": "../../etc"}), "gives it no id"),
        (
            "upload",
            reply(413, {"error": {"message": "too large"}}),
            r"refuses a file of requests \(status 413: too large\); lower teacher.batch_requests",
        ),
        ("create", reply(400, {"error": {"message": "window"}}), r"refuses a batch \(status 400: window\)"),
        ("create", reply(402, {"error": {"message": "pay first"}}), "account is spent"),
    ],
)
def test_what_a_server_refuses_ends_in_one_sentence(
    route: str, answer: web.Response, words: str, batches: BatchServer, tmp_path: Path, data: Path
) -> None:
    batches.answers[route] = [answer]
    with pytest.raises(EndpointError, match=words) as caught:
        make(batch_recipe(tmp_path, batches))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS and billed(batches) == ONCE


def test_a_batch_that_the_server_does_not_know_is_not_paid_again(
    batches: BatchServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it was created a moment ago: then it is asked for again."""
    batches.answers["retrieve"] = [reply(404, {})]
    assert len(table(make(batch_recipe(tmp_path, batches, 2)))) == 2
    monkeypatch.setattr("cohobate.teachers.endpoint.batch.SETTLE_SECONDS", 0.0)
    batches.answers["retrieve"] = [reply(404, {}), reply(404, {})]
    for _ in range(2):
        with pytest.raises(EndpointError, match=r"the responses of batch batch_2.*status 404.*delete .*\.json to"):
            make(batch_recipe(tmp_path, batches))
    assert len(table(make(batch_recipe(tmp_path, batches)))) == ROWS
    assert len(batches.batches) == 2 and billed(batches) == ONCE


def test_the_key_goes_to_the_server_and_nowhere_else(
    batches: BatchServer,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keyed = batch_recipe(tmp_path, batches, teacher={"api_key_env": "KEY"})
    with pytest.raises(EndpointError, match="names KEY, which is not set"):
        make(keyed)
    monkeypatch.setenv("KEY", "s3cret")
    batches.answers["create"] = [reply(400, {"error": {"message": "who is s3cret?"}})]
    with pytest.raises(EndpointError, match=r"who is \*\*\*\?"):
        make(keyed)
    batches.fate = lambda number: Fate(errors=[{"message": "s3cret is wrong"}]) if number == 1 else Fate()
    with pytest.raises(EndpointError, match=r"\*\*\* is wrong"):
        make(keyed)
    make(keyed)
    assert batches.authorised == {"Bearer s3cret"}
    contents = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(b"s3cret" in content for content in contents)
    assert "s3cret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"teacher": {"kind": "local", "model": "world/teacher", "base_url": None}}, "batch is for an endpoint"),
        ({"teacher": {"scoring": "server"}}, "batches write responses and score nothing"),
        ({"teacher": {"probes": 8}}, "probes are compared before anything is asked"),
        ({"teacher": {"base_url": ["http://a:1/v1", "http://b:1/v1"]}}, "batch needs one base_url"),
        ({"teacher": {"batch_requests": 50_001}}, "less than or equal to 50000"),
        ({"teacher": {"batch_wait": -1}}, "greater than or equal to 0"),
        ({"opd": {"steps": 5, "warmup": 0, "objective": "sampled"}}, "which no batch gives"),
        (
            {"triples": {"verifier": {"name": "judge", "judge": {"model": "j", "batch": True}}}},
            "batch is for the teacher",
        ),
    ],
)
def test_batches_that_make_no_sense_are_refused(sections: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        server = BatchServer()
        server.port = 9
        batch_recipe(tmp_path, server, **sections)
