"""The normal form of a question: what a reader takes for the same is the same, and nothing else."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.normal_form import is_plain, normal, plain

INVISIBLE = ["\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u202e", "\U000e0041"]
WORDS = st.lists(st.text("abcxyzäß日本ハ12", min_size=1, max_size=6), min_size=1, max_size=8)


@given(st.text(string.ascii_letters + "äé日本の 12?.", max_size=40), st.data())
def test_invisible_characters_make_no_difference(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    assert plain(text[:at] + data.draw(st.sampled_from(INVISIBLE)) + text[at:]) == plain(text)


@given(WORDS, st.sampled_from(["*", "**", "***", "_", "__", "~~", "`", "``", "$", "$$"]), st.data())
def test_marks_around_words_make_no_difference(words: list[str], mark: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    marked = [*words[:start], mark + " ".join(words[start:end]) + mark, *words[end:]]
    assert normal(" ".join(marked)) == normal(" ".join(words))


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("**half of *her* loaves**", "half of her loaves"),
        ("下列**正确**的是", "下列正确的是"),
        ("the value of \\(x\\) and \\[2x+3=7\\]", "the value of x and 2x+3=7"),
        ("$x$, $y$ and $z$-axis", "x, y and z-axis"),
        ("ＦＵＬＬ　width ５", "full width 5"),
        ("ﬁve ℃ at ½", "five °c at 1/2"),
        ("1½ cups of 2² − 1", "1 1/2 cups of 2^2 - 1"),
        ("costs \\$5 and 20\\%", "costs $5 and 20%"),
        ("Straße\u00a0A", "strasse a"),
    ],
)
def test_the_same_question_in_another_form(written: str, same: str) -> None:
    assert normal(written) == same


@pytest.mark.parametrize(
    "text",
    [
        "she pays $5 for 2 and $7 for 3",
        "from $10-$20",
        "2*3*4 and 2 * 3 * 4 and 2**3**4",
        "f(*args, **kwargs) calls g(*args, **kwargs)",
        "snake_case_name and x_1 + x_2",
        "____ is the capital of ____",
        "* one\n* two",
        "a ~ b ~ c",
        "\\frac{1}{2} and \\{1, 2\\}",
    ],
)
def test_signs_that_mean_something_stay(text: str) -> None:
    assert plain(text) == text


@given(st.text(max_size=60))
def test_the_short_way_of_plain_text_is_the_long_one(text: str) -> None:
    if is_plain(text):
        assert plain(text) == text and normal(text) == " ".join(text.lower().split())
    assert unicodedata.is_normalized("NFC", normal(text))


def test_signs_without_their_others_take_no_time() -> None:
    for sign in ("*", "**a", "$x", "~~a", "`", "_a ", "\\(", "\\["):
        text = sign * 20_000
        assert len(normal(text)) <= len(text)
