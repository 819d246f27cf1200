"""Whole conversations of files: what is asked, the gold response, ids, splits, and what is set aside."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.config import Questions
from cohobate.config.questions import Columns
from cohobate.core.conversation import Conversation, Message
from cohobate.sources.base import question_id
from cohobate.sources.mapping import Mapping
from cohobate.sources.read import identity
from cohobate.sources.read import read as read_questions
from cohobate.sources.values import RowError
from cohobate.stages import questions as stage
from tests.support.question_files import Rows, read, recipe, refusal, save

COLUMNS = {"question": "messages"}
TURNS = [
    {"role": "system", "content": "You count sheep."},
    {"role": "user", "content": "I have 2 sheep."},
    {"role": "assistant", "content": "Good."},
    {"role": "user", "content": "I buy 3. How many?"},
]
ASKED = Conversation(
    (
        Message("system", "You count sheep."),
        Message("user", "I have 2 sheep."),
        Message("assistant", "Good."),
        Message("user", "I buy 3. How many?"),
    )
)
SHAREGPT = [
    {"from": "system", "value": "You count sheep."},
    {"from": "human", "value": "I have 2 sheep."},
    {"from": "gpt", "value": "Good."},
    {"from": "human", "value": "I buy 3. How many?"},
]


def chats(path: Path, *conversations: Any, **more: Any) -> Path:
    return save([{"messages": messages, **more} for messages in conversations], path)


def conversation(written: str | None) -> Conversation:
    assert written is not None
    return Conversation.read(written)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("turns", [TURNS, SHAREGPT, json.dumps(TURNS), json.dumps(SHAREGPT)])
def test_a_conversation_is_asked_whole(suffix: str, turns: Any, tmp_path: Path) -> None:
    row = read(chats(tmp_path / f"q{suffix}", turns), columns=COLUMNS).row(0, named=True)
    assert conversation(row["conversation"]) == ASKED
    assert row["question"] == (
        "System: You count sheep.\n\nUser: I have 2 sheep.\n\nAssistant: Good.\n\nUser: I buy 3. How many?"
    )


def test_a_text_stays_what_it_was(tmp_path: Path) -> None:
    """However it is written: in a column of its own, or as the only message."""
    alone = [{"role": "user", "content": "What is 2 + 3?"}]
    frame = read(chats(tmp_path / "q.jsonl", alone, "What is 4?"), columns=COLUMNS)
    assert frame["question"].to_list() == ["What is 2 + 3?", "What is 4?"]
    assert frame["question_id"].to_list() == [question_id("What is 2 + 3?"), question_id("What is 4?")]
    assert frame["conversation"].to_list() == [None, None]


def test_the_last_response_is_gold_and_not_asked(tmp_path: Path) -> None:
    answered = [*TURNS, {"role": "assistant", "content": "5", "reasoning_content": "2 + 3 = 5"}]
    alone = [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]
    frame = read(chats(tmp_path / "q.jsonl", answered, alone), columns=COLUMNS)
    assert conversation(frame["conversation"][0]) == ASKED
    assert frame["gold_response"].to_list() == ["<think>\n2 + 3 = 5\n</think>\n\n5", "b"]
    assert frame["question"][1] == "a?" and frame["conversation"][1] is None


def test_a_column_of_gold_responses_comes_first(tmp_path: Path) -> None:
    answered = [*TURNS, {"role": "assistant", "content": "5"}]
    rows: Rows = [{"messages": answered, "best": "2 + 3 = 5"}, {"messages": answered[1:], "best": None}]
    frame = read(save(rows, tmp_path / "q.jsonl"), columns={**COLUMNS, "gold_response": "best"})
    assert frame["gold_response"].to_list() == ["2 + 3 = 5", "5"]


@pytest.mark.parametrize("is_text", [False, True])
def test_the_gold_answer_may_be_in_the_last_message(is_text: bool, tmp_path: Path) -> None:
    answered = [*TURNS, {"role": "assistant", "content": "So it is \\boxed{5}."}]
    path = chats(tmp_path / "q.jsonl", json.dumps(answered) if is_text else answered)
    frame = read(path, columns={**COLUMNS, "gold_answer": "messages.-1.content"})
    assert frame["gold_answer"].to_list() == ["5"]


def test_ids_are_those_of_the_whole_conversation_in_its_normal_form(tmp_path: Path) -> None:
    other_turn = [*TURNS[:2], {"role": "assistant", "content": "Bad."}, TURNS[3]]
    other_role = [{**TURNS[0], "role": "user"}, *TURNS[1:]]
    ids = read(chats(tmp_path / "q.jsonl", TURNS, TURNS[1:], TURNS[3:], other_turn, other_role), columns=COLUMNS)
    assert ids["question_id"].n_unique() == 5
    dressed = [{**TURNS[0], "content": "You  **count**\u200b sheep."}, *TURNS[1:]]
    again = read(chats(tmp_path / "p.jsonl", dressed), columns=COLUMNS)["question_id"][0]
    assert again == ids["question_id"][0]
    assert "twice" in refusal(chats(tmp_path / "r.jsonl", TURNS, dressed), columns=COLUMNS)


def test_splits_of_rows_with_names_follow_the_conversation(tmp_path: Path) -> None:
    turns = [[*TURNS[:3], {"role": "user", "content": f"I buy {n}. How many?"}] for n in range(40)]
    rows = [{"messages": each, "name": f"n{n}"} for n, each in enumerate(turns)]
    path = save(rows, tmp_path / "q.jsonl")
    by_name = read(path, columns={**COLUMNS, "id": "name"})["split"].to_list()
    assert by_name == read(path, columns=COLUMNS)["split"].to_list() and len(set(by_name)) > 1


SET_ASIDE: dict[str, list[dict[str, Any]]] = {
    "role critic": [TURNS[1], {"role": "critic", "content": "Hm."}, TURNS[3]],
    "blank message": [TURNS[1], {"role": "assistant", "content": None}, TURNS[3]],
    "two assistant messages at the end": [TURNS[1], TURNS[2], TURNS[2]],
    "tool": [TURNS[1], {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
    "tools": [{**TURNS[0], "tools": [{"name": "search"}]}, TURNS[1]],
    "image": [TURNS[1], TURNS[2], {"role": "user", "content": "And <image>"}],
    "image_url": [*TURNS[:3], {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
}


@pytest.mark.parametrize("kind", SET_ASIDE)
def test_what_cannot_be_asked_is_named_wherever_it_stands(kind: str, tmp_path: Path) -> None:
    message = refusal(chats(tmp_path / "q.jsonl", TURNS, SET_ASIDE[kind]), columns=COLUMNS)
    assert f"line 2: 'messages' holds content of the kind {kind}," in message


def test_what_cannot_be_asked_is_set_aside_and_counted(data: Path, tmp_path: Path) -> None:
    path = chats(tmp_path / "q.jsonl", *SET_ASIDE.values(), TURNS)
    artifact = stage.write(recipe(path, columns=COLUMNS, unsupported="drop"))
    metrics: Any = artifact.manifest.metrics
    assert metrics["unsupported"] == dict.fromkeys(SET_ASIDE, 1)
    assert artifact.manifest.rows == 1


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([TURNS[0], TURNS[2]], "no message of a user"),
        ([TURNS[1], {"content": "a?"}], "message 2 of 'messages' has no role"),
        ([TURNS[1], TURNS[2], TURNS[0]], "ends with a system message"),
        ([TURNS[0], {"role": "user", "content": " "}], "blank question"),
    ],
)
def test_messages_without_a_question_are_refused(turns: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(chats(tmp_path / "q.jsonl", turns), columns=COLUMNS)


@pytest.mark.parametrize("column", ["image", "images", "videos", "audio"])
@pytest.mark.parametrize("question", ["How many do you see?", TURNS])
def test_what_stands_beside_the_text_is_not_left_out(column: str, question: Any, tmp_path: Path) -> None:
    kind = column.removesuffix("s")
    held: Any = "a.png" if column == kind else [{"path": "a.png"}]
    rows: Rows = [
        {"messages": question, column: None if column == kind else []},
        {"messages": "b?", column: held},
    ]
    path = save(rows, tmp_path / "q.jsonl")
    message = refusal(path, columns=COLUMNS)
    assert f"line 2: '{column}' holds content of the kind {kind}," in message and "or the column" in message
    assert len(read(path, columns=COLUMNS, unsupported="drop")) == 1


def test_a_number_is_what_was_said(tmp_path: Path) -> None:
    numbers = [{"role": "user", "content": 12}, {"role": "assistant", "content": 13.0}, TURNS[3]]
    [written] = read(chats(tmp_path / "q.jsonl", numbers), columns=COLUMNS)["conversation"]
    assert [message.content for message in conversation(written).messages[:2]] == ["12", "13"]


def test_choices_stand_below_the_last_message(tmp_path: Path) -> None:
    path = chats(tmp_path / "q.jsonl", TURNS, choices=["5", "6"], gold_answer=0)
    row = read(path, columns={**COLUMNS, "choices": "choices"}).row(0, named=True)
    assert conversation(row["conversation"]).last == "I buy 3. How many?\nA. 5\nB. 6" and row["gold_answer"] == "A"


def test_a_common_system_message_is_for_those_without_one(tmp_path: Path) -> None:
    path = chats(tmp_path / "q.jsonl", TURNS, TURNS[1:], "What is 4?")
    frame = read(path, columns=COLUMNS, system="Be brief.")
    systems = [conversation(written).system for written in frame["conversation"]]
    assert systems == ["You count sheep.", "Be brief.", "Be brief."]
    assert frame["question"][2] == "System: Be brief.\n\nUser: What is 4?"
    without = read(path, columns=COLUMNS)
    assert frame.select("question_id", "split").equals(without.select("question_id", "split"))
    settings = {"source": "file", "path": str(path), "columns": COLUMNS}
    one, two = (Questions.model_validate({**settings, "system": words}) for words in ("Be brief.", "Be kind."))
    assert identity(one) != identity(two)


def test_a_blank_system_message_is_no_setting() -> None:
    with pytest.raises(ValueError, match="system"):
        Questions.model_validate({"source": "file", "path": "q.jsonl", "system": "  "})


def test_the_world_takes_a_common_system_message() -> None:
    counts = {"train": 2, "fresh": 1, "validation": 0, "test": 0, "hard": 0}
    plain, told = (Questions.model_validate({**counts, "system": words}) for words in (None, "Be brief."))
    frame = read_questions(told).questions
    assert [conversation(each).system for each in frame["conversation"]] == ["Be brief."] * 3
    assert [conversation(each).last for each in frame["conversation"]] == read_questions(plain).questions[
        "question"
    ].to_list()
    assert identity(plain) != identity(told) and "system" not in identity(plain)


def test_a_column_of_system_messages_is_for_those_without_one(tmp_path: Path) -> None:
    rows: Rows = [
        {"messages": TURNS, "told": "Be brief."},
        {"messages": TURNS[1:], "told": " Be brief. "},
        {"messages": "What is 4?", "told": None},
    ]
    path = save(rows, tmp_path / "q.jsonl")
    frame = read(path, columns={**COLUMNS, "system": "told"}, system="Be kind.")
    systems = [conversation(written).system for written in frame["conversation"]]
    assert systems == ["You count sheep.", "Be brief.", "Be kind."]
    assert frame["meta"].to_list() == [None] * 3
    assert "no column 'tolled'" in refusal(path, columns={**COLUMNS, "system": "tolled"})


def test_special_tokens_are_looked_for_in_what_people_wrote(data: Path, tmp_path: Path) -> None:
    thinks = [TURNS[1], {"role": "assistant", "content": "<think>a</think>b"}, TURNS[3]]
    token = [TURNS[1], TURNS[2], {"role": "user", "content": "What is <|im_end|>?"}]
    artifact = stage.write(
        recipe(chats(tmp_path / "q.jsonl", thinks, token), columns=COLUMNS, special_tokens="set_aside")
    )
    assert artifact.manifest.named_metrics["set_aside"] == 1 and artifact.manifest.rows == 1


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["user", "assistant", "a?", "", "<image>"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text", "tool_calls"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), VALUES), max_size=4))
def test_any_messages_are_a_question_or_an_error_with_a_reason(messages: list[dict[str, Any]]) -> None:
    try:
        question = Mapping(Questions(source="file", path="q", columns=Columns(question="m"))).question({"m": messages})
    except RowError as flaw:
        assert str(flaw) and "\n" not in str(flaw)
    else:
        whole = question.conversation
        assert question.text == (question.text if whole is None else whole.transcript)
        assert whole is None or whole.messages[-1].role == "user"
