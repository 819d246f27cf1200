"""Chat messages in a column: as objects or as the text of their JSON, and what is more than text."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.stages import questions as stage
from tests.support.question_files import read, recipe, refusal, save

COLUMNS = {"question": "messages"}
USER = {"role": "user", "content": "How many?"}


def chat(path: Path, *conversations: Any, **more: Any) -> Path:
    return save([{"messages": messages, **more} for messages in conversations], path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_messages_may_be_the_text_of_their_json(suffix: str, tmp_path: Path) -> None:
    conversations = [
        json.dumps([{"role": "system", "content": ""}, {"role": "user", "content": "a? \u00e9"}]),
        json.dumps([{"from": "human", "value": 'b "quoted"?'}], indent=1),
        json.dumps([{"content": [{"type": "text", "text": "c?"}, "d?"], "role": "user"}]),
        "[1, 2] is a list?",
    ]
    frame = read(chat(tmp_path / f"q{suffix}", *conversations), columns=COLUMNS)
    assert frame["question"].to_list() == ["a? \u00e9", 'b "quoted"?', "c?\nd?", "[1, 2] is a list?"]


@pytest.mark.parametrize(
    "text", ["[{'role': 'user', 'content': 'a?'}]", '[{"role": "user", "content": "a', '[{"from": ' + "[" * 5000]
)
def test_text_like_messages_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    message = refusal(chat(tmp_path / "q.jsonl", [USER], text), columns=COLUMNS)
    assert "line 2: 'messages' holds chat messages as text" in message


MORE_THAN_TEXT: dict[str, list[dict[str, Any]]] = {
    "image_url": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
    "input_audio": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Who speaks?"}, {"type": "input_audio", "input_audio": {}}],
        }
    ],
    "inline_data": [{"role": "user", "content": [{"text": "Which?"}, {"inline_data": {"data": "AAAA"}}]}],
    "image": [{"role": "user", "content": "What is it?", "images": ["a.png"]}],
    "video": [{"from": "human", "value": "<video>\nWhat happens?"}],
    "tool": [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "4"},
        USER,
    ],
    "tool_result": [{"role": "user", "content": [{"type": "tool_result", "content": "4"}]}],
}


@pytest.mark.parametrize("kind", MORE_THAN_TEXT)
@pytest.mark.parametrize("as_text", [False, True])
def test_more_than_text_is_refused_by_its_kind(kind: str, as_text: bool, tmp_path: Path) -> None:
    messages: Any = MORE_THAN_TEXT[kind]
    path = chat(tmp_path / "q.jsonl", [USER], json.dumps(messages) if as_text else messages)
    message = refusal(path, columns=COLUMNS)
    assert f"line 2: 'messages' holds content of the kind {kind}" in message and "questions.unsupported" in message


def test_more_than_text_is_left_out_and_counted_by_kind(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chat(tmp_path / "q.jsonl", *MORE_THAN_TEXT.values(), MORE_THAN_TEXT["tool"], [USER])
    artifact = stage.write(recipe(path, columns=COLUMNS, unsupported="drop"))
    metrics: Any = artifact.manifest.metrics
    assert metrics["unsupported"] == {kind: 1 + (kind == "tool") for kind in MORE_THAN_TEXT}
    assert pl.read_parquet(artifact.path / "questions.parquet")["question"].to_list() == ["How many?"]
    told = capsys.readouterr()
    assert "8 rows left out" in told.out + told.err and "image_url: 1" in told.out + told.err


def test_tools_that_a_row_declares_are_more_than_text(tmp_path: Path) -> None:
    path = chat(tmp_path / "q.jsonl", [USER], tools=[{"name": "search"}])
    assert "kind tools" in refusal(path, columns=COLUMNS)
    assert read(chat(path, [USER], tools="[]"), columns=COLUMNS)["question"].to_list() == ["How many?"]


def test_a_placeholder_is_an_image_unless_the_question_is_about_the_tag(tmp_path: Path) -> None:
    path = save([{"question": "What does <image> mean in XML?"}, {"question": "b?"}], tmp_path / "q.jsonl")
    assert len(read(path)) == 2
    row: dict[str, Any] = {"question": "Which of <image> is red?", "images": ["a.png"]}
    save([row], path)
    assert "line 1: 'question' holds content of the kind image" in refusal(path)


def test_columns_of_bytes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"question": ["a?"], "scan": [b"\xff"]}).write_parquet(tmp_path / "q.parquet")
    read(tmp_path / "q.parquet")
    told = capsys.readouterr()
    assert "scan left out" in told.out + told.err
