"""Prompts, completions and loss masks, against the template engine and the tokenizer themselves."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from cohobate.config import Recipe
from cohobate.models import chat_template
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import model_path
from cohobate.models.special_tokens import decode, encode

CHAT = PromptFormat("{question} Think step by step.")
PLAIN = PromptFormat(name="plain", separator=" ### ")
FORMATS = pytest.mark.parametrize(
    "prompt_format", [CHAT, PromptFormat(system="Be brief."), PLAIN], ids=["chat", "system", "plain"]
)

# Any text but that of a special token, which the tokenizer reads as the token itself.
texts = st.text(max_size=40).filter(lambda text: "<|" not in text and "think>" not in text)
# The tokenizer is shared and never changed, so that a fixture is as good as a new one for each example.
examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path("world/base"))


def rendered(tokenizer: Any, conversation: list[dict[str, str]], *, open_ended: bool) -> list[int]:
    """The ids that transformers itself makes of `conversation`."""
    encoded = tokenizer.apply_chat_template(
        conversation, tokenize=True, add_generation_prompt=open_ended, return_dict=True
    )
    ids: list[int] = encoded["input_ids"]
    return ids


@pytest.mark.parametrize("model", ["world/base", "world/teacher"])
@pytest.mark.parametrize("system", [None, "You are a careful accountant."])
@pytest.mark.parametrize("question", ["What is 3 + 4?", " Wie viel ist\n\n7 × 8 ?\t", "{question} <b>"])
def test_a_prompt_is_what_transformers_renders(model: str, system: str | None, question: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path(model))
    conversation = [{"role": "user", "content": f"Q: {question} Think."}]
    if system:
        conversation.insert(0, {"role": "system", "content": system})
    ids = chat_template.question_ids(tokenizer, question, PromptFormat("Q: {question} Think.", system))
    assert ids == rendered(tokenizer, conversation, open_ended=True)


def test_a_prompt_ends_where_the_assistant_begins_to_speak(tokenizer: Any) -> None:
    ids = chat_template.question_ids(tokenizer, "What is 3 + 4?", CHAT)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\nWhat is 3 + 4? Think step by step.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_empty_system_message_is_none(tokenizer: Any) -> None:
    empty, none = (PromptFormat(system=system) for system in ("", None))
    assert chat_template.question_ids(tokenizer, "Hi", empty) == chat_template.question_ids(tokenizer, "Hi", none)


def test_braces_in_a_question_are_left_alone() -> None:
    [message] = chat_template.messages("What is {x} of {question}?", "{question} Now!", None)
    assert message == {"role": "user", "content": "What is {x} of {question}? Now!"}


@FORMATS
@examples
@given(question=texts, completions=st.lists(texts, min_size=2, max_size=4))
def test_the_ids_of_a_prompt_do_not_depend_on_what_follows(
    tokenizer: Any, prompt_format: PromptFormat, question: str, completions: list[str]
) -> None:
    prompt = chat_template.question_ids(tokenizer, question, prompt_format)
    sequences = [
        chat_template.training_sequence(tokenizer, question, completion, prompt_format, ended=True)
        for completion in completions
    ]
    assert [sequence.ids[: len(prompt)] for sequence in sequences] == [prompt] * len(completions)


def test_tokenizing_prompt_and_completion_as_one_would_change_the_prompt(tokenizer: Any) -> None:
    """The case that the test above is for: the separator's space would join the number that follows."""
    prompt = chat_template.question_ids(tokenizer, "What is 3 + 4?", PLAIN)
    joined = tokenizer("What is 3 + 4? ### 7", add_special_tokens=False)["input_ids"]
    assert joined[: len(prompt)] != prompt
    sequence = chat_template.training_sequence(tokenizer, "What is 3 + 4?", "7", PLAIN, ended=False)
    assert sequence.ids == [*prompt, *tokenizer("7", add_special_tokens=False)["input_ids"]]


