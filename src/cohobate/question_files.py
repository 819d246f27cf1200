"""Read questions from a Parquet, JSONL or CSV file; every flaw of the file is one sentence."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Columns, Questions
from cohobate.errors import QuestionsError

SPLITS = ("train", "fresh", "validation", "test", "hard")


def question_id(question: str) -> str:
    """The hash of the NFC-normalised, stripped question: 16 hex digits."""
    text = unicodedata.normalize("NFC", question.strip())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_questions(config: Questions) -> pl.DataFrame:
    """Columns question_id, question, gold_answer, split, kind, depth, meta of the file `config.path`.

    Raises QuestionsError for a file that is missing, unreadable, empty, without the needed columns, with blank
    questions or with duplicate ids.
    """
    path = Path(config.path or "")
    if not path.is_file():
        raise QuestionsError(f"the questions file {path} does not exist; set questions.path")
    frame = _read(path, config.columns)
    if frame.width == 0:
        raise QuestionsError(f"the questions file {path} holds no question")
    _check_columns(frame, config.columns, path)
    if frame.is_empty():
        raise QuestionsError(f"the questions file {path} holds no question")
    frame = _normalise(frame, config.columns)
    _check_rows(frame, path)
    return _split(frame, config, path).select(
        "question_id", "question", "gold_answer", "split", "kind", "depth", "meta"
    )


def _read(path: Path, columns: Columns) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise QuestionsError(f"{path} is not readable as Parquet: {_first_line(error)}") from None
    if suffix not in (".jsonl", ".ndjson", ".csv"):
        raise QuestionsError(f"{path} ends in '{suffix}'; questions come from .parquet, .jsonl or .csv")
    text = _utf8(path)
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(text, path, columns)
    if not text.strip():
        return pl.DataFrame()
    try:
        return pl.read_csv(text.encode(), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise QuestionsError(f"{path} is not readable as CSV: {_first_line(error)}") from None


def _utf8(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise QuestionsError(f"{path} is not UTF-8 (line {line}, byte {error.start}); save it as UTF-8 text") from None


def _read_jsonl(text: str, path: Path, columns: Columns) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise QuestionsError(f"{path} line {number} is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise QuestionsError(f"{path} line {number} is not a JSON object")
        for name in (columns.question, columns.gold_answer, columns.id, "split"):
            if isinstance(row.get(name), list | dict):
                raise QuestionsError(f"{path} line {number}: '{name}' is no text but a list or an object")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Cell by cell: a column's common type would turn 12 into 12.0, and fails on mixed ones.
    return pl.DataFrame({name: pl.Series([_cell(row.get(name)) for row in rows], dtype=pl.String) for name in names})


def _cell(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_columns(frame: pl.DataFrame, columns: Columns, path: Path) -> None:
    wanted = {"question": columns.question, "gold_answer": columns.gold_answer}
    if columns.id:
        wanted["id"] = columns.id
    for role, name in wanted.items():
        if name in frame.columns:
            if frame.schema[name].is_nested():
                raise QuestionsError(f"{path}: the column '{name}' holds no text but {frame.schema[name]}")
            continue
        if role == "gold_answer" and columns.gold_answer == "gold_answer":
            continue  # questions without gold are allowed unless the recipe names the column
        near = difflib.get_close_matches(name, frame.columns, n=1)
        hint = f"set questions.columns.{role} = '{near[0]}'" if near else f"set questions.columns.{role}"
        raise QuestionsError(f"{path} has no column '{name}' (it has: {', '.join(frame.columns) or 'none'}); {hint}")


def _normalise(frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    question = pl.col(columns.question).cast(pl.String).fill_null("").str.strip_chars()
    gold = (
        pl.col(columns.gold_answer).cast(pl.String)
        if columns.gold_answer in frame.columns
        else pl.lit(None, dtype=pl.String)
    )
    given = (
        pl.col(columns.id).cast(pl.String) if columns.id else question.map_elements(question_id, return_dtype=pl.String)
    )
    known = {columns.question, columns.gold_answer, columns.id, "split"}
    extra = [name for name in frame.columns if name not in known]
    meta = pl.struct(extra).struct.json_encode() if extra else pl.lit(None, dtype=pl.String)
    split = pl.col("split") if "split" in frame.columns else pl.lit(None)
    return frame.select(
        given.alias("question_id"),
        question.alias("question"),
        gold.alias("gold_answer"),
        split.cast(pl.String).alias("split"),
        pl.lit("file").alias("kind"),
        pl.lit(None, dtype=pl.Int32).alias("depth"),
        meta.alias("meta"),
    )


def _check_rows(frame: pl.DataFrame, path: Path) -> None:
    numbered = frame.with_row_index("row", offset=1)
    blank = numbered.filter(pl.col("question") == "")
    if len(blank):
        raise QuestionsError(f"{path} row {blank['row'][0]} has a blank question ({len(blank)} in all)")
    nameless = numbered.filter(pl.col("question_id").is_null())
    if len(nameless):
        raise QuestionsError(f"{path} row {nameless['row'][0]} has no id ({len(nameless)} in all)")
    repeated = numbered.filter(pl.col("question_id").is_duplicated())
    if len(repeated):
        first = repeated["question_id"][0]
        rows = repeated.filter(pl.col("question_id") == first)["row"].to_list()
        raise QuestionsError(
            f"{path} has the id '{first}' twice (rows {rows[0]} and {rows[1]}); ids, and questions where no "
            "id column is named, must be unique"
        )


def _split(frame: pl.DataFrame, config: Questions, path: Path) -> pl.DataFrame:
    missing = frame["split"].null_count()
    if 0 < missing < len(frame):
        raise QuestionsError(
            f"{path} gives a split to only {len(frame) - missing} of {len(frame)} questions; give all or none"
        )
    if missing == 0:
        unknown = frame.filter(~pl.col("split").is_in(SPLITS))
        if len(unknown):
            raise QuestionsError(f"{path} has the split '{unknown['split'][0]}'; splits are {', '.join(SPLITS)}")
        return frame
    shares = config.split
    bounds = [
        ("train", shares.train),
        ("fresh", shares.train + shares.fresh),
        ("validation", shares.train + shares.fresh + shares.validation),
        ("test", 1.0),
    ]

    def place(name: str) -> str:
        digest = hashlib.sha256(f"{config.seed}\0{name}".encode()).digest()
        at = int.from_bytes(digest[:8], "big") / 2**64
        return next(split for split, bound in bounds if at < bound or split == "test")

    placed = pl.col("question").map_elements(lambda text: place(question_id(text)), return_dtype=pl.String)
    return frame.with_columns(placed.alias("split"))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
