"""Conversations in exports: the turns, which of them are learnt, and what a format cannot express."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.core.conversation import Conversation, Message
from cohobate.core.errors import ExportError
from cohobate.datasets.export.export import Request, export
from cohobate.store.artifacts import Artifact
from tests.support.exports import ALL, lines
from tests.support.made_triples import Row, sample, triples

FIRST = "<think>\nThey have 2.\n</think>\n\nYou have 2."
THREE = Conversation(
    (
        Message("system", "You count sheep."),
        Message("user", "I have 2."),
        Message("assistant", FIRST),
        Message("user", "I buy 3. How many?"),
    )
)
TOLD = Conversation((Message("system", "Be kind."), Message("user", "What is 2 + 3?")))
REPLY = "<think>\n2 + 3 = 5\n</think>\n\nAnswer: 5"


def row(question: str | Conversation) -> Row:
    if isinstance(question, str):
        return sample(question, REPLY)
    return sample(question.transcript, REPLY, conversation=question.written)


def exported(root: Path, name: str, *questions: str | Conversation, **settings: Any) -> list[dict[str, Any]]:
    turns = settings.pop("turns", None)
    reasoning = settings.pop("reasoning", "think")
    made = triples(
        root / "data", [row(each) for each in questions], Recipe.model_validate({"name": "made", **settings})
    )
    export(made, Request(name, ALL, turns=turns, reasoning=reasoning), root / "out")
    return lines(root / "out")


def without_marks(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def test_messages_hold_every_turn_and_say_which_is_learnt(tmp_path: Path) -> None:
    three, told, text = exported(tmp_path, "messages", THREE, TOLD, "What is 4 + 1?")
    assert without_marks(three["messages"]) == [
        *((message.role, message.content) for message in THREE.messages),
        ("assistant", REPLY),
    ]
    assert [message["train"] for message in three["messages"]] == [False, False, False, False, True]
    assert without_marks(told["messages"]) == [
        ("system", "Be kind."),
        ("user", "What is 2 + 3?"),
        ("assistant", REPLY),
    ]
    assert without_marks(text["messages"]) == [("user", "What is 4 + 1?"), ("assistant", REPLY)]
    assert "message_field_training: train" in (tmp_path / "out" / "axolotl.yaml").read_text()
    assert "mask_history" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("way", ["option", "recipe"])
def test_where_all_turns_are_learnt_nothing_is_marked(way: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"turns": "all"} if way == "option" else {"sft": {"turns": "all"}}
    [three] = exported(tmp_path, "messages", THREE, **settings)
    assert all(message.keys() == {"role", "content"} for message in three["messages"])
    assert "message_field_training" not in (tmp_path / "out" / "axolotl.yaml").read_text()


@pytest.mark.parametrize("name", ["messages", "prompt-completion", "alpaca", "sharegpt", "text", "preference-text"])
def test_rows_of_texts_are_the_same_bytes_beside_no_conversation(name: str, tmp_path: Path) -> None:
    """The same as before there were conversations, whose column older triples lack."""
    import polars as pl

    from cohobate.datasets.export.formats import FORMATS, rows
    from cohobate.datasets.export.prompts import Style

    frame = pl.DataFrame([row("What is 2 + 3?"), row("{question} of 4?")]).with_columns(
        pl.lit("correct").alias("verdict")
    )
    frame = frame.with_columns(pl.lit(None, pl.String).alias("conversation"))
    made = rows(FORMATS[name], frame, Style(prompt="Q: {question} ({question})", system="S")).to_dicts()
    question, message = "Q: {question} of 4? ({question} of 4?)", {"role": "system", "content": "S"}
    user, reply = {"role": "user", "content": question}, {"role": "assistant", "content": REPLY}
    expected: dict[str, dict[str, Any]] = {
        "messages": {"messages": [message, user, reply]},
        "prompt-completion": {"prompt": [message, user], "completion": [reply]},
        "alpaca": {"system": "S", "instruction": question, "input": "", "output": REPLY},
        "sharegpt": {
            "conversations": [
                {"from": "system", "value": "S"},
                {"from": "human", "value": question},
                {"from": "gpt", "value": REPLY},
            ]
        },
        "text": {"text": "{question} of 4? ### 2 + 3 = 5 ### 5"},
        "preference-text": {"system": "S", "prompt": question, "reply": REPLY},
    }
    ids = ("sample_id", "question_id", "verdict")
    assert {key: value for key, value in made[1].items() if key not in ids} == expected[name]
    assert list(made[1]) == [*expected[name], *ids]


def test_the_prompt_of_the_student_goes_with_the_conversation(tmp_path: Path) -> None:
    student = {"prompt": "{question} Think.", "system": "Be brief."}
    three, told = exported(tmp_path, "prompt-completion", THREE, TOLD, student=student)
    assert without_marks(three["prompt"]) == [
        ("system", "Be brief.\n\nYou count sheep."),
        ("user", "I have 2."),
        ("assistant", FIRST),
        ("user", "I buy 3. How many? Think."),
    ]
    assert without_marks(told["prompt"]) == [("system", "Be brief.\n\nBe kind."), ("user", "What is 2 + 3? Think.")]
    assert without_marks(three["completion"]) == [("assistant", REPLY)]


def test_thoughts_of_every_turn_have_their_field(tmp_path: Path) -> None:
    three, _ = exported(tmp_path, "messages", THREE, "What is 2?", reasoning="field")
    thoughts = [(message["content"], message["reasoning_content"]) for message in three["messages"]]
    assert thoughts[2] == ("You have 2.", "They have 2.") and thoughts[4] == ("Answer: 5", "2 + 3 = 5")


def test_sharegpt_names_the_sides(tmp_path: Path) -> None:
    [three] = exported(tmp_path, "sharegpt", THREE)
    sides = [(turn["from"], turn["value"], turn["train"]) for turn in three["conversations"]]
    assert sides[1:3] == [("human", "I have 2.", False), ("gpt", FIRST, False)]
    assert sides[-1] == ("gpt", REPLY, True) and sides[0][0] == "system"


@pytest.mark.parametrize("name", ["alpaca", "preference-text"])
def test_several_turns_are_left_out_and_counted_where_a_row_has_one(name: str, tmp_path: Path) -> None:
    rows = [row(each) for each in ALL_OF]
    # A wrong sample of each for pairs.
    rows += [{**right, "verdict": "incorrect", "sample_index": 1, "sample_id": f"w{n}"} for n, right in enumerate(rows)]
    made = triples(tmp_path / "data", rows)
    result = export(made, Request(name, ALL), tmp_path / "out")
    assert result.left_out == {"several turns": 2}
    key = "instruction" if name == "alpaca" else "prompt"
    users = {(each["system"], each[key]) for each in lines(tmp_path / "out")}
    assert users == {("Be kind.", "What is 2 + 3?"), ("", "What is 4 + 1?")}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "several turns | 2 |" in card and '"system": "system"' in card


ALL_OF: list[str | Conversation] = [THREE, TOLD, "What is 4 + 1?"]


def test_a_format_for_none_of_the_conversations_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"alpaca can express no sample of .* \(several turns: 1\)"):
        exported(tmp_path, "alpaca", THREE)


def test_all_turns_are_refused_where_the_loss_is_on_the_last(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--turns last, or one of these formats: messages, sharegpt"):
        exported(tmp_path, "prompt-completion", THREE, turns="all")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match="--turns everything is unknown"):
        exported(tmp_path / "b", "messages", THREE, turns="everything")


def test_datasets_loads_conversations_beside_texts(tmp_path: Path) -> None:
    import datasets

    exported(tmp_path, "messages", "What is 4 + 1?", THREE)
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [len(each) for each in rows["messages"]] == [2, 5]
    assert rows[1]["messages"][4]["train"] is True


def artifact_of(root: Path, questions: list[str | Conversation]) -> Artifact:
    return triples(root / "data", [row(each) for each in questions])


def test_the_whole_table_has_the_conversations(tmp_path: Path) -> None:
    import polars as pl

    export(artifact_of(tmp_path, ALL_OF), Request("parquet", ALL), tmp_path / "out")
    column = pl.read_parquet(tmp_path / "out" / "train.parquet")["conversation"]
    assert column.to_list() == [THREE.written, TOLD.written, None]