@FORMATS
@examples
@given(question=texts, completion=texts)
def test_a_sequence_is_prompt_completion_and_end(
    tokenizer: Any, prompt_format: PromptFormat, question: str, completion: str
) -> None:
    start = len(chat_template.question_ids(tokenizer, question, prompt_format))
    ended = chat_template.training_sequence(tokenizer, question, completion, prompt_format, ended=True).ids
    assert ended[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert decode(tokenizer, ended[start:]) == completion
    assert tokenizer.decode(ended[start:]) == completion + "<|im_end|>"


@FORMATS
def test_a_truncated_response_gets_no_end(tokenizer: Any, prompt_format: PromptFormat) -> None:
    ended = chat_template.training_sequence(tokenizer, "What is 3 + 4?", "3 + 4 =", prompt_format, ended=True)
    cut = chat_template.training_sequence(tokenizer, "What is 3 + 4?", "3 + 4 =", prompt_format, ended=False)
    assert cut.ids == ended.ids[:-1]
    assert cut.ids[-1] != tokenizer.eos_token_id
    assert cut.context == ended.context


def test_the_end_is_the_one_that_the_template_writes(tokenizer: Any) -> None:
    asked, told = {"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": "It is 7."}
    sequence = chat_template.training_sequence(tokenizer, "What is 3 + 4?", "It is 7.", PromptFormat(), ended=True)
    whole = rendered(tokenizer, [asked, told], open_ended=False)
    assert sequence.ids == whole[: len(sequence.ids)]
    assert tokenizer.decode(whole[len(sequence.ids) :]) == "\n"


def test_chat_learns_the_completion_alone(tokenizer: Any) -> None:
    sequence = chat_template.training_sequence(tokenizer, "What is 3 + 4?", "It is 7.", CHAT, ended=True)
    assert tokenizer.decode(sequence.ids[sequence.context :]) == "It is 7.<|im_end|>"


def test_plain_learns_everything_after_the_first_token(tokenizer: Any) -> None:
    completion = chat_template.completion_text("ignored", "3 and 4 make 7", "7", PLAIN)
    sequence = chat_template.training_sequence(tokenizer, "What is 3 + 4?", completion, PLAIN, ended=True)
    assert tokenizer.decode(sequence.ids) == "What is 3 + 4? ### 3 and 4 make 7 ### 7<|im_end|>"
    assert sequence.context == 1


def test_a_plain_prompt_stops_after_its_separator(tokenizer: Any) -> None:
    ids = chat_template.question_ids(tokenizer, "What is 3 + 4?", PromptFormat(name="plain", separator="\n->\n"))
    assert tokenizer.decode(ids) == "What is 3 + 4?\n->\n"


@pytest.mark.parametrize("rationale", [None, ""])
def test_a_plain_triple_without_rationale_keeps_both_separators(rationale: str | None) -> None:
    assert chat_template.completion_text("ignored", rationale, "7", PLAIN) == " ### 7"


def test_chat_teaches_the_words_of_the_teacher() -> None:
    assert chat_template.completion_text("It is\n7.", "a rationale", "7", CHAT) == "It is\n7."


def test_no_token_is_added_by_a_tokenizer_that_adds_its_own(tokenizer: Any) -> None:
    """Llama's kind: called as it is, it puts a token in front, which the template has written already."""
    adding = AutoTokenizer.from_pretrained(model_path("world/base"))
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert adding("It is 7.")["input_ids"][0] == 0
    assert encode(adding, "It is 7.") == encode(tokenizer, "It is 7.")
    assert chat_template.question_ids(adding, "Hi", CHAT) == chat_template.question_ids(tokenizer, "Hi", CHAT)


def test_each_model_is_asked_with_its_own_words(tokenizer: Any) -> None:
    recipe = Recipe.model_validate(
        {
            "teacher": {"prompt": "Teacher, {question}", "system": "T"},
            "student": {"prompt": "Student, {question}", "system": "S"},
        }
    )
    asked = [
        tokenizer.decode(chat_template.question_ids(tokenizer, "why?", prompt_format))
        for prompt_format in (chat_template.teacher_format(recipe), chat_template.student_format(recipe))
    ]
    assert "Teacher, why?" in asked[0] and "system\nT<" in asked[0]
    assert "Student, why?" in asked[1] and "system\nS<" in asked[1]


def test_a_plain_student_is_asked_without_a_template(tokenizer: Any) -> None:
    recipe = Recipe.model_validate({"sft": {"format": "plain", "separator": " = "}, "opd": {"steps": 0}})
    student, teacher = chat_template.student_format(recipe), chat_template.teacher_format(recipe)
    assert tokenizer.decode(chat_template.question_ids(tokenizer, "2 + 2", student)) == "2 + 2 = "
    assert tokenizer.decode(chat_template.question_ids(tokenizer, "2 + 2", teacher)).startswith(
        "<|im_start|>user\n2 + 2"
    )
