"""The triples stage with the shipped teacher: its tables, and which responses a changed recipe asks for again."""

import json
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core import schema
from cohobate.core.errors import TeacherError
from cohobate.stages.triples import lacking_splits
from cohobate.store.artifacts import Store, verify
from tests.support.triples_stage import changed, make, paid, table

QUESTIONS = 24
# What a row says about its run, not about the teacher's answer.
OF_THE_RUN = ["latency_ms", "created_at", "cached", "run_id", "flow_run_id", "config_sha256"]


def stored(data: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(path) for path in data.glob("responses/part-*.parquet"))


@pytest.fixture(scope="session")
def few(tiny: Recipe) -> Recipe:
    """`tiny` with fewer questions, and room for all their answers."""
    counts = {"train": QUESTIONS, "fresh": 1, "validation": 1, "test": 1, "hard": 1}
    return changed(tiny, questions=counts, triples={"max_tokens": 120})


def test_a_triple_is_what_was_asked_what_came_back_and_its_verdict(few: Recipe, data: Path) -> None:
    artifact = make(few)
    rows = table(artifact).join(table(artifact, "verdicts"), on="sample_id").to_dicts()
    assert len(rows) == QUESTIONS == artifact.manifest.rows
    for row in rows:
        prompt = few.teacher.prompt.replace("{question}", row["question"])
        assert json.loads(row["messages"]) == [{"role": "user", "content": prompt}]
        right = row["response"].endswith(f"\nAnswer: {row['gold_answer']}")
        assert (row["verdict"] == "correct") == right
        assert row["rationale"] and row["rationale"] in row["response"]
    correct = sum(row["verdict"] == "correct" for row in rows)
    assert correct > QUESTIONS / 2  # the shipped teacher is right nine times in ten
    assert table(artifact, "aggregates")["n_correct"].sum() == correct
    assert len(table(artifact, "failures")) == 0


def test_the_table_is_of_the_declared_schema(few: Recipe, data: Path) -> None:
    import pyarrow.parquet as pq

    artifact = make(few)
    for name, declared in (("triples", schema.TRIPLES), ("verdicts", schema.VERDICTS)):
        assert pq.read_schema(artifact.path / f"{name}.parquet").equals(declared.arrow)


def test_more_samples_ask_only_for_the_missing_ones(few: Recipe, data: Path) -> None:
    one = make(few)
    assert paid(one) == {"here": QUESTIONS}
    two = make(changed(few, triples={"samples": 2}))
    assert paid(two) == {"here": QUESTIONS, "earlier": QUESTIONS}
    rows = table(two)
    assert rows["request_key"].n_unique() == 2 * QUESTIONS == len(stored(data))
    first = rows.filter(pl.col("sample_index") == 0)
    assert first["response"].to_list() == table(one)["response"].to_list()
    assert first["cached"].all() and not rows.filter(pl.col("sample_index") == 1)["cached"].any()
    # Samples of a question are drawn independently.
    assert first["response"].to_list() != rows.filter(pl.col("sample_index") == 1)["response"].to_list()


def test_more_questions_ask_only_for_the_new_ones(few: Recipe, data: Path) -> None:
    make(few)
    more = make(changed(few, questions={"train": QUESTIONS + 5}))
    assert paid(more) == {"here": 5, "earlier": QUESTIONS}


def test_another_temperature_is_another_artifact_and_the_old_one_stays(few: Recipe, data: Path) -> None:
    hot = make(few)
    before = table(hot)
    cool = make(changed(few, triples={"temperature": 0.5}))
    assert paid(cool) == {"here": QUESTIONS} and cool.path != hot.path
    verify(hot)
    assert table(hot).equals(before)
    assert not set(table(cool)["request_key"]) & set(before["request_key"])
    assert make(few).cached


def test_a_larger_limit_asks_again_only_for_the_truncated(few: Recipe, data: Path) -> None:
    short = make(changed(few, triples={"max_tokens": 28}))
    cut = table(short).filter(pl.col("truncated"))
    assert 0 < len(cut) < QUESTIONS
    assert set(cut["finish_reason"]) == {"length"} and set(cut["completion_tokens"]) == {28}
    long = make(few)
    assert paid(long) == {"here": len(cut), "earlier": QUESTIONS - len(cut)}
    kept = table(long).filter(pl.col("cached"))
    assert not set(kept["request_key"]) & set(cut["request_key"])
    # A cut response goes on where it was cut: the noise of a response is its own.
    texts = dict(table(long).select("request_key", "response").iter_rows())
    assert all(texts[key].startswith(text) for key, text in cut.select("request_key", "response").iter_rows())


def test_the_batch_size_changes_no_byte(few: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for size in (16, 7):
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / str(size)))
        made.append(make(changed(few, triples={"batch_size": size})))
    large, small = made
    assert large.fingerprint == small.fingerprint and large.path != small.path
    assert table(small).drop(OF_THE_RUN).equals(table(large).drop(OF_THE_RUN))
    for name in ("verdicts", "aggregates"):
        assert (small.path / f"{name}.parquet").read_bytes() == (large.path / f"{name}.parquet").read_bytes()


def test_a_teacher_without_rationale_stops_early_and_what_came_is_kept(few: Recipe, data: Path) -> None:
    silent = changed(
        few,
        questions={"train": 60, "min_depth": 1, "max_depth": 1, "hard": 0},
        teacher={"prompt": "{question} Give only the answer."},
        triples={"temperature": 0.0, "batch_size": 10},
    )
    with pytest.raises(TeacherError, match="no rationale") as caught:
        make(silent)
    assert "\n" not in str(caught.value) and "teacher.prompt" in str(caught.value)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]
    found = list(data.glob("responses/*.jsonl")) or list(data.glob("responses/part-*.parquet"))
    assert found and sum(path.stat().st_size for path in found) > 0


def test_what_later_stages_will_refuse_is_said_before_the_teacher_is_asked() -> None:
    lines = list(lacking_splits(load_recipe("tiny"), {"validation"}))
    assert [line.split(",")[0].removeprefix("there are no ") for line in lines] == [
        "training questions",
        "fresh questions",
        "questions in test",
    ]
    calm = ["sft.steps=0", "opd.objective=ghost", "opd.ghost.source=triples", "evaluation.splits=['validation']"]
    assert not list(lacking_splits(load_recipe("tiny", calm), {"validation"}))
