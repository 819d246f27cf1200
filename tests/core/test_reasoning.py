import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.reasoning import Split, split

PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("<THINK>", "</THINK>"),
    ("<think >", "</ think>"),
    ('<thinking budget="low">', "</thinking>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("<chain-of-thought>", "</chain-of-thought>"),
    ("<reasoning_steps>", "</reasoning_steps>"),
    ("<思考>", "</思考>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
]
HARMONY = "<|channel|>{}<|message|>{}<|end|><|start|>assistant"


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{o}a{c}b", Split("a", "b")),
        ("a{c}b", Split("a", "b")),  # the opening mark stood in the prompt
        ("{o}a", Split("a", "")),  # cut
        ("{o}{o}a{c}b", Split("a", "b")),
        ("{o}{o}a{c}x{c}b", Split("a\nx", "b")),  # nested
        ("{o}a{c}{c}b", Split("a", "b")),
        ("{o}a{c}b{o}c{c}d", Split("a\nc", "b\nd")),  # repeated
        ("{o}a{c}b{o}c", Split("a\nc", "b")),  # repeated, and cut
        ("{o}{c}b", Split("", "b")),
        ("b", Split(None, "b")),
    ],
)
def test_thoughts_are_apart_from_what_is_visible(opening: str, closing: str, form: str, expected: Split) -> None:
    assert split(form.format(o=opening, c=closing)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HARMONY.format("analysis", "a") + "<|channel|>final<|message|>b<|return|>", Split("a", "b")),
        (HARMONY.format("analysis", "a") + HARMONY.format("commentary", "c"), Split("a\nc", "")),
        ("a<|end|><|start|>assistant<|channel|>final<|message|>b", Split("a", "b")),
        ("<|channel|>analysis<|message|>a", Split("a", "")),
        ("<|start|>assistant<|message|>b<|end|>", Split("", "b")),
        ("analysisWe add.assistantfinalIt is 5.", Split("We add.", "It is 5.")),
        ("analysis of the data", Split(None, "analysis of the data")),
        ("Here is my thought process:\na\nHere is my response:\nb", Split("a", "\nb")),
        ("The tag is `<think>`, closed by `</think>`.", Split(None, "The tag is `<think>`, closed by `</think>`.")),
        ("<think>a, then `</think>` and b</think>c", Split("a, then `</think>` and b", "c")),
        ("<think>a <reasoning>x</reasoning> b</think>c", Split("a\nx</reasoning> b", "c")),
        ("b<|im_end|>\n<|im_start|>user\nmore", Split(None, "b")),
        ("<response>b</response>", Split(None, "b")),
        ("<think/>b", Split(None, "<think/>b")),
        ("See Map<Thought> m;\nAnswer: 3", Split(None, "See Map<Thought> m;\nAnswer: 3")),
        ("An <analysis> element.\n\nIt is 5.", Split(None, "An <analysis> element.\n\nIt is 5.")),
        ("The <thought experiment> says 3", Split(None, "The <thought experiment> says 3")),
        ("<think>a List<Reason> b</think>c", Split("a List<Reason> b", "c")),
        ("  <think>a", Split("a", "")),
        ("b\n <reasoning>a", Split("a", "b\n ")),
        ("<think>a</think> <reasoning>c", Split("a\nc", "")),
        ("a <thinker> is b", Split(None, "a <thinker> is b")),
    ],
)
def test_channels_phrases_quoted_tags_and_further_turns(text: str, expected: Split) -> None:
    assert split(text) == expected


MARKS = [mark for pair in PAIRS for mark in pair]
PIECES = st.sampled_from(["a", "b ", "\n", "`", *MARKS, "<|channel|>final", "<|message|>"])


def letters(text: str) -> str:
    return "".join(sorted(character for character in text if character in "ab"))


@given(st.lists(PIECES, max_size=12).map("".join))
def test_letters_stand_on_one_side_only(text: str) -> None:
    parts = split(text)
    assert len(letters(parts.visible)) + len(letters(parts.thought or "")) <= len(letters(text))


@given(st.text(st.characters(exclude_characters="<[◁"), max_size=60))
def test_a_text_without_marks_stays_as_it_is(text: str) -> None:
    assert split(f"So {text}") == Split(None, f"So {text}")
