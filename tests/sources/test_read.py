"""One file of questions in every format: columns, splits and ids, and the one sentence on each mistake in it."""

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import questions
from cohobate.core.errors import QuestionsError
from cohobate.core.schema import QUESTIONS
from cohobate.sources.base import Question
from cohobate.sources.read import SOURCES
from cohobate.sources.table import frame_of
from cohobate.stages import questions as stage
from tests.support.question_files import FORMATS, ROWS, Rows, many, read, recipe, refusal, save, unit


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_rows_that_were_saved(suffix: str, tmp_path: Path) -> None:
    frame = read(save(ROWS, tmp_path / f"q{suffix}"))
    assert frame["question"].to_list() == [row["question"] for row in ROWS]
    assert frame["gold_answer"].to_list() == [row["gold_answer"] for row in ROWS]
    assert [json.loads(meta) for meta in frame["meta"]] == [{"topic": row["topic"]} for row in ROWS]
    assert frame["kind"].unique().to_list() == ["file"]


def test_formats_agree_on_ids_and_splits(tmp_path: Path) -> None:
    frames = [read(save(ROWS, tmp_path / f"q{suffix}")).drop("meta") for suffix in FORMATS]
    assert [frame.equals(frames[0]) for frame in frames] == [True] * 3


def test_a_question_is_named_by_the_hash_of_its_composed_text(tmp_path: Path) -> None:
    decomposed = "  Un cafe\u0301? "
    frame = read(save([{"question": decomposed}], tmp_path / "q.jsonl"))
    assert frame["question_id"].item() == hashlib.sha256("Un café?".encode()).hexdigest()[:16]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes(b"\xef\xbb\xbfquestion,gold_answer\r\nWhat is 1 + 1?,2\r\n")
    assert read(path)["gold_answer"].to_list() == ["2"]


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ([12, 7], ["12", "7"]),
        ([12, "twelve"], ["12", "twelve"]),
        ([0.5, 2.25], ["0.5", "2.25"]),
        ([12, 0.5], ["12", "0.5"]),
        ([12, None], ["12", None]),
        ([10**30, 1], ["1000000000000000000000000000000", "1"]),
    ],
)
def test_numbers_in_jsonl_are_read_as_they_are_written(
    gold: list[Any], expected: list[str | None], tmp_path: Path
) -> None:
    rows = [{"question": f"Question {i}?", "gold_answer": value} for i, value in enumerate(gold)]
    assert read(save(rows, tmp_path / "q.jsonl"))["gold_answer"].to_list() == expected


