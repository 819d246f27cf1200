"""Thoughts that a prompt opens, and responses that fit behind it: each thought has one beginning and one end."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from cohobate.config import Recipe
from cohobate.models.chat_template import question_ids, scoring_format, student_format, training_sequence
from cohobate.models.loading import model_path
from cohobate.models.thoughts import completed, fitted, opening_in, opening_of, reopened, translated
from tests.support.tokenizers import byte_level

OPEN, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"


def chat(prefill: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(model_path("world/base"))
    generation = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n" + prefill + "' }}{% endif %}"
    tokenizer.chat_template = CHATML + generation
    return tokenizer


def taught(prefill: str, response: str, *, ended: bool = True) -> str:
    """The whole text that a student with this template learns, from where the assistant begins."""
    tokenizer = chat(prefill)
    sequence = training_sequence(tokenizer, "What is 3 + 4?", response, student_format(Recipe()), ended=ended)
    text: str = tokenizer.decode(sequence.ids).rpartition("<|im_start|>assistant\n")[2]
    return text.removesuffix("<|im_end|>") if ended else text


WHOLE = "<think>\n3 + 4\n</think>\n\nIt is 7."


@pytest.mark.parametrize("response", [WHOLE, "3 + 4\n</think>\n\nIt is 7."], ids=["whole", "without its beginning"])
@pytest.mark.parametrize(("prefill", "text"), [("", WHOLE), (OPEN, WHOLE), (EMPTY, EMPTY + "It is 7.")])
def test_a_student_learns_one_thought(prefill: str, response: str, text: str) -> None:
    assert taught(prefill, response) == text


@pytest.mark.parametrize(
    ("prefill", "text"), [("", "It is 7."), (OPEN, "<think>\n</think>\n\nIt is 7."), (EMPTY, EMPTY + "It is 7.")]
)
def test_a_response_without_a_thought_gets_an_empty_one_behind_a_prompt_that_opens_it(prefill: str, text: str) -> None:
    assert taught(prefill, "It is 7.") == text


def test_a_thought_that_was_cut_stays_open() -> None:
    assert taught(OPEN, "<think>\n3 + 4", ended=False) == "<think>\n3 + 4"
    assert fitted("<think>\n3 + 4", opening_in(EMPTY)) == ""


texts = st.text(alphabet="ab \n", min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(thought=texts, visible=texts, opened=st.booleans(), prefill=st.sampled_from(["", OPEN, "<think>", EMPTY]))
def test_whatever_fits_has_as_many_beginnings_as_ends(thought: str, visible: str, opened: bool, prefill: str) -> None:
    response = f"{'<think>' if opened else ''}{thought}</think>{visible}"
    text = prefill + fitted(response, opening_in(prefill))
    assert text.count("<think>") == text.count("</think>") == 1
    assert text.endswith(visible.lstrip() if prefill == EMPTY else visible)
    assert prefill == EMPTY or thought in text


@pytest.mark.parametrize(
    ("prompt", "opening", "closed"),
    [
        ("assistant\n<think>\n", "<think>\n", False),
        ("assistant\n<think>\n\n</think>\n\n", EMPTY, True),
        ("[/INST][THINK]", "[THINK]", False),
        ("<seed:think></seed:think>", "<seed:think></seed:think>", True),
    ],
)
def test_the_opening_of_a_prompt(prompt: str, opening: str, closed: bool) -> None:
    result = opening_in(prompt)
    assert result is not None and (result.text, result.closed) == (opening, closed)
    assert opening_in(prompt + "x") is None


@pytest.mark.parametrize("own", ["", OPEN, EMPTY])
@pytest.mark.parametrize("wanted", ["", OPEN, EMPTY])
def test_a_prompt_is_opened_as_another_template_would(own: str, wanted: str) -> None:
    prompts = {
        prefill: chat(prefill).apply_chat_template(
            [{"role": "user", "content": "Hi"}], tokenize=True, return_dict=False, add_generation_prompt=True
        )
        for prefill in (own, wanted)
    }
    assert reopened(chat(own), prompts[own], wanted) == prompts[wanted]


@pytest.mark.parametrize("student", ["", OPEN, EMPTY])
@pytest.mark.parametrize("teacher", ["", OPEN, EMPTY])
def test_the_teacher_scores_behind_the_beginning_that_the_student_has(teacher: str, student: str) -> None:
    """Without it the teacher would be surprised by the student's own <think>, or by a response that has none."""
    prompt = question_ids(chat(teacher), "Hi", scoring_format(Recipe(), chat(student)))
    assert chat(teacher).decode(prompt).endswith(f"Hi Think step by step.<|im_end|>\n<|im_start|>assistant\n{student}")


def test_a_teacher_response_is_stored_with_the_beginning_of_its_thought() -> None:
    prompt = question_ids(chat(OPEN), "Hi", student_format(Recipe()))
    opening = opening_of(chat(OPEN), prompt)
    assert completed("3 + 4\n</think>\n\n7", opening) == "<think>\n3 + 4\n</think>\n\n7"
    assert completed("<think>\n3 + 4\n</think>\n\n7", opening) == "<think>\n3 + 4\n</think>\n\n7"
    assert completed("3 + 4", opening) == "<think>\n3 + 4"
    assert completed("7", opening_in(EMPTY)) == "7"


HARMONY = "<|channel|>analysis<|message|>3 + 4<|end|><|start|>assistant<|channel|>final<|message|>It is 7."


@pytest.mark.parametrize("response", [HARMONY, "[THINK]3 + 4[/THINK]It is 7."])
def test_marks_of_another_family_become_think_tags(response: str) -> None:
    assert taught("", response) == "<think>\n3 + 4\n</think>\n\nIt is 7."
    assert taught(OPEN, response) == "<think>\n3 + 4\n</think>\n\nIt is 7."
    assert taught(EMPTY, response) == EMPTY + "It is 7."


def test_a_student_that_has_the_marks_learns_them_as_tokens() -> None:
    harmony = byte_level(["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"])
    assert translated(harmony, HARMONY, ended=True) == HARMONY
    harmony.chat_template = "{{ messages[0].content }}<|start|>assistant"
    ids = training_sequence(harmony, "Hi", HARMONY, student_format(Recipe()), ended=False).ids
    marks = re.findall(r"<\|\w+\|>", "<|start|>" + HARMONY)
    assert [harmony.decode([each]) for each in ids if each in harmony.added_tokens_decoder] == marks
