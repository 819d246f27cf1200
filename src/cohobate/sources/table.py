"""The table of questions: collected from the parts of a source, checked, and put into splits."""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl

from cohobate.config import Questions
from cohobate.core.errors import QuestionsError
from cohobate.sources.base import Numbered, Part
from cohobate.sources.mapping import Mapping, RowError

SPLITS = ("train", "fresh", "validation", "test", "hard")
_BATCH = 16_384
_SCHEMA = {
    "question_id": pl.String,
    "question": pl.String,
    "gold_answer": pl.String,
    "gold_response": pl.String,
    "split": pl.String,
    "meta": pl.String,
    "part": pl.Int32,
    "place": pl.Int64,
}
COLUMNS = ["question_id", "question", "gold_answer", "gold_response", "split", "kind", "depth", "meta"]


@dataclass(frozen=True)
class Read:
    """questions: COLUMNS. repeated: rows that were left out, since an earlier one is the same question."""

    questions: pl.DataFrame
    repeated: int = 0


def question_id(question: str) -> str:
    """The hash of the NFC-normalised, stripped question: 16 hex digits."""
    text = unicodedata.normalize("NFC", question.strip())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def collect(parts: Sequence[Part], config: Questions, where: str) -> Read:
    """The questions of `parts`; `where` is what the user calls them.

    Raises QuestionsError for parts that cannot be read, without the needed columns, or with rows that cannot be used.
    """
    mapping = Mapping(config)
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for index, part in enumerate(parts):
        seen = len(frames)
        numbered = part.read()
        while batch := list(islice(numbered, _BATCH)):
            frames.append(_frame(batch, part, index, mapping))
        if len(frames) > seen:
            _check_columns(mapping, part)
        mapping.found.clear()
        mapping.names.clear()
    frame = pl.concat(frames, rechunk=True)
    frames.clear()
    if frame.is_empty():
        raise QuestionsError(f"{where} holds no question")
    frame, repeated = _checked(frame, parts, config, where)
    named = frame.with_columns(kind=pl.lit("file"), depth=pl.lit(None, dtype=pl.Int32))
    return Read(_in_splits(named, config, where).select(COLUMNS), repeated)


def _frame(batch: Sequence[Numbered], part: Part, index: int, mapping: Mapping) -> pl.DataFrame:
    ids, questions, golds, responses, splits, metas = [], [], [], [], [], []
    for number, row in batch:
        try:
            name, question, gold, response, split, meta = mapping(row, part.label)
        except RowError as flaw:
            raise QuestionsError(f"{part.name} {part.unit} {number}: {flaw}") from None
        ids.append(question_id(question) if mapping.columns.id is None else name)
        questions.append(question)
        golds.append(gold)
        responses.append(response)
        splits.append(split)
        metas.append(meta)
    places = [number for number, _ in batch]
    columns = (ids, questions, golds, responses, splits, metas, [index] * len(batch), places)
    return pl.DataFrame(dict(zip(_SCHEMA, columns, strict=True)), schema=_SCHEMA)


def _check_columns(mapping: Mapping, part: Part) -> None:
    columns = mapping.columns
    wanted = {name: getattr(columns, name) for name in ("question", "gold_response", "id", "choices")}
    if columns.gold_answer != "gold_answer" or mapping.gold_after:
        wanted["gold_answer"] = columns.gold_answer  # else questions without gold are allowed
    names = list(mapping.names)
    for role, name in wanted.items():
        if name is None or name in mapping.found:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"set questions.columns.{role} = '{near[0]}'" if near else f"set questions.columns.{role}"
        raise QuestionsError(f"{part.name} has no column '{name}' (it has: {', '.join(names) or 'none'}); {hint}")


def _checked(frame: pl.DataFrame, parts: Sequence[Part], config: Questions, where: str) -> tuple[pl.DataFrame, int]:
    """The frame without repeated rows, and how many those were."""

    def place(row: int) -> str:
        index, number = frame.select("part", "place").row(row)
        return f"{parts[index].name} {parts[index].unit} {number}"

    for column, is_bad, fault in (
        ("question", pl.col("question") == "", "has a blank question"),
        ("question_id", pl.col("question_id").is_null(), "has no id"),
    ):
        bad = frame.select(is_bad).to_series().arg_true()
        if len(bad):
            remedy = f"fill or drop {'it' if len(bad) == 1 else 'them'}, or correct questions.columns"
            role = config.columns.question if column == "question" else config.columns.id
            raise QuestionsError(f"{place(bad[0])} {fault} in '{role}' ({len(bad)} in all); {remedy}")
    first = frame["question_id"].is_first_distinct()
    if config.repeated == "first" or first.all():
        return frame.filter(first), len(frame) - int(first.sum())
    again = (~first).arg_true()[0]
    before = (frame["question_id"] == frame["question_id"][again]).arg_true()[0]
    raise QuestionsError(
        f"{where} has the id '{frame['question_id'][again]}' twice ({_two_places(frame, parts, before, again)}), and "
        f"{len(frame) - int(first.sum())} such rows in all; ids, and questions where no id column is named, must be "
        "unique: drop them, or set questions.repeated = 'first'"
    )


def _two_places(frame: pl.DataFrame, parts: Sequence[Part], a: int, b: int) -> str:
    (part_a, place_a), (part_b, place_b) = (frame.select("part", "place").row(row) for row in (a, b))
    first, second = parts[part_a], parts[part_b]
    if first is second:
        return f"{first.unit}s {place_a} and {place_b}" + (f" of {first.name}" if len(parts) > 1 else "")
    return f"{first.name} {first.unit} {place_a} and {second.name} {second.unit} {place_b}"


def _in_splits(frame: pl.DataFrame, config: Questions, where: str) -> pl.DataFrame:
    missing = frame["split"].null_count()
    if 0 < missing < len(frame):
        raise QuestionsError(
            f"{where} gives a split to only {len(frame) - missing} of {len(frame)} questions; give all or none"
        )
    if missing == 0:
        unknown = frame.filter(~pl.col("split").is_in(SPLITS))
        if len(unknown):
            raise QuestionsError(
                f"{where} has the split '{unknown['split'][0]}'; splits are {', '.join(SPLITS)}: rename it, or rename "
                "the column and the splits are drawn by questions.split"
            )
        return frame
    return frame.with_columns(pl.Series("split", list(_drawn(frame["question"], config)), dtype=pl.String))


def _drawn(questions: pl.Series, config: Questions) -> Iterator[str]:
    """The split of each question, by the hash of its text: added rows move no other."""
    shares = config.split
    bounds = [
        ("train", shares.train),
        ("fresh", shares.train + shares.fresh),
        ("validation", shares.train + shares.fresh + shares.validation),
        ("test", 1.0),
    ]
    for question in questions:
        digest = hashlib.sha256(f"{config.seed}\0{question_id(question)}".encode()).digest()
        at = int.from_bytes(digest[:8], "big") / 2**64
        yield next(split for split, bound in bounds if at < bound or split == "test")
