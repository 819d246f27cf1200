"""What a server says of an error: status, sentence, parameter, and whether the account is spent."""

import json
from typing import Any

import pytest

from cohobate.config import Teacher
from cohobate.config.load import load_recipe
from cohobate.teachers.endpoint.connection import Reply
from cohobate.teachers.endpoint.fault import Fault, ReplyWithError, StatusError, fault_of
from cohobate.teachers.endpoint.refused_parameter import setting_of
from cohobate.teachers.endpoint.reply_body import parsed
from cohobate.teachers.endpoint.served_model import is_same_model
from cohobate.teachers.endpoint.server_error import error_in, server_error
from cohobate.teachers.endpoint.wire import ReplyError

CHOICE = {"message": {"content": "4"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "slow down"}}},
            429,
            "slow down",
        ),
        ({"error": {"message": "busy", "code": "503"}}, 503, "busy"),
        ({"error": {"message": "no", "type": "rate_limit_error"}, "type": "error"}, 429, "no"),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, 429, "no"),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, 400, "too long"),
        ([{"error": {"code": 403, "message": "denied", "status": "PERMISSION_DENIED"}}], 403, "denied"),
        ({"choices": [{**CHOICE, "error": {"code": 502, "message": "upstream died"}}]}, 502, "upstream died"),
        ({"choices": [CHOICE], "error": {"type": "overloaded_error", "message": "Overloaded"}}, 503, "Overloaded"),
        ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, 429, "rate limit"),
        ({"error": "Model is too busy, rate limit reached"}, 429, "too busy"),
        ({"error": "something odd"}, None, "something odd"),
        ({"detail": "Not Found"}, 404, "Not Found"),
    ],
)
def test_an_error_within_status_200_is_that_of_its_code(body: Any, status: int | None, words: str) -> None:
    error = error_in(body)
    assert error is not None and error.status == status and words in error.message and not error.spent
    fault = fault_of(ReplyWithError(error, {"retry-after": "3"}), None, 1.0)
    assert fault.wait == 3.0 and fault.retry == (status in (None, 429, 502, 503))


@pytest.mark.parametrize(
    "body", [{"choices": [CHOICE]}, {"choices": [CHOICE], "error": None}, {"choices": []}, 5, [], {}]
)
def test_a_reply_holds_no_error(body: Any) -> None:
    assert error_in(body) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"message": "Insufficient Balance"}),
        (402, {"message": "whatever"}),
        (400, {"message": "Your credit balance is too low to access the API.", "type": "invalid_request_error"}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (429, {"message": "You exceeded your current quota, please check your plan", "code": "insufficient_quota"}),
        (429, {"message": "余额不足或无可用资源包,请充值。", "code": "1113"}),
        (400, {"message": "Access denied, your account has an overdue payment.", "code": "Arrearage"}),
        (None, {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}),
        (None, {"message": "insufficient_quota"}),
    ],
)
def test_a_spent_account_is_seen_wherever_it_is_said(status: int | None, error: Any) -> None:
    assert server_error({"error": error}, status).spent


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": "Rate limit reached for requests per minute"}),
        (429, {"message": "You exceeded your current quota", "details": [{"retryDelay": "34.5s"}]}),
        (500, {"message": "internal: insufficient balance of the load"}),
        (400, {"message": "maximum context length is 4096 tokens"}),
    ],
)
def test_a_limit_of_the_rate_is_no_spent_account(status: int, error: Any) -> None:
    found = server_error({"error": error}, status)
    assert not found.spent and found.wait == (34.5 if "details" in error else None)


