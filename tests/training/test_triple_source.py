"""Turns that are learnt, token by token, under templates of real families, of which some rewrite what is history."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import AutoTokenizer

from cohobate.core.conversation import Conversation, Message
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.loading import model_path
from cohobate.training.triple_source import taught_turns, training_sequences, with_gold_ghosts

FIRST = "<think>\nThey have 2.\n</think>\n\nYou have 2."
LAST = "<think>\n2 + 3 = 5\n</think>\n\nAnswer: 5"
ASKED = Conversation(
    (
        Message("system", "You count sheep."),
        Message("user", "I have 2 sheep. How many?"),
        Message("assistant", FIRST),
        Message("user", "I buy 3."),
        Message("assistant", "Now 5."),
        Message("user", "How many are there?"),
    )
)
TEXT = "What is 2 + 3?"
ENDS = {
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "gemma3": "<end_of_turn>",
    "deepseek_r1_distill": "<｜end▁of▁sentence｜>",
}
TEMPLATES = ["world", "qwen2_5", "qwen3", *ENDS]
# Of these the thoughts of a turn are in no later prompt.
REWRITE = ("qwen3", "deepseek_r1_distill")


def tokenizer_of(name: str) -> Any:
    """The shipped tokenizer with the template of a family, as TRL ships it, and its end of a turn."""
    import trl

    tokenizer = AutoTokenizer.from_pretrained(model_path("world/base"))
    if name != "world":
        folder = Path(trl.__file__).parent / "chat_templates"
        tokenizer.chat_template = (folder / f"{name}.jinja").read_text(encoding="utf-8")
    if name in ENDS:
        tokenizer.add_special_tokens({"eos_token": ENDS[name], "bos_token": "<s>"})
    return tokenizer


def triples(*questions: str | Conversation, samples: int = 1) -> pl.DataFrame:
    rows = [
        {
            "question_id": str(number),
            "question": each if isinstance(each, str) else each.transcript,
            "conversation": None if isinstance(each, str) else each.written,
            "response": LAST,
            "rationale": "2 + 3 = 5",
            "answer": "5",
            "gold_answer": "5",
            "truncated": False,
        }
        for number, each in enumerate(questions)
        for _ in range(samples)
    ]
    return pl.DataFrame(rows, schema_overrides={"conversation": pl.String})


def rendered(tokenizer: Any, messages: list[dict[str, str]], *, asks: bool) -> list[int]:
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=asks, return_dict=True)
    ids: list[int] = encoded["input_ids"]
    return ids


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_turn_is_learnt_behind_the_prompt_that_asks_for_it(name: str) -> None:
    """The prompt is what transformers renders of the messages before; what is learnt, the turn and its end alone."""
    tokenizer = tokenizer_of(name)
    sequences = training_sequences(tokenizer, taught_turns(triples(ASKED), PromptFormat(), "all"), PromptFormat())
    messages = ASKED.as_dicts()
    expected = [(messages[:2], FIRST), (messages[:4], "Now 5."), (messages, LAST)]
    for sequence, (before, text) in zip(sequences, expected, strict=True):
        prompt = rendered(tokenizer, before, asks=True)
        assert list(sequence.ids[: sequence.context]) == prompt
        if name == "deepseek_r1_distill":  # its prompt has opened the thought
            opened = text.removeprefix("<think>\n") if text.startswith("<think>") else f"</think>\n\n{text}"
        else:
            opened = text
        assert tokenizer.decode(sequence.response) == opened + ENDS.get(name, "<|im_end|>")
        whole = rendered(tokenizer, [*before, {"role": "assistant", "content": text}], asks=False)
        # DeepSeek's writes no thoughts of any turn, and Qwen3's an empty one where the last turn has none: here a turn
        # is learnt as it was written.
        if name != "deepseek_r1_distill" and (name, text) != ("qwen3", "Now 5."):
            assert list(sequence.ids) == whole[: len(sequence.ids)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_thoughts_are_learnt_in_their_turn_and_later_seen_as_the_template_shows_them(name: str) -> None:
    tokenizer = tokenizer_of(name)
    first, _, last = training_sequences(tokenizer, taught_turns(triples(ASKED), PromptFormat(), "all"), PromptFormat())
    assert "They have 2." in tokenizer.decode(first.response)
    history = tokenizer.decode(last.ids[: last.context])
    assert ("They have 2." in history) == (name not in REWRITE) and "You have 2." in history


def test_one_sequence_of_a_rewritten_history_would_teach_turns_without_their_thoughts() -> None:
    """Why each turn is a sequence of its own: the whole conversation as Qwen3 renders it has lost the first thought."""
    tokenizer = tokenizer_of("qwen3")
    text = tokenizer.apply_chat_template(ASKED.as_dicts(), tokenize=False, add_generation_prompt=True)
    assert "They have 2." not in text


def test_the_last_turn_alone_is_learnt_unless_all_are_asked_for() -> None:
    frame = triples(TEXT, ASKED)
    assert [turn.completion for turn in taught_turns(frame, PromptFormat())] == [LAST, LAST]
    every = taught_turns(frame, PromptFormat(), "all")
    assert [turn.completion for turn in every] == [LAST, FIRST, "Now 5.", LAST]
    assert [turn.question for turn in every if isinstance(turn.question, str)] == [TEXT]


def test_earlier_turns_are_learnt_once_for_all_samples() -> None:
    every = taught_turns(triples(ASKED, samples=3), PromptFormat(), "all")
    assert [turn.completion for turn in every] == [FIRST, "Now 5.", LAST, LAST, LAST]


def test_a_text_has_the_tokens_that_it_has_without_the_column() -> None:
    tokenizer, frame = tokenizer_of("world"), triples(TEXT, TEXT)
    for prompt_format in (PromptFormat("{question} Think."), PromptFormat(system="S"), PromptFormat(name="plain")):
        one, two = (
            training_sequences(tokenizer, taught_turns(each, prompt_format, "last"), prompt_format)
            for each in (frame, frame.drop("conversation"))
        )
        assert one == two


def test_prompt_and_system_of_a_model_go_with_those_of_the_conversation() -> None:
    tokenizer = tokenizer_of("world")
    prompt = tokenizer.decode(question_ids(tokenizer, ASKED, PromptFormat("{question} Think.", "Be brief.")))
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nYou count sheep.<|im_end|>\n")
    assert prompt.endswith("user\nHow many are there? Think.<|im_end|>\n<|im_start|>assistant\n")
    assert prompt.count("Think.") == 1


def test_a_plain_student_reads_the_transcript() -> None:
    tokenizer = tokenizer_of("world")
    ids = question_ids(tokenizer, ASKED, PromptFormat(name="plain", separator=" => "))
    assert tokenizer.decode(ids) == ASKED.transcript + " => "


def test_gold_responses_of_conversations_are_ghosts_behind_the_whole_prompt() -> None:
    tokenizer = tokenizer_of("world")
    frame = triples(ASKED, TEXT).with_columns(gold_response="response", meta=pl.lit('{"subject": "sums"}'), depth=1)
    ghosts = with_gold_ghosts(tokenizer, frame, PromptFormat())
    assert ghosts.select(frame.columns).drop("rationale", "answer").equals(frame.drop("rationale", "answer"))
    assert ghosts["conversation"].to_list() == [ASKED.written, None]
    assert [tokenizer.decode(ids) for ids in ghosts["ghost_ids"].to_list()] == [LAST + "<|im_end|>"] * 2
