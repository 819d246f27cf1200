"""Folders, globs, compressed and remote files, nested columns: every way to name questions gives the same ones."""

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from cohobate.config.load import make_recipe
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.stages import questions as stage
from cohobate.store.artifacts import Store
from tests.support.question_files import FORMATS, many, read, recipe, refusal, save


def texts(path: Path, **settings: Any) -> list[str]:
    return read(path, **settings)["question"].to_list()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_is_its_files_in_order_and_a_row_knows_its_file(suffix: str, tmp_path: Path) -> None:
    rows = many(9)
    for name, part in (("b", rows[3:6]), ("a", rows[:3]), ("deeper/c", rows[6:])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(part, tmp_path / f"{name}{suffix}")
    (tmp_path / "README.md").write_text("about")
    save(many(20)[15:], tmp_path / f".hidden{suffix}")
    frame = read(tmp_path)
    assert frame["question"].to_list() == [row["question"] for row in rows]
    files = [json.loads(meta)["source_file"] for meta in frame["meta"]]
    assert files == [f"a{suffix}"] * 3 + [f"b{suffix}"] * 3 + [f"deeper/c{suffix}"] * 3


def test_a_glob_takes_what_fits(tmp_path: Path) -> None:
    for name, part in (("train-0", many(4)[:2]), ("train-1", many(4)[2:]), ("test-0", many(9)[8:])):
        (tmp_path / name).mkdir()
        save(part, tmp_path / name / "rows.jsonl")
    assert texts(tmp_path / "train-*" / "*.jsonl") == [row["question"] for row in many(4)]
    assert len(texts(tmp_path / "**" / "*.jsonl")) == 5
    assert "no questions" in refusal(tmp_path / "valid-*" / "*.jsonl")


def test_a_folder_of_several_kinds_is_refused_with_the_remedy(tmp_path: Path) -> None:
    save(many(1), tmp_path / "a.csv")
    save(many(2)[1:], tmp_path / "b.parquet")
    message = refusal(tmp_path)
    assert "CSV (a.csv)" in message and "Parquet (b.parquet)" in message and "*.csv" in message
    assert len(read(tmp_path / "*.csv")) == 1


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst"])
def test_compressed_jsonl_is_read_and_a_torn_one_is_not(suffix: str, tmp_path: Path) -> None:
    plain = save(many(3000), tmp_path / "q.jsonl")
    path = tmp_path / f"q.{suffix}"
    if suffix.endswith("gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(plain.read_bytes())
    assert read(path).drop("meta").equals(read(plain).drop("meta"))
    path.write_bytes(path.read_bytes()[:-2000])
    assert "cannot be read to its end" in refusal(path)


def test_flaws_of_a_folder_name_the_file_and_the_line(tmp_path: Path) -> None:
    save(many(3), tmp_path / "a.jsonl")
    save(many(5)[2:], tmp_path / "b.jsonl")
    message = refusal(tmp_path)
    assert f"{tmp_path / 'a.jsonl'} line 3 and {tmp_path / 'b.jsonl'} line 1" in message
    assert "questions.repeated = 'first'" in message
    (tmp_path / "b.jsonl").write_text('{"question": "x?"}\n\n{"question": " "}\n')
    assert f"{tmp_path / 'b.jsonl'} line 3 has a blank question" in refusal(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"prompt": "x?"}\n')
    assert f"{tmp_path / 'b.jsonl'} has no column 'question'" in refusal(tmp_path)


def test_repeated_questions_are_dropped_on_request_and_counted(data: Path, tmp_path: Path) -> None:
    path = save([*many(4), *many(6)], tmp_path / "q.jsonl")
    made = stage.write(recipe(path, repeated="first"))
    assert pl.read_parquet(made.path / "questions.parquet")["question"].to_list() == [r["question"] for r in many(6)]
    assert isinstance(made.manifest.metrics, dict) and made.manifest.metrics["repeated"] == 4


def test_the_names_within_a_folder_are_part_of_its_identity_and_its_place_is_not(data: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = save(many(2), tmp_path / "here" / "a.jsonl")
    first = stage.write(recipe(tmp_path / "here"))
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert stage.write(recipe(moved)).cached
    (moved / path.name).rename(moved / "b.jsonl")
    assert stage.write(recipe(moved)).fingerprint != first.fingerprint


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_dotted_names_reach_into_nested_columns(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"problem": {"text": f"{i}?", "parts": [{"answer": str(i)}]}, "dotted.name": f"n{i}", "level": i}
        for i in range(3)
    ]
    columns = {"question": "problem.text", "gold_answer": "problem.parts.0.answer", "id": "dotted.name"}
    frame = read(save(rows, tmp_path / f"q{suffix}"), columns=columns)
    assert frame.select("question_id", "question", "gold_answer").rows() == [
        (f"n{i}", f"{i}?", str(i)) for i in range(3)
    ]
    assert [json.loads(meta)["level"] for meta in frame["meta"]] == [0, 1, 2]
    message = refusal(tmp_path / f"q{suffix}", columns={**columns, "question": "problem"})
    assert "row 1" in message or "line 1" in message
    assert "name what is in it as 'problem.text'" in message


def test_the_gold_answer_after_the_mark_of_gsm8k(tmp_path: Path) -> None:
    rows = [{"question": "a?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}, {"question": "b?", "answer": "#### 1,000 "}]
    path = save(rows, tmp_path / "q.jsonl")
    columns = {"gold_answer": "answer"}
    frame = read(path, columns=columns, gold_after="####")
    assert frame["gold_answer"].to_list() == ["5", "1,000"]
    assert json.loads(frame["meta"][0])["answer"].startswith("2 + 3")
    save([*rows, {"question": "c?", "answer": "7"}], path)
    assert "line 3: 'answer' holds no '####'" in refusal(path, columns=columns, gold_after="####")


def test_a_gold_response_is_a_column_of_its_own(tmp_path: Path) -> None:
    rows = [{"question": "a?", "answer": "2 + 3 = 5\n#### 5"}, {"question": "b?", "answer": "#### 1"}]
    path = save(rows, tmp_path / "q.jsonl")
    frame = read(path, columns={"gold_answer": "answer", "gold_response": "answer"}, gold_after="####")
    assert frame.select("gold_answer", "gold_response").rows() == [("5", rows[0]["answer"]), ("1", rows[1]["answer"])]
    assert frame["meta"].to_list() == [None, None]
    assert read(path, columns={"gold_answer": "answer"})["gold_response"].to_list() == [None, None]
    assert "set questions.columns.gold_response = 'answer'" in refusal(path, columns={"gold_response": "answers"})


def test_the_only_message_of_a_chat_is_the_question(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": ""}, {"role": "user", "content": " a? "}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "b?"}]}]
    sharegpt = [{"from": "human", "value": "c?"}, {"from": "gpt", "value": "d"}]
    rows = [{"messages": messages} for messages in (chat, parts, sharegpt)]
    columns = {"question": "messages"}
    assert texts(save(rows, tmp_path / "q.jsonl"), columns=columns) == ["a?", "b?", "c?"]
    assert texts(save(rows[:1], tmp_path / "q.parquet"), columns=columns) == ["a?"]
    save([{"messages": [{"role": "assistant", "content": "x"}]}], tmp_path / "q.jsonl")
    assert "no message of a user" in refusal(tmp_path / "q.jsonl", columns=columns)


@pytest.mark.parametrize("gold", ["B", "four", 1])
def test_choices_stand_below_the_question_and_the_gold_answer_is_their_label(gold: str | int, tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "options": ["three", "four"], "gold_answer": gold}
    frame = read(save([row], tmp_path / "q.jsonl"), columns={"choices": "options"})
    assert frame.select("question", "gold_answer").row(0) == ("2 + 2?\nA. three\nB. four", "B")


def test_choices_may_bring_their_own_labels_and_must_hold_the_gold_answer(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "choices": {"text": ["3", "4"], "label": ["1", "2"]}, "gold_answer": "2"}
    columns = {"choices": "choices"}
    frame = read(save([row], tmp_path / "q.parquet"), columns=columns)
    assert frame.select("question", "gold_answer").row(0) == ("2 + 2?\n1. 3\n2. 4", "2")
    assert "'E'" in refusal(save([{**row, "gold_answer": "E"}], tmp_path / "q.jsonl"), columns=columns)
    assert "position" in refusal(save([{**row, "gold_answer": 2}], tmp_path / "q.jsonl"), columns=columns)


def test_images_are_left_out_and_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pl.DataFrame({"question": ["a?"], "image": [b"\xff"], "score": [float("nan")]}).write_parquet(path)
    assert json.loads(read(path)["meta"][0]) == {"score": None}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server: its address, its folder, and what was asked of it."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(str(self.command))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, asked
    server.shutdown()
    thread.join()


@pytest.mark.serves
def test_an_address_is_fetched_once_and_again_when_it_has_changed(
    served: tuple[str, Path, list[str]], data: Path
) -> None:
    url, folder, asked = served
    path = save(many(3), folder / "q.jsonl")
    remote = make_recipe({"questions": {"source": "file", "path": f"{url}/q.jsonl"}}, "r")
    first = stage.write(remote)
    assert first.fingerprint == stage.write(recipe(path)).fingerprint
    gets = asked.count("GET")
    assert stage.write(remote).cached and asked.count("GET") == gets
    [copy] = (data / "downloads").glob("*/q.jsonl")
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b"3", b"4", 1))
    assert stage.write(remote).cached and copy.read_bytes() == content, "an altered copy is fetched again"
    save(many(5), path)
    assert stage.write(remote).manifest.rows == 5
    with pytest.raises(QuestionsError, match=r"nowhere.jsonl cannot be fetched .*correct questions.path"):
        stage.write(make_recipe({"questions": {"source": "file", "path": f"{url}/nowhere.jsonl"}}, "r"))


@pytest.mark.parametrize("path", ["s3://me:k3y@host/q.jsonl", "https://host/q.jsonl?signature=k3y"])
def test_an_address_with_a_key_in_it_is_refused_and_not_repeated(path: str) -> None:
    with pytest.raises(RecipeError, match=r"questions\.path.*environment") as caught:
        make_recipe({"questions": {"source": "file", "path": path}}, "r")
    assert "k3y" not in str(caught.value)


def test_settings_that_contradict_each_other_are_refused(data: Path) -> None:
    with pytest.raises(RecipeError, match="path names no dataset"):
        make_recipe({"questions": {"source": "file", "path": "q.csv", "hf": {"split": "test"}}}, "r")
    with pytest.raises(RecipeError, match="source = 'documents' needs a path"):
        make_recipe({"questions": {"source": "documents"}}, "r")
    with pytest.raises(RecipeError, match=r"opd\.steps = 0"):
        make_recipe({"questions": {"source": "documents", "path": "d"}}, "r")
    assert not Store().all()
