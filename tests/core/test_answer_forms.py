"""Forms of a final answer that a recipe adds: a pattern, a function, the whole response."""

import sys
from pathlib import Path

import pytest

from cohobate.config import Teacher
from cohobate.core.answer_forms import check_loads, form_identity
from cohobate.core.answer_parsing import Parsed, parse
from cohobate.core.errors import RecipeError

PATTERN = r"(?m)^RESULT (\d+)"
FUNCTIONS = """
def last_word(text):
    words = text.split()
    return words[-1] if words and words[-1].isupper() else None

def breaks(text):
    raise ValueError("no")

def seven(text):
    return 7

def seven_in_digits(text):
    return "7" if "four" in text else None
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of functions in the working directory."""
    name = f"answers_of_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 3\nRESULT 5", "5"),
        ("2 + 3\nAnswer: 5", "5"),  # the other forms stay
        ("RESULT 4\nAnswer: 5", "5"),  # the last statement wins, whatever its form
        ("Answer: 4\nRESULT 5", "5"),
        ("<think>RESULT 4</think>", None),
        ("nothing", None),
    ],
)
def test_a_pattern_is_one_more_form(text: str, answer: str | None) -> None:
    assert parse(text, form=PATTERN).answer == answer


def test_a_function_gives_the_answer_or_leaves_it_to_the_other_forms(functions: str) -> None:
    form = f"{functions}:last_word"
    assert parse("So it is YES", form=form) == Parsed("So it is", "YES", "content")
    assert parse("Answer: 5", form=form).answer == "5"
    # An answer that is computed, and stands nowhere in the text.
    assert parse("Three and four.", form=f"{functions}:seven_in_digits") == Parsed("Three and four.", "7", "content")
    assert parse("Answer: 5", None, form=form).answer == "5"
    assert form_identity(form)["answer_form"][0] == form
    check_loads(form)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [("breaks", "fails on a response: ValueError: no"), ("seven", "gives 7, not a text or None")],
)
def test_a_function_that_fails_is_named(functions: str, function: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=f"teacher.answer: {functions}:{function} {sentence}"):
        parse("text", form=f"{functions}:{function}")


def test_a_function_that_is_not_there_is_refused_before_anything_is_spent(functions: str) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.answer: .*nothing cannot be loaded"):
        check_loads(f"{functions}:nothing")
    with pytest.raises(RecipeError, match="there is no module 'nowhere_at_all'"):
        form_identity("nowhere_at_all:answer")


def test_the_whole_response_is_the_answer() -> None:
    assert parse("Dear reader,\nit rains.\n", form="response") == Parsed(None, "Dear reader,\nit rains.", None)
    parsed = parse("<think>Be kind.</think>It rains.", form="response")
    assert parsed == Parsed("Be kind.", "It rains.", "think")
    assert parse("", form="response").answer is None


@pytest.mark.parametrize("form", ["RESULT", "(a)(b)", "(", "answer"])
def test_what_is_no_form_is_a_mistake_in_the_recipe(form: str) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        Teacher(answer=form)


def test_a_form_is_part_of_the_identity_only_where_there_is_one() -> None:
    assert form_identity(None) == {}
    assert form_identity(PATTERN) == {"answer_form": PATTERN}
    assert Teacher().identity() == Teacher(answer=PATTERN).identity()


@pytest.mark.slow
def test_a_pattern_that_would_take_for_ever_ends_in_a_sentence() -> None:
    with pytest.raises(RecipeError, match=r"takes more than 5 s on a text of 4,001 characters"):
        check_loads(r"((?:0|00)+)1")  # before anything is spent
    with pytest.raises(RecipeError, match=r"teacher\.answer: the pattern '\(a\+\)\+\\Z\\d' takes more than 5 s"):
        parse("RESULT " + "a" * 4000, form=r"(a+)+\Z\d")


def test_a_pattern_may_use_what_regular_expressions_have() -> None:
    form = r"(?im)^RESULT:\s*(\d+)"
    check_loads(form)
    assert parse("So:\nresult: 7\n", form=form).answer == "7"