def test_numbers_in_parquet_and_csv_are_read_as_strings(tmp_path: Path) -> None:
    numbers = [{"question": "a?", "gold_answer": 12}, {"question": "b?", "gold_answer": -7}]
    assert read(save(numbers, tmp_path / "q.parquet"))["gold_answer"].to_list() == ["12", "-7"]
    texts = [{"question": "a?", "gold_answer": "007"}, {"question": "b?", "gold_answer": "1e3"}]
    assert read(save(texts, tmp_path / "q.csv"))["gold_answer"].to_list() == ["007", "1e3"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_recipe_names_the_columns(suffix: str, tmp_path: Path) -> None:
    rows = [{"name": "q-1", "prompt": "a?", "answer": "1"}, {"name": "q-2", "prompt": "b?", "answer": "2"}]
    columns = {"question": "prompt", "gold_answer": "answer", "id": "name"}
    frame = read(save(rows, tmp_path / f"q{suffix}"), columns=columns)
    assert frame["question_id"].to_list() == ["q-1", "q-2"]
    assert frame["question"].to_list() == ["a?", "b?"]
    assert frame["gold_answer"].to_list() == ["1", "2"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_split_column_is_honoured(suffix: str, tmp_path: Path) -> None:
    splits = ["hard", "test", "validation", "fresh", "train", "train"]
    rows = [{"question": f"{i}?", "split": split} for i, split in enumerate(splits)]
    assert read(save(rows, tmp_path / f"q{suffix}"))["split"].to_list() == splits


def test_a_split_column_with_a_gap_is_not_drawn_anew_in_silence(tmp_path: Path) -> None:
    # Else the user's test questions become training questions.
    rows = [{"question": f"{i}?", "split": "test" if i else None} for i in range(20)]
    assert "split" in refusal(save(rows, tmp_path / "q.jsonl"))


def test_the_shares_are_drawn_as_asked(tmp_path: Path) -> None:
    count, shares = 4000, {"train": 0.4, "fresh": 0.3, "validation": 0.1, "test": 0.2}
    frame = read(save(many(count), tmp_path / "q.jsonl"), split=shares)
    drawn = dict(frame.group_by("split").len().iter_rows())
    assert sum(drawn.values()) == count
    for split, share in shares.items():
        error = math.sqrt(share * (1 - share) / count)
        assert abs(drawn[split] / count - share) < 4 * error


def test_a_share_of_nothing_gets_nothing(tmp_path: Path) -> None:
    shares = {"train": 1.0, "fresh": 0.0, "validation": 0.0, "test": 0.0}
    frame = read(save(many(500), tmp_path / "q.jsonl"), split=shares)
    assert set(frame["split"]) == {"train"}


def test_added_rows_move_no_question_to_another_split(tmp_path: Path) -> None:
    rows = many(600)
    before = read(save(rows[:400], tmp_path / "before.csv"))
    random.Random(0).shuffle(rows)
    after = read(save(rows, tmp_path / "after.parquet"))
    place = dict(after.select("question", "split").iter_rows())
    assert all(place[question] == split for question, split in before.select("question", "split").iter_rows())


def test_another_seed_draws_other_splits(tmp_path: Path) -> None:
    path = save(many(200), tmp_path / "q.csv")
    assert read(path)["split"].to_list() != read(path, seed=1)["split"].to_list()


def test_a_question_under_several_ids_stays_within_one_split(tmp_path: Path) -> None:
    rows = [{"question": f"{i % 50}?", "id": f"copy-{i}"} for i in range(200)]
    frame = read(save(rows, tmp_path / "q.csv"), columns={"id": "id"})
    assert frame.group_by("question").agg(pl.col("split").n_unique())["split"].max() == 1


def test_a_missing_file_says_which_setting_to_mend(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere.csv")
    assert "does not exist" in message and "questions.path" in message


@pytest.mark.parametrize("content", [b"\xd0\xcf\x11\xe0binary", b"question,gold_answer\na?,1\n"])
def test_an_unknown_suffix_names_the_known_ones(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "q.xlsx"
    path.write_bytes(content)
    message = refusal(path)
    assert "'.xlsx'" in message and ".parquet, .csv, .jsonl" in message


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_column_is_named_with_the_nearest_one(suffix: str, tmp_path: Path) -> None:
    message = refusal(save([{"questions": "a?", "gold_answer": "1"}], tmp_path / f"q{suffix}"))
    assert "no column 'question'" in message
    assert "set questions.columns.question = 'questions'" in message


def test_a_named_gold_column_must_be_there(tmp_path: Path) -> None:
    path = save([{"question": "a?", "final_answer": "1"}], tmp_path / "q.csv")
    message = refusal(path, columns={"gold_answer": "answer"})
    assert "no column 'answer'" in message and "questions.columns.gold_answer" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [("q.csv", ""), ("q.csv", "question,gold_answer\n"), ("q.jsonl", ""), ("q.jsonl", "\n \n")],
)
def test_an_empty_file_is_called_empty(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert "holds no question" in refusal(path)


def test_a_parquet_file_without_rows_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pl.DataFrame(schema={"question": pl.String}).write_parquet(path)
    assert "holds no question" in refusal(path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    path.write_text("question,gold_answer\n")
    assert "not readable as Parquet" in refusal(path)


@pytest.mark.parametrize("row", ["a?,1,2,3", '"a?,1'])
def test_a_malformed_csv_row_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f"question,gold_answer\n{row}\n")
    assert "not readable as CSV" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "question,gold_answer\nUn café?,1\n"),
        ("q.jsonl", '{"question": "a?"}\n{"question": "Un café?"}\n'),
    ],
)
def test_text_that_is_not_utf8_is_refused_with_its_line(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    message = refusal(path)
    assert "not UTF-8" in message and "line 2" in message


@pytest.mark.parametrize("bad", ['{"question": "b?"', '["b?"]', "b?", '{"question": "b?"}{}'])
def test_a_malformed_jsonl_line_is_named_by_its_number(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f'{{"question": "a?"}}\n\n{bad}\n{{"question": "c?"}}\n')
    message = refusal(path)
    assert "line 3" in message and "JSON" in message


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("blank", ["", "  \t", None])
def test_a_blank_question_is_named_by_its_row(suffix: str, blank: str | None, tmp_path: Path) -> None:
    rows: Rows = [{"question": "a?", "gold_answer": "1"}, {"question": blank, "gold_answer": "2"}]
    message = refusal(save(rows, tmp_path / f"q{suffix}"))
    assert f"{unit(suffix)} 2 " in message and "blank question" in message


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_repeated_question_is_named_by_its_rows(suffix: str, tmp_path: Path) -> None:
    rows = [{"question": question} for question in ("a?", "b?", "c?", " b? ")]
    message = refusal(save(rows, tmp_path / f"q{suffix}"))
    assert f"{unit(suffix)}s 2 and 4" in message


def test_a_repeated_id_is_named_with_its_rows(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "id": name} for i, name in enumerate(("x", "y", "x"))]
    message = refusal(save(rows, tmp_path / "q.csv"), columns={"id": "id"})
    assert "'x'" in message and "rows 1 and 3" in message


def test_a_missing_id_is_named_by_its_row(tmp_path: Path) -> None:
    rows: Rows = [{"question": "a?", "id": "x"}, {"question": "b?", "id": None}]
    assert "line 2 has no id" in refusal(save(rows, tmp_path / "q.jsonl"), columns={"id": "id"})


@pytest.mark.parametrize("column", ["question", "gold_answer"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_column_of_lists_is_refused_by_its_name(column: str, suffix: str, tmp_path: Path) -> None:
    row = {"question": "a?", "gold_answer": "1", column: ["a?", "b?"]}
    assert f"'{column}'" in refusal(save([row], tmp_path / f"q{suffix}"))


def test_columns_that_nobody_asked_for_may_be_of_mixed_types(tmp_path: Path) -> None:
    rows: Rows = [{"question": "a?", "extra": {"x": 1}}, {"question": "b?", "extra": "text"}]
    assert read(save(rows, tmp_path / "q.jsonl"))["question"].to_list() == ["a?", "b?"]


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    message = refusal(save([{"question": "a?", "split": "dev"}], tmp_path / "q.csv"))
    assert "'dev'" in message and "train, fresh, validation, test, hard" in message


def test_the_content_and_not_the_place_is_the_identity(data: Path, tmp_path: Path) -> None:
    path = save(ROWS, tmp_path / "here.jsonl")
    first = stage.write(recipe(path))
    moved = stage.write(recipe(path.rename(tmp_path / "there.jsonl")))
    assert moved.cached and moved.path == first.path
    more = stage.write(recipe(save([*ROWS, {"question": "One more?"}], tmp_path / "more.jsonl")))
    assert (first.manifest.rows, more.manifest.rows) == (4, 5)
    assert more.fingerprint != first.fingerprint and data in more.path.parents


def test_a_refused_file_leaves_no_artifact(data: Path, tmp_path: Path) -> None:
    with pytest.raises(QuestionsError):
        stage.write(recipe(save([{"question": ""}], tmp_path / "q.jsonl")))
    assert not list(data.glob("questions/*/manifest.json"))


def test_every_kind_of_source_of_a_recipe_can_be_read() -> None:
    assert set(SOURCES) == set(questions.SOURCES)


def test_the_columns_of_a_question_are_its_fields_in_order() -> None:
    question = Question("id", "a?", "1", "1 = 1", "train", "file", 2, "{}")
    assert frame_of([question]).rows() == [("id", "a?", "1", "1 = 1", "train", "file", 2, "{}", None)]
    assert frame_of([]).schema == frame_of([question]).schema == QUESTIONS.polars
