"""The table of questions: collected from the parts of a source, checked, and put into splits."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Counts
from dataclasses import dataclass, field
from operator import attrgetter
from typing import get_args

import polars as pl

from cohobate.config import Questions, SplitName
from cohobate.core import progress
from cohobate.core.conversation import Conversation
from cohobate.core.errors import QuestionsError
from cohobate.core.memory import free_memory
from cohobate.core.schema import QUESTIONS
from cohobate.sources.base import LONGEST_ROW, Part, Question, conversation_id
from cohobate.sources.mapping import Mapping
from cohobate.sources.messages import UnsupportedError
from cohobate.sources.values import RowError

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_BATCH = 16_384
_fields = attrgetter("id", "text", *QUESTIONS.names[2:-1], "written_conversation")


@dataclass(frozen=True)
class QuestionTable:
    """questions: the columns of schema.QUESTIONS. repeated: how many rows repeat an earlier one and are left out.

    unsupported: how many rows are left out since they are more than text, by the kind of what is beyond it.
    """

    questions: pl.DataFrame
    repeated: int = 0
    unsupported: Counts[str, int] = field(default_factory=dict)


def frame_of(questions: Sequence[Question]) -> pl.DataFrame:
    """The questions as rows, with the columns of schema.QUESTIONS."""
    columns = zip(*map(_fields, questions), strict=True) if questions else [()] * len(QUESTIONS.names)
    return pl.DataFrame(dict(zip(QUESTIONS.names, columns, strict=True)), schema=QUESTIONS.polars)


def collect(parts: Sequence[Part], config: Questions, where: str, room: int | None = None) -> QuestionTable:
    """The questions of `parts`; `where` is the user's name of them.

    room: bytes that they may take; None: half of the free memory. Raises QuestionsError for parts that cannot be read
    or are larger, without the needed columns, or with rows that cannot be used.
    """
    frames, unsupported = [_located([], 0, [])], Counter[str]()
    room = left = free_memory() // 2 if room is None else room
    for index, part in enumerate(parts):
        mapping, before = Mapping(config), len(frames)
        for batch in _batches(part, mapping, unsupported):
            frames.append(_located([question for _, question in batch], index, [number for number, _ in batch]))
            left -= int(frames[-1].estimated_size())
            if left < 0:
                raise QuestionsError(
                    f"the questions of {where} take more than {room >> 20:,} MiB, half of the free memory (up to "
                    f"{part.name} {part.unit} {batch[-1][0]}); take fewer rows, or drop columns that nobody needs"
                )
        if mapping.names or len(frames) > before:
            _check_columns(mapping, part)
    frame = pl.concat(frames, rechunk=True)
    frames.clear()
    if unsupported:
        listed = ", ".join(f"{kind}: {count}" for kind, count in unsupported.most_common())
        progress.say(f"{where}: {unsupported.total()} rows left out, since they are more than text ({listed})")
    if frame.is_empty():
        raise QuestionsError(f"{where} holds no question" + (" of text alone" if unsupported else ""))
    frame, repeated = _checked(_integers_with_gaps(frame), parts, config, where)
    return QuestionTable(_in_splits(frame, config, where).select(QUESTIONS.names), repeated, unsupported)


def _integers_with_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Gold answers without the .0 that tools write after every integer of a column with gaps."""
    gold = pl.col("gold_answer")
    integers = gold.str.contains(r"^-?\d{1,15}\.0$").all() & gold.is_null().any() & gold.is_not_null().any()
    return frame.with_columns(pl.when(integers).then(gold.str.strip_suffix(".0")).otherwise(gold))


def _batches(part: Part, mapping: Mapping, unsupported: Counter[str]) -> Iterator[list[tuple[int, Question]]]:
    """The questions with the numbers of their rows, bounded in rows and bytes; `unsupported` counts the dropped."""
    batch: list[tuple[int, Question]] = []
    size = 0
    for number, row in part.read():
        try:
            question = mapping.question(row, part.label)
        except UnsupportedError as flaw:
            if not mapping.drops_unsupported:
                raise QuestionsError(f"{part.name} {part.unit} {number}: {flaw}") from None
            unsupported[flaw.kind] += 1
            continue
        except RowError as flaw:
            raise QuestionsError(f"{part.name} {part.unit} {number}: {flaw}") from None
        batch.append((number, question))
        size += len(question.text) + len(question.gold_response or "") + len(question.meta or "")
        if len(batch) == _BATCH or size > LONGEST_ROW:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _located(questions: Sequence[Question], part: int, numbers: Sequence[int]) -> pl.DataFrame:
    """The questions, with the part that each comes from and the number of its row there."""
    return frame_of(questions).with_columns(
        pl.lit(part, dtype=pl.Int32).alias("part"), pl.Series("number", numbers, dtype=pl.Int64)
    )


def _check_columns(mapping: Mapping, part: Part) -> None:
    columns = mapping.columns
    required = {name: getattr(columns, name) for name in ("question", "gold_response", "system", "id", "choices")}
    if columns.gold_answer != "gold_answer" or mapping.gold_after:
        required["gold_answer"] = columns.gold_answer  # else questions without gold are allowed
    names = list(mapping.names)
    for role, name in required.items():
        if name is None or name in mapping.present:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"set questions.columns.{role} = '{near[0]}'" if near else f"set questions.columns.{role}"
        raise QuestionsError(f"{part.name} has no column '{name}' (it has: {', '.join(names) or 'none'}); {hint}")


def _checked(frame: pl.DataFrame, parts: Sequence[Part], config: Questions, where: str) -> tuple[pl.DataFrame, int]:
    """The frame without repeated rows, and how many those were."""

    def place(row: int) -> str:
        index, number = frame.select("part", "number").row(row)
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
    (part_a, row_a), (part_b, row_b) = (frame.select("part", "number").row(row) for row in (a, b))
    first, second = parts[part_a], parts[part_b]
    if first is second:
        return f"{first.unit}s {row_a} and {row_b}" + (f" of {first.name}" if len(parts) > 1 else "")
    return f"{first.name} {first.unit} {row_a} and {second.name} {second.unit} {row_b}"


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
    hashes = frame["question_id"] if config.columns.id is None else _ids_of_content(frame, config.system)
    return frame.with_columns(pl.Series("split", list(_drawn(hashes, config)), dtype=pl.String))


def _ids_of_content(frame: pl.DataFrame, common: str | None) -> Iterator[str]:
    """The id of what each row asks; the system message that all have in common is no part of it."""
    for question, written in frame.select("question", "conversation").iter_rows():
        conversation = Conversation.of_text(question) if written is None else Conversation.read(written)
        if common and conversation.system == common:
            conversation = Conversation(conversation.messages[1:])
        yield conversation_id(conversation)


def _drawn(hashes: Iterable[str], config: Questions) -> Iterator[str]:
    """The split of each question, by the hash of its text: added rows move no other question."""
    shares = config.split
    bounds = [
        ("train", shares.train),
        ("fresh", shares.train + shares.fresh),
        ("validation", shares.train + shares.fresh + shares.validation),
        ("test", 1.0),
    ]
    for text_hash in hashes:
        digest = hashlib.sha256(f"{config.seed}\0{text_hash}".encode()).digest()
        at = int.from_bytes(digest[:8], "big") / 2**64
        yield next(split for split, bound in bounds if at < bound or split == "test")
