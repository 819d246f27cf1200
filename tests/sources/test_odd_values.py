"""Values that some tool wrote and some reader cannot take: each is read as it was meant, or refused by its place."""

import gzip
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cohobate.sources.json_text import DEEPEST, JsonError, parse
from tests.support.question_files import read, refusal


def lines(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def arrow(path: Path, **columns: Any) -> Path:
    count = len(next(iter(columns.values())))
    pq.write_table(pa.table({"question": [f"{i}?" for i in range(count)], **columns}), path)
    return path


def golds(path: Path, **settings: Any) -> list[str | None]:
    return read(path, **settings)["gold_answer"].to_list()


def test_half_a_surrogate_pair_is_the_replacement_character_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(
        tmp_path / "q.jsonl",
        r'{"question": "whole \ud83d\ude00 and \\ud83d?", "gold_answer": "1"}',
        r'{"question": "cut \uDC00?", "gold_answer": "\ud800", "more\udfff": [{"deep": "x\ud8ab"}]}',
    )
    frame = read(path)
    assert frame["question"].to_list() == ["whole \U0001f600 and \\ud83d?", "cut \ufffd?"]
    assert golds(path) == ["1", "\ufffd"]
    assert json.loads(frame["meta"][1]) == {"more\ufffd": [{"deep": "x\ufffd"}]}
    told = capsys.readouterr()
    assert "1 line with half a surrogate pair, such as line 2" in told.out + told.err


def test_integers_are_exact_or_refused_by_their_line(tmp_path: Path) -> None:
    digits = "12345678901234567890" * 5
    path = lines(tmp_path / "q.jsonl", f'{{"question": "a?", "gold_answer": {digits}}}')
    assert golds(path) == [digits]
    lines(path, '{"question": "a?"}', f'{{"question": "b?", "meta": {{"n": [-{"7" * 6000}]}}}}')
    assert "line 2 holds a number of 6,001 digits" in refusal(path)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
@pytest.mark.parametrize("depth", [DEEPEST + 2, 900, 100_000])
def test_deep_json_is_refused_by_its_line(opening: str, closing: str, depth: int, tmp_path: Path) -> None:
    nested = opening * depth + "1" + closing * depth
    path = lines(tmp_path / "q.jsonl", '{"question": "a?"}', f'{{"question": "b?", "tree": {nested}}}')
    assert f"line 2 is nested more than {DEEPEST} levels deep" in refusal(path)


def test_many_brackets_are_not_deep() -> None:
    wide: list[Any] = [[[]]] * 500
    assert parse(json.dumps(wide)) == wide
    with pytest.raises(JsonError, match="not JSON"):
        parse("[" * 50)


@pytest.mark.parametrize(
    ("written", "gold"),
    [("72.0", "72"), ("-3.0", "-3"), ("-0.0", "0"), ("1e3", "1000"), ("72.50", "72.5"), ("1e22", "1e+22")],
)
def test_a_float_without_a_fraction_is_an_integer(written: str, gold: str, tmp_path: Path) -> None:
    assert golds(lines(tmp_path / "q.jsonl", f'{{"question": "a?", "gold_answer": {written}}}')) == [gold]


def test_integers_of_a_column_with_a_gap_stay_integers(tmp_path: Path) -> None:
    path = arrow(tmp_path / "q.parquet", gold_answer=pa.array([7.0, None, 0.25]), name=pa.array([1.0, 2.0, 3.0]))
    assert golds(path) == ["7", None, "0.25"]
    assert read(path, columns={"id": "name"})["question_id"].to_list() == ["1", "2", "3"]
    # As pandas writes such a column to CSV; without a gap, or with a fraction, somebody chose the form.
    written = {"7.0,,-12.0": ["7", None, "-12"], "7.0,8.0": ["7.0", "8.0"], "7.0,,2.5": ["7.0", None, "2.5"]}
    for number, (cells, expected) in enumerate(written.items()):
        rows = [f"q{i}?,{cell}" for i, cell in enumerate(cells.split(","))]
        assert golds(lines(tmp_path / f"{number}.csv", "question,gold_answer", *rows)) == expected


def test_the_position_of_a_choice_may_be_a_float(tmp_path: Path) -> None:
    options = [["red", "blue"], ["one", "two"]]
    path = arrow(tmp_path / "q.parquet", options=options, gold_answer=pa.array([1.0, None]))
    assert golds(path, columns={"choices": "options"}) == ["B", None]


def test_numbers_of_every_column_type_are_read_as_they_were_meant(tmp_path: Path) -> None:
    wide = Decimal("9" * 40 + ".50")
    path = arrow(
        tmp_path / "q.parquet",
        gold_answer=pa.array([Decimal("-72.00")], pa.decimal256(50, 2)),
        price=pa.array([[wide]], pa.list_(pa.decimal256(50, 2))),
        short=pa.array([0.1], pa.float32()),
        inner=pa.array([{"x": [1e-7, 16777216, None]}], pa.struct([("x", pa.list_(pa.float32()))])),
        largest=pa.array([2**64 - 1], pa.uint64()),
        kind=pa.array(["sums"]).dictionary_encode(),
        pairs=pa.array([[("a", 0.1)]], pa.map_(pa.string(), pa.float64())),
        none=pa.nulls(1),
    )
    assert golds(path) == ["-72"]
    meta = json.loads(read(path)["meta"][0])
    assert meta.pop("pairs") in ({"a": 0.1}, [["a", 0.1]])
    assert meta == {
        "price": [str(wide)],
        "short": 0.1,
        "inner": {"x": [1e-7, 16777216, None]},
        "largest": 2**64 - 1,
        "kind": "sums",
        "none": None,
    }
    assert golds(arrow(tmp_path / "f.parquet", gold_answer=pa.array([0.1, 5], pa.float32()))) == ["0.1", "5"]


def test_an_infinite_gold_answer_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", '{"question": "a?", "gold_answer": 1e999}')
    assert "line 1: 'gold_answer' holds a number beyond" in refusal(path)


@pytest.mark.parametrize("nested", [False, True])
def test_text_in_parquet_that_is_not_utf8_is_refused_by_its_row(nested: bool, tmp_path: Path) -> None:
    raw = pa.array([b"right", b"cut \xed\xa0\xbd"])
    texts: pa.Array = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    if nested:
        texts = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
    message = refusal(arrow(tmp_path / "q.parquet", note=texts))
    assert "row 2: 'note' is not UTF-8" in message


@pytest.mark.parametrize(
    "days", [pa.array([0, 5_000_000], pa.date32()), pa.array([0, 2**62], pa.timestamp("us", "UTC"))]
)
def test_a_date_that_no_calendar_has_is_refused_by_its_row(days: pa.Array, tmp_path: Path) -> None:
    assert "row 2: 'day' holds a" in refusal(arrow(tmp_path / "q.parquet", day=days))


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["a?"]), pa.array(["b?"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["question", "question"]), tmp_path / "q.parquet")
    assert "twice" in refusal(tmp_path / "q.parquet")


