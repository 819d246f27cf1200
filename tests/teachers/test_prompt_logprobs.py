"""Scores of given tokens: whatever a server sends is scores of these tokens, or an error with a reason."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.config import Teacher
from cohobate.models.sequence import TrainingSequence
from cohobate.teachers.endpoint.prompt_logprobs import PromptLogprobs, ScoreRequest, ScoreWire
from cohobate.teachers.endpoint.wire import ReplyError, Timing
from tests.support.wire_server import logprob, scored

WIRE = ScoreWire(Teacher(kind="endpoint", model="m", base_url="http://localhost:1/v1"))
REQUEST = ScoreRequest({3: TrainingSequence([7, 8, 9, 10], 2)}, 2)


def reply(**changes: Any) -> Any:
    """A good reply, whose only choice is changed."""
    payload = scored(WIRE.body(REQUEST))
    payload["choices"][0].update(changes)
    return payload


def scores(payload: Any) -> PromptLogprobs:
    outcome = WIRE.outcome(REQUEST, payload, Timing(1, 1.0))
    assert isinstance(outcome, list)
    return outcome[0]


def test_scores_are_those_that_the_server_sent() -> None:
    row = scores(reply())
    assert (row.number, row.logprobs) == (3, [logprob(9, 2), logprob(10, 3)])
    assert [len(ids) for ids in row.top_ids] == [2, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.5, "x", None, [1.0], 10**400])
def test_a_value_that_is_no_log_probability_is_refused(value: Any) -> None:
    places = reply()["choices"][0]["prompt_logprobs"]
    places[2]["9"]["logprob"] = value
    with pytest.raises(ReplyError) as caught:
        scores(reply(prompt_logprobs=places))
    assert caught.value.error_class == "MalformedReply" and caught.value.retry


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None), max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["9", "10", "logprob"]), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["prompt_logprobs", "index", "prompt_token_ids", "choices", "model"]), value=JSON)
def test_any_json_is_finite_scores_or_an_error_with_a_reason(name: str, value: Any) -> None:
    payload = {**reply(), name: value} if name in ("choices", "model") else reply(**{name: value})
    try:
        row = scores(payload)
    except ReplyError as error:
        assert error.error_class and str(error)
    else:
        assert all(map(math.isfinite, row.logprobs)) and len(row.logprobs) == 2
