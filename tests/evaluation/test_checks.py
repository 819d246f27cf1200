"""The verifier `checks`: what a gold answer asks of a response, and what is asked in a way that nobody can read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Verification
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of

CHECKS = Verification(name="checks")


def label(gold: str | dict[str, Any], response: str, *, truncated: bool = False, question: str = "") -> str:
    text = gold if isinstance(gold, str) else json.dumps(gold)
    [verdict] = verdicts_of(CHECKS, [Case(None, text, truncated, question, response)])
    return verdict.label


@pytest.mark.parametrize(
    ("gold", "obeying", "disobeying"),
    [
        ({"any": ["Paris", "Lyon"]}, "It is paris.", "It is Parisian."),
        ({"any": ["12"]}, "The sum is 12.", "The sum is 12.5."),
        ({"any": ["12"]}, "12, I think", "It is 112, or 1,200"),
        ({"any": ["C++"]}, "Written in C++.", "Written in C."),
        ({"all": ["small", "bright"]}, "A bright and small room", "A brighter, small room"),
        ({"none": ["the", "a b"]}, "There they are", "They went to the sea"),
        ({"case": "upper"}, "ALL IN 3 CAPITALS!", "ALL IN CAPITALs"),
        ({"case": "upper"}, "É ÅÄ", "123"),
        ({"case": "lower"}, "all small", "All small"),
        ({"words": [2, 3]}, "two words", "now there are four"),
        ({"items": 3}, "Here:\n1. a\n2. b\n3) c", "- a\n- b"),
        ({"items": 2}, "* one\n  • two", "one\ntwo"),
        ({"items": 0}, "10 of them", "- one"),
        ({"keys": ["name", "age"]}, '{"name": "Anna", "age": 3}', '{"name": "Anna"}'),
        ({"keys": ["name"]}, '```json\n{"name": 1}\n```', 'Here: {"name": 1}'),
        ({"keys": ["name"]}, '{"name": null}', '["name"]'),
        ({"starts": "Today"}, " today it rains", "It rains today"),
        ({"ends": "?"}, "Is it? \n", "It is."),
        ({"case": "upper", "words": [2, 9]}, "TWO WORDS", "ONE"),
        ("Paris", "The capital of France is Paris.", "The capital of France is Lyon."),
    ],
)
def test_a_response_is_judged_by_every_check(gold: str | dict[str, Any], obeying: str, disobeying: str) -> None:
    assert label(gold, obeying, question="What is the capital of France?") == "correct"
    assert label(gold, disobeying, question="What is the capital of France?") != "correct"


@pytest.mark.parametrize("gold", ["{", '{"upper": true}', '{"words": [1]}', '{"any": [""]}', '{"any": "x"}', "", "n/a"])
def test_a_gold_answer_that_asks_for_nothing_known_decides_nothing(gold: str) -> None:
    assert label(gold, "x") == "undecided"


def test_a_truncated_response_is_undecided_whatever_it_holds_so_far() -> None:
    assert label({"any": ["x"]}, "x", truncated=True) == "undecided"


@pytest.mark.parametrize(
    "response", ["[" * 99_000, '{"a":' * 9_000, "{" + "}" * 99_000, "- " * 200_000, "\0\ud800", "1" * 99_999]
)
def test_a_hostile_response_is_incorrect_in_no_time(response: str) -> None:
    assert label({"keys": ["name"], "items": 3}, response) == "incorrect"


@given(
    st.text(), st.sampled_from([{"keys": ["a"]}, {"words": [0, 5]}, {"any": ["a"]}, {"items": 1}, {"case": "upper"}])
)
def test_any_text_gets_a_verdict(response: str, gold: dict[str, Any]) -> None:
    assert label(gold, response) in ("correct", "incorrect")


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, max_size=20))
def test_words_are_counted_as_a_person_counts_them(words: list[str]) -> None:
    assert label({"words": [len(words), len(words)]}, " ".join(words)) == "correct"
    assert label({"words": [len(words) + 1, 99]}, " ".join(words)) == "incorrect"
