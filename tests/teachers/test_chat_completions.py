"""The chat-completions wire: which fields a request sends, and what is read from a response."""

from dataclasses import replace
from typing import Any

import pytest

from cohobate.config import Teacher
from cohobate.core.answer_parsing import parse
from cohobate.teachers.base import Request, Response
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.wire import ReplyError, Timing
from tests.support.wire_server import completion

TEACHER = Teacher(kind="endpoint", model="org/m", base_url="http://localhost:1/v1")
REQUEST = Request("q", [{"role": "user", "content": "2 + 3?"}], "endpoint/m@1", 0.7, 1.0, 0, 64, 5, 0)
SENT = {"model": "org/m", "messages": REQUEST.messages}


def body(request: Request, teacher: Teacher) -> dict[str, Any]:
    return ChatWire(teacher).body(request)


def read(payload: Any, teacher: Teacher) -> Response:
    response = ChatWire(teacher).outcome(REQUEST, payload, Timing(attempts=2, milliseconds=1.5))
    assert isinstance(response, Response)
    return response


def test_a_request_says_what_was_asked_and_leaves_out_what_changes_nothing() -> None:
    sent = body(REQUEST, TEACHER)
    assert {name: value for name, value in sent.items() if name != "seed"} == {
        **SENT,
        "temperature": 0.7,
        "max_tokens": 64,
    }
    assert 0 <= sent["seed"] < 2**31
    fuller = body(replace(REQUEST, top_p=0.9, top_k=20, extra={"min_p": 0.1}), TEACHER)
    assert (fuller["top_p"], fuller["top_k"], fuller["min_p"]) == (0.9, 20, 0.1)


def test_a_server_may_be_told_that_nothing_is_cut_and_not_that_something_else_is() -> None:
    neutral = replace(REQUEST, extra={"top_p": 1.0, "top_k": -1})
    sent = body(neutral, TEACHER)
    assert (sent["top_p"], sent["top_k"]) == (1.0, -1)
    cut = body(replace(neutral, top_k=20), TEACHER)
    assert (cut["top_p"], cut["top_k"]) == (1.0, 20)


def test_each_sample_and_each_seed_has_a_seed_of_its_own() -> None:
    seeds = {body(replace(REQUEST, sample_index=i, seed=s), TEACHER)["seed"] for i in range(8) for s in range(8)}
    assert len(seeds) == 64


def test_the_limit_goes_by_the_endpoints_name_for_it() -> None:
    sent = body(REQUEST, TEACHER.model_copy(update={"limit_name": "max_completion_tokens"}))
    assert sent["max_completion_tokens"] == 64 and "max_tokens" not in sent


def test_extra_parameters_are_part_of_a_requests_name_and_none_changes_nothing() -> None:
    assert replace(REQUEST, extra={"min_p": 0.1}).key != REQUEST.key == replace(REQUEST, extra={}).key


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 3"}]}, {"type": "text", "text": "Answer: 5"}]


@pytest.mark.parametrize(
    ("message", "source"),
    [
        ({"content": "Answer: 5", "reasoning_content": "2 + 3"}, "field"),
        ({"content": "Answer: 5", "reasoning": "2 + 3"}, "field"),
        ({"content": "Answer: 5", "reasoning": None, "reasoning_content": "2 + 3"}, "field"),
        ({"content": PARTS}, "field"),
        ({"content": "<think>2 + 3</think>Answer: 5"}, "think"),
        ({"content": "2 + 3</think>Answer: 5"}, "think"),
        ({"content": "2 + 3\nAnswer: 5"}, "content"),
    ],
)
def test_the_rationale_is_found_wherever_the_server_puts_it(message: dict[str, Any], source: str) -> None:
    response = read(completion(SENT, **message), TEACHER)
    parsed = parse(response.text, response.reasoning)
    assert (parsed.rationale, parsed.answer, parsed.rationale_source) == ("2 + 3", "5", source)


def test_tokens_are_counted_as_the_server_counts_them() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    response = read(completion(SENT, usage=usage), TEACHER)
    assert (response.prompt_tokens, response.completion_tokens, response.reasoning_tokens) == (7, 9, 4)
    assert (response.key, response.attempts, response.latency_ms) == (REQUEST.key, 2, 1.5)
    bare = read(completion(SENT, usage=None), TEACHER)
    assert (bare.prompt_tokens, bare.completion_tokens, bare.reasoning_tokens) == (0, 0, None)


@pytest.mark.parametrize("payload", [None, [], "text", {}, {"choices": []}, {"choices": [{"message": None}]}, 7])
def test_what_is_no_completion_is_said_to_be_none(payload: Any) -> None:
    with pytest.raises(ReplyError) as caught:
        read(payload, TEACHER)
    assert caught.value.error_class == "MalformedReply" and caught.value.retry


def refused(message: dict[str, Any]) -> ReplyError:
    with pytest.raises(ReplyError) as caught:
        read(completion(SENT, **message), TEACHER)
    return caught.value


def test_an_empty_response_is_no_response_unless_it_was_cut() -> None:
    assert refused({"content": " \n"}).error_class == "EmptyContent"
    filtered = refused({"content": "", "finish_reason": "content_filter"})
    assert filtered.error_class == "Refused" and not filtered.retry
    declined = refused({"content": "", "refusal": "I will not."})
    assert str(declined) == "I will not." and not declined.retry
    # All of the limit went into hidden reasoning: paid, and asking again would be paid again.
    assert read(completion(SENT, "", finish_reason="length"), TEACHER).finish_reason == "length"


@pytest.mark.parametrize("name", ["org/m", "ORG/M", "m", "org/m-2024-08-06", "/models/org/m", None])
def test_dated_and_shortened_names_are_the_same_model(name: str | None) -> None:
    assert read(completion(SENT, model=name), TEACHER).served_model == name


def test_another_model_is_refused_unless_the_recipe_says_that_it_is_the_one() -> None:
    error = refused({"model": "other"})
    assert error.error_class == "WrongModel" and "'other'" in str(error)
    named = TEACHER.model_copy(update={"served_as": "other"})
    assert read(completion(SENT, model="other"), named).served_model == "other"
