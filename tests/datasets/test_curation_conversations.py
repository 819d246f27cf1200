"""Curation of conversations: duplicates and contamination are about the whole of them, but for their instructions."""

from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Curation
from cohobate.core.conversation import Conversation, Message, Query, queries
from cohobate.core.parquet import scan_table
from cohobate.core.schema import TRIPLES
from cohobate.datasets.curation.filters import reasons
from cohobate.sources.base import conversation_id
from tests.support.made_triples import sample, triples

INSTRUCTIONS = (
    "You are a patient tutor of arithmetic who explains every step in plain words, never skips one, and ends with the "
    "final result on a line of its own."
)
SHEEP = "a farmer had some sheep in the north field and sold half of them at the market on monday"
GOATS = "her neighbour keeps goats near the river and buys hay for all of them before the winter begins"


def talk(*texts: str, system: str | None = None) -> Query:
    """A conversation in which user and assistant take turns."""
    opening = [] if system is None else [Message("system", system)]
    turns = [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    whole = Conversation((*opening, *turns))
    return whole.last if whole.is_text else whole


def frame_of(asked: list[Query]) -> pl.DataFrame:
    conversations = [each if isinstance(each, Conversation) else Conversation.of_text(each) for each in asked]
    return pl.DataFrame(
        {
            "question_id": [f"{number}-{conversation_id(each)}" for number, each in enumerate(conversations)],
            "question": [each.transcript for each in conversations],
            "conversation": [each.written for each in conversations],
        },
        schema_overrides={"conversation": pl.String},
    )


def rejected(root: Path, asked: list[Query], exam: list[Query], **settings: object) -> list[str | None]:
    """The reason of each question, in order."""
    rows = [
        sample(
            row["question"],
            "Answer: 5",
            **{name: row[name] for name in ("question_id", "conversation")},
            sample_id=str(n),
        )
        for n, row in enumerate(frame_of(asked).iter_rows(named=True))
    ]
    config = Curation.model_validate(
        {"min_words": 0, "duplicates": False, "near_duplicates": 0, "ngrams": [], **settings}
    )
    folder = triples(root / "data", rows).path
    found: list[str | None] = reasons([folder], frame_of(exam), config)["reason"].to_list()
    return found


def test_instructions_in_common_contaminate_nothing(tmp_path: Path) -> None:
    asked = [talk(SHEEP, system=INSTRUCTIONS), talk(GOATS, system=INSTRUCTIONS)]
    exam = [talk("What is 2 + 3?", system=INSTRUCTIONS), talk(SHEEP + " evening", system="Be brief.")]
    assert rejected(tmp_path, asked, exam, ngrams=[13]) == ["13-gram of an evaluation question", None]


@pytest.mark.parametrize("question", [SHEEP, "Is 7 prime?"])
def test_an_exam_question_is_seen_in_any_turn_of_the_user(question: str, tmp_path: Path) -> None:
    asked = [
        talk("Hello!", "Hello.", question),
        talk(question, "Hm.", "Why?"),
        talk(question, system="Be kind."),
        talk("Hello!", "Hello.", "Why?"),
        talk(question),
    ]
    reason = "13-gram of an evaluation question"
    expected = [reason, reason, reason, None, reason]
    assert rejected(tmp_path, asked, [question, talk("Hello!", "Hi!", "Why?")], ngrams=[13]) == expected


def test_an_exam_conversation_is_met_by_any_of_its_turns_that_is_long_enough(tmp_path: Path) -> None:
    exam = [talk(SHEEP, "Good.", "How many are left?")]
    assert rejected(tmp_path, [SHEEP, GOATS, "How many are left?"], exam, ngrams=[13]) == [
        "13-gram of an evaluation question",
        None,
        None,
    ]


def test_duplicates_are_the_same_in_every_message(tmp_path: Path) -> None:
    asked = [
        talk("a?", "b.", "c?", system="s"),
        talk("**a?**", "b.", " c? ", system="S"),
        talk("a?", "b.", "c?"),
        talk("a?", "d.", "c?", system="s"),
        talk("c?"),
    ]
    assert rejected(tmp_path, asked, [], duplicates=True) == [None, "duplicate question", None, None, None]


def test_near_duplicates_need_the_same_instructions_and_no_more_in_common(tmp_path: Path) -> None:
    again = SHEEP.replace("monday", "tuesday")
    asked = [
        talk(SHEEP, system=INSTRUCTIONS),
        talk(again, system=INSTRUCTIONS),
        talk(again, system="Be brief."),
        talk(GOATS, system=INSTRUCTIONS),
    ]
    assert rejected(tmp_path, asked, [], near_duplicates=0.7) == [None, "near-duplicate question", None, None]


def test_lengths_are_those_of_the_dialogue(tmp_path: Path) -> None:
    asked = [talk("Is 7 prime?", system=INSTRUCTIONS), talk("Is 7 prime?", "Yes.", "Is 9?")]
    assert rejected(tmp_path, asked, [], max_words=5) == [None, "long question"]


def test_triples_of_an_earlier_version_have_texts_alone(tmp_path: Path) -> None:
    path = triples(tmp_path / "data", [sample("What is 2 + 3?", "Answer: 5")]).path / "triples.parquet"
    pl.read_parquet(path).drop("conversation").write_parquet(older := tmp_path / "older.parquet")
    frame = scan_table(older, TRIPLES).collect()
    assert set(frame.columns) == set(TRIPLES.names) and queries(frame) == ["What is 2 + 3?"]
    assert queries(pl.read_parquet(older)) == ["What is 2 + 3?"]
