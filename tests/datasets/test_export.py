"""Exports: what was written is what was there, loaded by the libraries that the formats are for."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cohobate.core.answer_parsing import parse
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.export.formats import FORMATS
from cohobate.datasets.selection import Selection
from cohobate.store.artifacts import Artifact
from tests.support.exports import ALL, BRIEF, lines
from tests.support.made_triples import Row, sample, triples

os.environ["HF_DATASETS_OFFLINE"] = "1"

# Nothing here can spell an answer statement, a tag or the separator: those the test puts in itself.
LETTERS = "abc de\n\t\"'\\{}|`-<>&,:é漢🙂\u2028\u0301"
texts = st.text(LETTERS, min_size=1, max_size=30).map(str.strip).filter(bool)
answers = st.from_regex(r"-?[1-8x]{1,3}([/. -]?[1-8x]{1,2}){0,2}", fullmatch=True)


def plain(rationale: str, answer: str) -> tuple[str, str | None]:
    return f"{rationale}\nAnswer: {answer}", None


def boxed(rationale: str, answer: str) -> tuple[str, str | None]:
    return f"{rationale} \\boxed{{{answer}}}", None


def tags(rationale: str, answer: str) -> tuple[str, str | None]:
    return f"<think>\n{rationale}\n</think>\nSo it is this.\nAnswer: {answer}", None


def unopened(rationale: str, answer: str) -> tuple[str, str | None]:
    return f"{rationale}</think> Answer: {answer}", None


def apart(rationale: str, answer: str) -> tuple[str, str | None]:
    return f"Clearly.\nAnswer: {answer}", rationale


STYLES: list[Callable[[str, str], tuple[str, str | None]]] = [plain, boxed, tags, unopened, apart]


@st.composite
def solved(draw: st.DrawFn) -> list[Row]:
    """Samples in every style of response, each knowing what its parts are."""
    rows = []
    for index in range(draw(st.integers(1, 4))):
        question, rationale, answer = draw(texts), draw(texts), draw(answers)
        response, reasoning = draw(st.sampled_from(STYLES))(rationale, answer)
        rows.append(sample(question, response, index=index, reasoning=reasoning, rationale=rationale, answer=answer))
    return rows


def text_of(row: dict[str, Any], name: str) -> tuple[str, str]:
    """What the user asks and what the assistant says, in a row of the format `name`."""
    if name == "messages":
        return row["messages"][-2]["content"], row["messages"][-1]["content"]
    if name == "prompt-completion":
        return row["prompt"][-1]["content"], row["completion"][0]["content"]
    if name == "alpaca":
        return row["instruction"], row["output"]
    return row["conversations"][-2]["value"], row["conversations"][-1]["value"]


anew = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@anew
@pytest.mark.parametrize("name", ["messages", "prompt-completion", "alpaca", "sharegpt"])
@given(rows=solved())
def test_a_conversation_read_back_has_the_same_question_rationale_and_answer(
    name: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("data")
    export(triples(root, rows), Request(name, ALL), root / "out")
    read = lines(root / "out")
    assert len(read) == len(rows)
    for row, back in zip(rows, read, strict=True):
        question, reply = text_of(back, name)
        parsed = parse(reply)
        assert (question, parsed.rationale, parsed.answer) == (row["question"], row["rationale"], row["answer"])
        assert (back["sample_id"], back["verdict"]) == (row["sample_id"], "correct")


@anew
@given(rows=solved())
def test_a_rationale_in_a_field_of_its_own_leaves_the_text_without_it(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("data")
    export(triples(root, rows), Request("messages", ALL, reasoning="field"), root / "out")
    assert len(rows) > 0
    for row, back in zip(rows, lines(root / "out"), strict=True):
        user, reply = back["messages"]
        assert user == {"role": "user", "content": row["question"], "reasoning_content": None}
        assert reply["reasoning_content"] == row["rationale"]
        assert parse(reply["content"]).answer == row["answer"] and "think>" not in reply["content"]


@anew
@given(rows=solved(), separator=st.sampled_from([" ### ", "\n\n", "ab"]))
def test_a_plain_text_splits_into_its_three_parts(
    rows: list[Row], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = [row for row in rows if all(separator not in row[key] for key in ("question", "rationale", "answer"))]
    # A separator that a text's end and its own beginning could make up together.
    whole = [row for row in whole if len(separator.join(parts(row)).split(separator)) == 3]
    assume(whole)
    root = tmp_path_factory.mktemp("data")
    export(triples(root, whole), Request("text", ALL, separator=separator), root / "out")
    read = [tuple(back["text"].split(separator)) for back in lines(root / "out")]
    assert read == [parts(row) for row in whole]


def parts(row: Row) -> tuple[str, str, str]:
    return row["question"], row["rationale"], row["answer"]


def test_the_parquet_holds_every_column(tmp_path: Path) -> None:
    artifact = triples(tmp_path, [sample("q", "so\nAnswer: 1", teacher_name="/models/big")])
    export(artifact, Request("parquet", ALL), tmp_path / "out")
    read = pl.read_parquet(tmp_path / "out" / "train.parquet")
    source = pl.read_parquet(artifact.path / "triples.parquet")
    assert read.drop("verdict", "pass_rate", "teacher_name").equals(source.drop("teacher_name"))
    assert read.select("verdict", "pass_rate", "teacher_name").row(0) == ("correct", 1.0, "big")


def test_samples_that_a_format_cannot_express_are_counted(mixed: Artifact, tmp_path: Path) -> None:
    chat = export(mixed, Request("messages", ALL), tmp_path / "chat")
    assert (chat.written.rows, chat.left_out) == (5, {"truncated": 1, "nothing after the rationale": 1})
    text = export(mixed, Request("text", ALL), tmp_path / "text")
    assert text.left_out == {"truncated": 1, "no final answer": 1, "contains the separator": 1}
    assert export(mixed, Request("parquet", ALL), tmp_path / "parquet").written.rows == 7
    card = (tmp_path / "text" / "README.md").read_text()
    assert "| not expressible here: contains the separator | 1 |" in card


def test_a_response_without_an_answer_is_said_and_not_thought(tmp_path: Path) -> None:
    artifact = triples(tmp_path, [sample("Tell me a tale.", "Once upon a time.", verdict="undecided")])
    export(artifact, Request("messages", ALL), tmp_path / "out")
    assert lines(tmp_path / "out")[0]["messages"][1]["content"] == "Once upon a time."


def test_a_box_in_the_middle_of_a_sentence_is_said_whole_and_alone(tmp_path: Path) -> None:
    artifact = triples(tmp_path, [sample("q", "Half of it.\nHence $x = \\boxed{\\frac{1}{2}}$, as claimed.")])
    export(artifact, Request("alpaca", ALL), tmp_path / "out")
    thought = "<think>\nHalf of it.\nHence $x =\n</think>\n\n"
    assert lines(tmp_path / "out")[0]["output"] == thought + "\\boxed{\\frac{1}{2}}"


def test_a_preference_is_between_a_right_and_a_wrong_sample_of_one_question(mixed: Artifact, tmp_path: Path) -> None:
    export(mixed, Request("preference", Selection("shortest_correct")), tmp_path / "chat")
    export(mixed, Request("preference-text", Selection("first_correct")), tmp_path / "text")
    asked = [{"role": "system", "content": BRIEF}, {"role": "user", "content": "Q: one A:"}]
    [row] = lines(tmp_path / "chat")
    assert row["prompt"] == asked
    assert row["chosen"] == [{"role": "assistant", "content": "<think>\nshort\n</think>\n\nAnswer: 1"}]
    assert row["rejected"] == [{"role": "assistant", "content": "<think>\noops\n</think>\n\nAnswer: 2"}]
    [row] = lines(tmp_path / "text")
    assert (row["system"], row["prompt"]) == (BRIEF, "Q: one A:")
    assert row["chosen"] == "<think>\nlong way round\n</think>\n\nAnswer: 1"


def test_the_two_sides_of_a_pair_may_be_far_apart(tmp_path: Path) -> None:
    from cohobate.datasets.export.writer import BATCH

    count = BATCH + 7
    right = [sample(f"q{n}", f"so\nAnswer: {n}", index=0) for n in range(count)]
    wrong = [sample(f"q{n}", f"no\nAnswer: -{n}", index=1, verdict="incorrect") for n in reversed(range(count))]
    made = export(triples(tmp_path, right + wrong), Request("preference-text"), tmp_path / "out")
    read = lines(tmp_path / "out")
    assert made.written.rows == len(read) == count
    for row in read:
        number = row["prompt"].removeprefix("q")
        assert row["chosen"].endswith(f"Answer: {number}") and row["rejected"].endswith(f"Answer: -{number}")
        assert row["chosen_id"] == right[int(number)]["sample_id"]


@pytest.mark.parametrize("name", FORMATS)
def test_datasets_loads_the_folder(name: str, mixed: Artifact, tmp_path: Path) -> None:
    import datasets

    made = export(mixed, Request(name, ALL), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"] and len(loaded["train"]) == made.written.rows > 0
    if name != "parquet":
        assert list(loaded["train"]) == lines(tmp_path / "out")


def test_a_column_that_begins_with_nulls_is_loaded(tmp_path: Path) -> None:
    import datasets

    rows = [sample(f"q{n}", "x " * 2000) for n in range(3000)] + [sample("last", "why\nAnswer: 1")]
    export(triples(tmp_path / "data", rows), Request("messages", ALL, reasoning="field"), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[-1]["messages"][1]["reasoning_content"] == "why"


def documented(entry: dict[str, Any], row: dict[str, Any]) -> None:
    """Check a LLaMA-Factory entry against its documentation, and against a row."""
    columns = {"prompt", "query", "response", "history", "messages", "system", "tools", "chosen", "rejected"}
    tag_names = {"role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag"}
    assert set(entry) <= {"file_name", "formatting", "ranking", "columns", "tags"}
    assert set(entry["columns"]) <= columns and set(entry["columns"].values()) <= set(row)
    if entry.get("formatting") != "sharegpt":
        return
    tags = entry["tags"]
    assert set(tags) == tag_names
    turns = row[entry["columns"]["messages"]]
    assert [turn[tags["role_tag"]] for turn in turns] == [
        tags["system_tag"],
        tags["user_tag"],
        tags["assistant_tag"],
    ]
    assert all(turn[tags["content_tag"]] for turn in turns)


@pytest.mark.parametrize("name", ["messages", "alpaca", "sharegpt", "text", "preference-text"])
def test_the_snippets_name_what_the_rows_have(name: str, mixed: Artifact, tmp_path: Path) -> None:
    export(mixed, Request(name, ALL), tmp_path / "out")
    row = lines(tmp_path / "out")[0]
    described = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert list(described) == ["out"] and described["out"]["file_name"] == "train.jsonl"
    documented(described["out"], row)
    [source] = (axolotl := yaml.safe_load((tmp_path / "out" / "axolotl.yaml").read_text()))["datasets"]
    assert (source["path"], source["ds_type"]) == ("out/train.jsonl", "json")
    needs = {
        "chat_template": {source.get("field_messages")},
        "alpaca_w_system.load_instruct": {"instruction", "input", "output", "system"},
        "completion": {source.get("field")},
        "chatml.prompt_pairs": {"system", "prompt", "chosen", "rejected"},
    }[source["type"]]
    assert needs <= set(row)
    for turn in row.get(source.get("field_messages"), []):
        assert set(source["message_property_mappings"].values()) == set(turn)
    assert axolotl.get("rl") == ("dpo" if name == "preference-text" else None)