@pytest.mark.parametrize(
    ("status", "body", "sent", "words"),
    [
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}]},
            "seed",
            'omit = ["seed"]',
        ),
        (
            400,
            {"error": {"message": "Unsupported value.", "param": "temperature"}},
            "temperature",
            'omit = ["temperature"]',
        ),
        (400, {"error": {"message": "Unrecognized request argument supplied: seed"}}, "seed", 'omit = ["seed"]'),
        (
            400,
            {"error": {"message": "'max_tokens' is not supported; use 'max_completion_tokens'"}},
            "max_tokens",
            "limit_name",
        ),
        (400, {"error": {"message": "max_tokens must be below 8192"}}, "max_tokens", "triples.max_tokens"),
        (400, {"error": {"message": "`min_p` is unknown"}}, "min_p", "teacher.extra"),
        (422, {"detail": "top_p must be 1"}, "top_p", "triples.top_p"),
        (400, {"error": {"message": "the prompt is too long"}}, "seed", None),
        (400, {"error": {"message": "a seeded seed_bank"}}, "seed", None),
        (500, {"error": {"message": "seed"}}, "seed", None),
    ],
)
def test_a_refused_parameter_names_its_setting(status: int, body: Any, sent: str, words: str | None) -> None:
    teacher = Teacher(kind="endpoint", model="m", base_url="http://h/v1", extra={"min_p": 0.1})
    error = server_error(body, status)
    fault = Fault("E", error.message, error.status, parameter=error.parameter)
    found = setting_of(fault, {sent, "stream_options"}, teacher)
    assert found is None if words is None else found is not None and words in found


SAME = [
    *[("gpt-4o-2024-08-06", "gpt-4o"), ("gpt-4-0613", "gpt-4"), ("command-r-08-2024", "command-r"), ("m:latest", "m")],
    *[
        ("gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("claude-3-opus@20240229", "claude-3-opus"),
        ("/srv/org/m.gguf", "org/m"),
    ],
    *[("mistral-large-2411", "mistral-large-latest"), ("m", "org/m"), ("models/m", "m"), ("Org/M", "org/m")],
]
OTHER = [
    *[("o1-mini-2024-09-12", "o1"), ("gpt-4-32k", "gpt-4"), ("gpt-4-1106-preview", "gpt-4"), ("qwen2.5", "qwen2")],
    *[("llama-3-8b", "llama-3"), ("other/m", "org/m"), ("m-instruct", "m"), ("gpt-4o", "gpt-4o-mini"), ("mm", "m")],
    *[("claude-3-5-sonnet", "claude-3"), ("m-2024-13-01", "m"), ("m-9999", "m")],
]


@pytest.mark.parametrize(("served", "asked", "same"), [*[(*p, True) for p in SAME], *[(*p, False) for p in OTHER]])
def test_a_snapshot_is_the_same_model_and_a_sibling_is_another(served: str, asked: str, same: bool) -> None:
    assert is_same_model(served, asked) is same


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"\n<!DOCTYPE html><html><title>Sign in &amp; go</title>", "WebPage", "'Sign in & go'"),
        (b"<html>", "WebPage", "a web page came instead of JSON"),
        (b'data: {"choices": []}\n\n', "Stream", "a stream came"),
        (b"[" * 5000 + b"]" * 5000, "MalformedReply", "the body is no JSON"),
        (b"9" * 5000, "MalformedReply", "the body is no JSON"),
        (b"[" + b"{}," * 40_000 + b"{}]", "MalformedReply", "more lists and objects"),
        (b"", "MalformedReply", "the body is no JSON"),
    ],
)
def test_a_body_that_is_no_json_says_what_it_is(content: bytes, name: str, words: str) -> None:
    with pytest.raises(ReplyError) as caught:
        parsed(content, 1 << 20)
    assert caught.value.error_class == name and words in str(caught.value)


def test_bytes_that_are_no_text_cost_a_character_and_not_the_reply() -> None:
    assert parsed(b'\xef\xbb\xbf{"a": "\xff!"}', 1 << 20) == {"a": "\ufffd!"}


def test_a_message_is_one_line_without_key_or_escape_sequence() -> None:
    content = json.dumps({"error": {"message": "\x1b[2Jkey s3cret\nis \ud83d wrong"}})
    fault = fault_of(StatusError(Reply(400, {}, content.encode())), "s3cret", 1.0)
    assert fault.message == "\\x1b[2Jkey *** is \\ud83d wrong" and (fault.status, fault.retry) == (400, False)


def test_what_is_left_out_is_part_of_what_is_asked_only_where_it_is_set() -> None:
    endpoint = ["teacher.kind=endpoint", "teacher.model=m", "teacher.base_url='http://h/v1'", "opd.steps=0"]
    plain = load_recipe("tiny", endpoint).teacher
    omitted = load_recipe("tiny", [*endpoint, "teacher.omit=['seed']"]).teacher
    assert "omit" not in plain.identity() and omitted.identity() == {**plain.identity(), "omit": ["seed"]}
