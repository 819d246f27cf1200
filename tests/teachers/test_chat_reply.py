"""The fields of a reply: every shape of text and reasoning is read, and all that is kept is typed and bounded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohobate.config import Teacher
from cohobate.teachers.base import NATURAL_ENDS, Request, Response
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.chat_reply import MOST_TOKENS
from cohobate.teachers.endpoint.fault import ReplyWithError, fault_of
from cohobate.teachers.endpoint.reply_body import parsed
from cohobate.teachers.endpoint.server_error import error_in
from cohobate.teachers.endpoint.wire import ReplyError, Timing
from cohobate.teachers.response_store import ResponseStore
from tests.support.odd_json import ODD_VALUES
from tests.support.wire_server import completion

TEACHER = Teacher(kind="endpoint", model="m", base_url="http://localhost:1/v1")
REQUEST = Request("q", [{"role": "user", "content": "6 x 7?"}], "endpoint/m@1", 0.7, 1.0, 0, 64, 5, 0)


def read(payload: Any) -> Response:
    response = ChatWire(TEACHER).outcome(REQUEST, payload, Timing(1, 2.0))
    assert isinstance(response, Response)
    return response


def reply(content: Any = "42", **changes: Any) -> Response:
    return read(completion({"model": "m"}, content, **changes))


def refusal(content: Any = "42", **changes: Any) -> ReplyError:
    with pytest.raises(ReplyError) as caught:
        reply(content, **changes)
    return caught.value


THOUGHT = "six sevens"


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": THOUGHT},
        {"reasoning": THOUGHT},
        {"reasoning": {"content": THOUGHT}},
        {"reasoning": [{"type": "summary_text", "text": THOUGHT}]},
        {"thinking": THOUGHT},
        {"thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "x"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": THOUGHT, "format": "f"}]},
        {
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "x"},
                {"type": "reasoning.summary", "summary": THOUGHT},
            ]
        },
        {"provider_specific_fields": {"reasoning_content": THOUGHT}},
        {"reasoning_content": " \n", "reasoning": 7, "thinking": THOUGHT},
        {
            "content": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]},
                {"type": "output_text", "text": "42"},
            ]
        },
        {"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "thinking", "thinking": THOUGHT}, "42"]},
        {"content": [{"text": THOUGHT, "thought": True}, {"text": "4"}, {"text": "2"}]},
    ],
)
def test_reasoning_is_read_in_every_shape_that_servers_send(message: dict[str, Any]) -> None:
    response = reply(**message)
    assert (response.text, response.reasoning) == ("42", THOUGHT)


@pytest.mark.parametrize("value", [None, "", {}, [], 7, True, {"effort": "high"}, [[[[[[["deep"]]]]]]]])
def test_reasoning_without_text_is_none(value: Any) -> None:
    assert reply(reasoning=value, thinking_blocks=value).reasoning is None


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ([{"type": "text", "text": "42"}, {"type": "image_url", "image_url": {"url": "data:"}}], "image_url"),
        ([{"type": "audio", "audio": {}}], "audio"),
        ([{"type": ["text"], "text": "42"}], "no chat completion"),
        ([{"type": "text", "text": 42}], "text"),
        (42, "42"),
        ({"type": "text", "text": {"value": "42"}}, "text"),
    ],
)
def test_a_part_that_is_no_text_is_refused_by_name(content: Any, name: str) -> None:
    assert name in str(refusal(content))


@pytest.mark.parametrize(
    "word", ["stop", "STOP", "eos_token", "end_turn", "COMPLETE", "stop_sequence", {"type": "stop"}]
)
def test_a_response_that_ended_by_itself_is_whole_in_the_words_of_any_server(word: Any) -> None:
    assert reply(finish_reason=word).finish_reason == "stop"


@pytest.mark.parametrize(
    ("word", "stored"),
    [
        *[(word, "length") for word in ("length", "MAX_TOKENS", "max_output_tokens", {"type": "length", "length": 64})],
        *[(word, word) for word in ("model_length", "content_filter", "tool_calls", "safety", "recitation")],
        ("x" * 5000, "x" * 40),
        ("\x1b[2Jhalt\ud83d", "\\x1b[2jhalt\\ud83d"),
    ],
)
def test_a_response_that_was_cut_keeps_the_word_for_it(word: Any, stored: str) -> None:
    found = reply(finish_reason=word).finish_reason
    assert found == stored and found not in NATURAL_ENDS


@pytest.mark.parametrize(
    "word", ["error", "abort", "ABORTED", "insufficient_system_resource", "cancelled", "overloaded"]
)
def test_a_response_that_the_server_gave_up_is_asked_for_again(word: str) -> None:
    error = refusal("The half of a sen", finish_reason=word)
    assert error.error_class == "Interrupted" and error.retry and word.lower() in str(error)


@pytest.mark.parametrize("word", [5, ["stop"], True, {"type": 3}])
def test_a_finish_reason_that_is_no_word_is_no_completion(word: Any) -> None:
    assert refusal(finish_reason=word).error_class == "MalformedReply"


def test_without_a_finish_reason_the_limit_decides() -> None:
    for tokens, found in ((63, "stop"), (64, "length"), (70, "length")):
        assert reply(finish_reason=None, usage={"completion_tokens": tokens}).finish_reason == found


def test_what_is_said_in_thoughts_alone_is_no_answer_and_is_not_paid_twice() -> None:
    only = refusal("", reasoning_content="It is 42.")
    assert only.error_class == "OnlyReasoning" and not only.retry
    assert refusal([], thinking_blocks=[{"thinking": "It is 42."}]).error_class == "OnlyReasoning"
    assert reply("", reasoning="It is", finish_reason="length").reasoning == "It is"
    assert reply("", reasoning="It is", finish_reason="model_length").finish_reason == "model_length"


def test_a_tool_call_and_a_refusal_are_failures_with_their_names() -> None:
    called = refusal("", tool_calls=[{"type": "function"}], finish_reason="tool_calls")
    assert (called.error_class, called.retry) == ("ToolCall", False)
    assert str(refusal([{"type": "refusal", "refusal": "I will\x1b[1m not."}])) == "I will\\x1b[1m not."


@pytest.mark.parametrize(
    "value", [-1, 2**31, 10**30, 1.5, float("nan"), float("inf"), "20", True, None, [3], MOST_TOKENS + 1]
)
def test_a_count_that_cannot_be_one_is_none(value: Any) -> None:
    usage = {
        "prompt_tokens": value,
        "completion_tokens": value,
        "completion_tokens_details": {"reasoning_tokens": value},
    }
    response = reply(usage=usage)
    assert (response.prompt_tokens, response.completion_tokens, response.reasoning_tokens) == (0, 0, None)
    assert reply(usage={"prompt_tokens": 7.0, "completion_tokens": MOST_TOKENS}).prompt_tokens == 7


@pytest.mark.parametrize("usage", [[], "many", 5, {"completion_tokens_details": 3}])
def test_a_usage_that_is_none_counts_nothing(usage: Any) -> None:
    assert (reply(usage=usage).completion_tokens, reply(usage=usage).reasoning_tokens) == (0, None)


@pytest.mark.parametrize("name", [7, ["m"], {"id": "m"}, "m" * 400, True])
def test_a_model_that_is_no_name_is_no_completion(name: Any) -> None:
    assert refusal(model=name).error_class == "MalformedReply"


def test_text_is_stored_as_every_reader_takes_it(tmp_path: Path) -> None:
    response = reply("a\ud83d\x00b\x1bc\ud83d\ude00\n\td", reasoning="\udfff!")
    assert (response.text, response.reasoning) == ("a\ufffd\ufffdb\ufffdc\U0001f600\n\td", "\ufffd!")
    halves = [{"type": "text", "text": "\ud83d"}, {"type": "text", "text": "\ude00"}]
    assert reply(halves).text == "\U0001f600"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXT = st.text(st.characters(categories=None), max_size=12)  # half surrogates too
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "thinking", "reasoning", "refusal", "image"]), "text": TEXT},
    optional=dict.fromkeys(("thinking", "summary", "refusal"), TEXT | JSON),
)
FIELD = TEXT | st.lists(PART, max_size=3) | PART | JSON
COUNT = st.integers() | st.sampled_from([2**31, -(2**63), 1e308, float("nan")]) | JSON
# Where a good reply is changed, and to what.
CHANGES: dict[tuple[str | int, ...], st.SearchStrategy[Any]] = {
    ("choices", 0, "message", "content"): FIELD,
    **{("choices", 0, "message", name): FIELD for name in ("reasoning", "reasoning_details", "refusal", "tool_calls")},
    ("choices", 0, "finish_reason"): st.sampled_from(["length", "error", "safety", None]) | TEXT | JSON,
    **{("usage", name): COUNT for name in ("prompt_tokens", "completion_tokens", "completion_tokens_details")},
    **dict.fromkeys((("usage",), ("model",), ("error",), ("choices", 0, "message"), ("choices", 0)), JSON),
    ("choices",): JSON,
}


@st.composite
def replies(draw: st.DrawFn) -> Any:
    """A good reply, changed in up to four places; one change may take the place of another away."""
    payload = completion({"model": "m"}, draw(TEXT.filter(str.strip)))
    for place in draw(st.lists(st.sampled_from(list(CHANGES)), max_size=4)):
        target: Any = payload
        for name in place[:-1]:
            is_there = name in target if isinstance(target, dict) else isinstance(target, list) and target and name == 0
            target = target[name] if is_there else None
        if isinstance(target, dict):
            target[place[-1]] = draw(CHANGES[place])
    return payload


def outcome(content: bytes) -> Response | str:
    """What the client makes of a body: a response, or the reason of a failure."""
    try:
        value = parsed(content, 1 << 20)
        if (error := error_in(value)) is not None:
            raise ReplyWithError(error, {})
        return read(value)
    except (ReplyError, ReplyWithError) as failed:
        fault = fault_of(failed, None, 1.0)
        fault.message.encode()
        assert fault.error_class and fault.message and "\n" not in fault.message
        return fault.message


def stored(responses: list[Response], folder: Path) -> list[dict[str, Any]]:
    """What a store gives back to the one key that all of these have."""
    store = ResponseStore(folder)
    with store.writer(paid_by="a", max_tokens=64, engine_version="e") as writer:
        for response in responses:
            writer.append([response])
    return ResponseStore(folder).find([REQUEST.key], 64).to_dicts()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=replies() | JSON)
def test_any_json_is_a_response_that_the_store_takes_or_a_failure_with_a_reason(tmp_path: Path, payload: Any) -> None:
    content = json.dumps(payload).encode()
    response = outcome(content)
    if isinstance(response, Response):
        [row] = stored([response], tmp_path / hashlib.sha256(content).hexdigest())
        assert row["text"] == response.text and row["text"].encode() is not None


@pytest.mark.parametrize("place", CHANGES)
def test_values_that_no_parser_expects_are_borne_at_every_place(place: tuple[str | int, ...], tmp_path: Path) -> None:
    payload = completion({"model": "m"}, "42")
    target = payload
    for name in place[:-1]:
        target = target[name]
    target[place[-1]] = "HERE"
    body, good = json.dumps(payload), json.dumps(completion({"model": "m"}, "42")).encode()
    outcomes = [outcome(body.replace('"HERE"', value).encode()) for value in ODD_VALUES]
    responses = [each for each in outcomes if isinstance(each, Response)]
    [row] = stored([*responses, read(parsed(good, 1 << 20))], tmp_path)
    assert row["text"] == [*(each.text for each in responses), "42"][0]
    assert len(responses) < len(outcomes) == len(ODD_VALUES)


def test_the_store_opens_after_all_of_these(tmp_path: Path) -> None:
    """The nastiest fields at once, read back from the part and by a scan of all of it."""
    store = ResponseStore(tmp_path)
    nasty = reply("\ud800\x00", reasoning="\udc00\x85", usage={"prompt_tokens": 2**31}, finish_reason="\x00é")
    with store.writer(paid_by="a", max_tokens=64, engine_version="e") as writer:
        writer.append([nasty])
        assert len(store.find([REQUEST.key], 64)) == 1
    [row] = ResponseStore(tmp_path).find([REQUEST.key], 64).to_dicts()
    assert (row["text"], row["reasoning"], row["prompt_tokens"]) == ("\ufffd\ufffd", "\ufffd\ufffd", 0)