def repeated_text(path: Path, size: int, rows: int, *, nested: bool) -> Path:
    """A small file whose text of `size` bytes stands in every row."""
    indices = pa.array([0] * rows, pa.int32())
    column: pa.Array = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * size]))
    if nested:
        column = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), column)
    pq.write_table(pa.table({"question": [f"{i}?" for i in range(rows)], "note": column}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.serves
@pytest.mark.parametrize("nested", [False, True])
def test_parquet_that_unpacks_to_gigabytes_is_refused_in_bounded_memory(nested: bool, tmp_path: Path) -> None:
    path = repeated_text(tmp_path / "q.parquet", 1 << 20, 8000, nested=nested)
    program = """
import sys
from cohobate.config import Questions
from cohobate.sources.files import find_tables, parts
from cohobate.sources.table import collect
from tests.support.processes import peak_memory
began = peak_memory()
try:
    collect(parts(find_tables(sys.argv[1])), Questions(source="file", path=sys.argv[1]), "the file", room=256 << 20)
except Exception as error:
    print(type(error).__name__, error)
print((peak_memory() - began) >> 20)
"""
    ran = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    told, megabytes = ran.stdout.splitlines()
    assert told.startswith("QuestionsError the questions of the file take more than 256 MiB")
    assert int(megabytes) < 256 + 500


def test_text_that_repeats_is_unpacked_right(tmp_path: Path) -> None:
    path = repeated_text(tmp_path / "q.parquet", 1 << 20, 50, nested=True)
    frame = read(path)
    assert frame["question"].to_list() == [f"{i}?" for i in range(50)]
    assert {len(json.loads(meta)["note"][0]) for meta in frame["meta"]} == {1 << 20}


def test_a_row_beyond_the_limit_is_refused_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"question": "a?"}\n{"question": "')
        for _ in range(70):
            file.write(b"b" * (1 << 20))
    assert "line 2 has more than 64 MiB" in refusal(path)
    parquet = tmp_path / "q.parquet"
    pl.DataFrame({"question": ["b" * (70 << 20)]}).write_parquet(parquet)
    assert "64 MiB" in refusal(parquet)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"So it is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"First \boxed{1}, then \boxed{ 2 }", "2"),
        (r"\boxed{\{1, 2\}} is the set", r"\{1, 2\}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \fbox{5}}", r"x = \fbox{5}"),
        (r"Hence $x = \boxed{3}$ or $x = \boxed{-3}$.", "3, -3"),
        (r"\boxed 7 is prime", "7"),
        (r"\boxed{$7$}", "7"),
        ("no box", "no box"),
    ],
)
def test_the_gold_answer_of_a_solution_is_in_its_last_box(text: str, gold: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", json.dumps({"question": "a?", "gold_answer": text}))
    frame = read(path)
    assert frame["gold_answer"].to_list() == [gold]
    assert frame["meta"].to_list() == [None if gold == text else json.dumps({"gold_answer": text})]


@pytest.mark.parametrize("mark", ["\\boxed", "\\boxed{", "\\boxed{}"])
def test_a_box_as_the_mark_must_be_there(mark: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", r'{"question": "a?", "gold_answer": "by \\fbox{4} we get \\fbox{5}, so"}')
    assert golds(path, gold_after=mark) == ["5"]
    lines(path, '{"question": "a?", "gold_answer": "5"}')
    assert "line 1: 'gold_answer' holds no" in refusal(path, gold_after=mark)
    lines(path, r'{"question": "a?", "gold_answer": "\\boxed{5"}')
    assert "without its closing brace" in refusal(path, gold_after=mark)
