"""What is taken apart while others are asked is what would be taken apart of the stored response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.answer_parsing import parse
from cohobate.datasets.parsed_ahead import ParsedAhead
from cohobate.teachers.base import Response


def response(key: str, text: str, reasoning: str | None = None) -> Response:
    return Response(key, text, reasoning, "stop", 1, 1, 1.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["Answer: 1", "So it is 2.\nAnswer: 2", ""]))))
def test_a_response_that_came_first_from_elsewhere_is_read_and_not_the_one_that_arrived(
    pairs: list[tuple[str, str]],
) -> None:
    ahead = ParsedAhead(None)
    ahead.add([response(key, text, "think") for key, text in pairs])
    stored = [("Answer: 1", "think"), ("Answer: 1", None), ("We say 7.", None)]
    found = [[ahead.parse(key, *each) for each in stored] for key in "abcd"]
    assert found == [[parse(*each) for each in stored]] * 4


@pytest.mark.parametrize("form", ["response", r"It is <(\d+)>"])
def test_the_forms_of_a_recipe_are_read_as_without(form: str) -> None:
    ahead = ParsedAhead(form)
    ahead.add([response("a", "Well. It is <5>")])
    assert ahead.parse("a", "Well. It is <5>", None) == parse("Well. It is <5>", form=form)


def test_of_long_responses_only_the_first_are_kept() -> None:
    ahead, long = ParsedAhead(None), "word " * (1 << 19) + "\nAnswer: 5"
    ahead.add([response(str(number), long) for number in range(4)])
    assert [ahead.parse(str(number), long, None).answer for number in range(4)] == ["5"] * 4
