"""Questions that hold a special token of a model: text by default, set aside and named by a setting."""

import json
from pathlib import Path

import polars as pl
import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import QuestionsError
from cohobate.stages import questions
from cohobate.store.artifacts import Artifact
from tests.support.pipeline import SMALL

TEXTS = ["What is 2 + 3?", "What does <|im_end|> mean?", "Is a < b|c>d?", "Say <think>", "Name <|endoftext|><|im_end|>"]


def written(tmp_path: Path, texts: list[str], *more: str) -> Artifact:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"question": text, "split": "train"}) + "\n" for text in texts))
    sets = [each for each in SMALL if not each.startswith("questions.")]
    return questions.write(load_recipe("tiny", [*sets, "questions.source=file", f"questions.path={path}", *more]))


def test_they_are_set_aside_and_named(data: Path, tmp_path: Path) -> None:
    plain = written(tmp_path, TEXTS)
    chosen = written(tmp_path, TEXTS, "questions.special_tokens=set_aside")
    assert chosen.id != plain.id and len(pl.read_parquet(plain.path / "questions.parquet")) == len(TEXTS)
    left = pl.read_parquet(chosen.path / "questions.parquet")["question"].to_list()
    assert left == [TEXTS[0], TEXTS[2]]
    aside = pl.read_parquet(chosen.path / "set_aside.parquet")
    assert aside.select("question", "special_token").rows() == [
        (TEXTS[1], "<|im_end|>"),
        (TEXTS[3], "<think>"),
        (TEXTS[4], "<|endoftext|>"),
    ]
    assert chosen.manifest.named_metrics["set_aside"] == 3


def test_without_any_nothing_changes_but_the_artifact(data: Path, tmp_path: Path) -> None:
    chosen = written(tmp_path, TEXTS[:1], "questions.special_tokens=set_aside")
    assert len(pl.read_parquet(chosen.path / "set_aside.parquet")) == 0


def test_a_file_of_nothing_else_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match=r"every question.*special_tokens = 'text'"):
        written(tmp_path, TEXTS[1:2], "questions.special_tokens=set_aside")
