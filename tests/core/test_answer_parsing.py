"""Rationale and answer, cut out of responses of every shape."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cohobate.core.answer_parsing import Parsed, parse, parse_plain

# (response, the server's reasoning field, rationale, answer, where the rationale was found)
RESPONSES: dict[str, tuple[str, str | None, str | None, str | None, str | None]] = {
    "answer line": ("2 + 3 = 5.\nAnswer: 5", None, "2 + 3 = 5.", "5", "content"),
    "answer line in a sentence": ("Sum.\nThe final answer is 5", None, "Sum.", "5", "content"),
    "answer line in capitals": ("Sum.\nANSWER = 5", None, "Sum.", "5", "content"),
    "only an answer": ("Answer: 5", None, None, "5", None),
    "a later answer": ("Answer: 4\nNo.\nAnswer: 5", None, "Answer: 4\nNo.", "5", "content"),
    "a word that begins alike": ("Sum.\nAnswer: 5\nAnswering took one step.", None, "Sum.", "5", "content"),
    "cut after the colon": ("2 + 3 = 5.\nAnswer:", None, "2 + 3 = 5.\nAnswer:", None, "content"),
    "hashes": ("2 + 3 = 5\n#### 5", None, "2 + 3 = 5", "5", "content"),
    "hashes, thousands": ("So much.\n#### 1,000", None, "So much.", "1,000", "content"),
    "later hashes": ("#### 3\n#### 4", None, "#### 3", "4", "content"),
    "boxed": ("So \\boxed{5}.", None, "So", "5", "content"),
    "boxed, nested": ("So $\\boxed{\\frac{1}{\\sqrt{2}}}$.", None, "So", "\\frac{1}{\\sqrt{2}}", "content"),
    "boxed, set": ("So \\boxed{\\{1, 2\\}}", None, "So", "\\{1, 2\\}", "content"),
    "later boxed": ("\\boxed{1}, no \\boxed{2}", None, "\\boxed{1}, no", "2", "content"),
    "boxed, cut": ("So \\boxed{12", None, "So \\boxed{12", None, "content"),
    "boxed, empty": ("So \\boxed{}", None, "So \\boxed{}", None, "content"),
    "think": ("<think>2 + 3 = 5</think>\nAnswer: 5", None, "2 + 3 = 5", "5", "think"),
    "think without opener": ("2 + 3 = 5</think>Answer: 5", None, "2 + 3 = 5", "5", "think"),
    "think, boxed": ("<think>\nSum.\n</think>\n\nIt is \\boxed{5}.", None, "Sum.", "5", "think"),
    "think, empty": ("<think>\n\n</think>\nAnswer: 5", None, None, "5", None),
    "think holds no answer": ("<think>Answer: 3? No.</think>Answer: 5", None, "Answer: 3? No.", "5", "think"),
    "think without answer": ("<think>Answer: 3? No.</think>", None, "Answer: 3? No.", None, "think"),
    "think, cut": ("<think>2 + 3 =", None, "2 + 3 =", None, "think"),
    "field": ("Answer: 5", "2 + 3 = 5", "2 + 3 = 5", "5", "field"),
    "field, blank": ("Sum.\nAnswer: 5", " \n", "Sum.", "5", "content"),
    "no answer": ("I do not know.", None, "I do not know.", None, "content"),
    "nothing": ("", None, None, None, None),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_come_apart(name: str) -> None:
    text, reasoning, rationale, answer, source = RESPONSES[name]
    assert parse(text, reasoning) == Parsed(rationale, answer, source)


@pytest.mark.parametrize(
    ("text", "rationale", "answer"),
    [
        ("2 + 3 = 5. ### 5", "2 + 3 = 5.", "5"),
        ("one ### two ### 5", "one ### two", "5"),
        ("2 + 3 = 5.", "2 + 3 = 5.", None),
        ("2 + 3 = 5. ### ", "2 + 3 = 5.", None),
        (" ### 5", None, "5"),
        ("", None, None),
    ],
)
def test_plain_text_parts_at_the_last_separator(text: str, rationale: str | None, answer: str | None) -> None:
    assert parse_plain(text, " ### ") == Parsed(rationale, answer, "content" if rationale else None)


MARKS = ["<think>", "</think>", "\\boxed{", "{", "}", "Answer:", "answer is", "####", "5", "−1", "\n", " "]
responses = st.text() | st.lists(st.sampled_from(MARKS)).map("".join)


@given(responses, st.none() | responses)
@example("\\boxed{}", None)
def test_any_text_comes_apart(text: str, reasoning: str | None) -> None:
    parsed = parse(text, reasoning)
    for part in (parsed.rationale, parsed.answer):
        assert part is None or (part and part == part.strip())
    assert (parsed.rationale is None) == (parsed.rationale_source is None)


@given(responses, st.sampled_from([" ### ", "|", "\n"]))
def test_any_plain_text_comes_apart(text: str, separator: str) -> None:
    parsed = parse_plain(text, separator)
    assert parsed.answer is None or parsed.answer in text
    assert parsed.rationale is None or parsed.rationale in text


SUMS = st.text("0123456789+-*=. \n", min_size=1).map(str.strip).filter(bool)
# No sentence's end, and no mark around it, which would be taken off.
ANSWERS = st.from_regex(r"-?[0-9xyz]{1,4}([,./ -]?[0-9xyz]{1,3}){0,4}", fullmatch=True)


@pytest.mark.parametrize(
    "form",
    [
        "{rationale}\nAnswer: {answer}",
        "{rationale}\nThe answer is {answer}",
        "{rationale}\n#### {answer}",
        "{rationale}\n\\boxed{{{answer}}}",
        "<think>{rationale}</think>Answer: {answer}",
        "{rationale}</think>\n\\boxed{{{answer}}}",
    ],
)
@given(rationale=SUMS, answer=ANSWERS)
def test_what_was_put_together_comes_apart_again(form: str, rationale: str, answer: str) -> None:
    parsed = parse(form.format(rationale=rationale, answer=answer))
    assert (parsed.rationale, parsed.answer) == (rationale, answer)
