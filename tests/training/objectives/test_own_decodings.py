"""Ghosts from other decoding settings of one model: the student is its own teacher, without its wrong answers."""

from pathlib import Path

import polars as pl
import pytest

from cohobate.stages.functions import run
from tests.support.prefect_server import small


@pytest.mark.trains
def test_the_rollouts_are_drawn_towards_the_models_own_right_answers_at_another_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    recipe = small(
        *("student.model=world/teacher", "teacher.model=world/teacher", "triples.temperature=1.5", "triples.samples=4"),
        *("questions.train=12", "sft.steps=0", "sft.select=shortest_correct", "opd.objective=ghost"),
        *("opd.ghost.source=triples", "opd.temperature=1.0", "opd.max_tokens=48"),
    )
    made = {artifact.stage: artifact for artifact in run(recipe, until="opd")}
    triples = pl.read_parquet(made["triples"].path / "triples.parquet")
    verdicts = pl.read_parquet(made["triples"].path / "verdicts.parquet").select("sample_id", "verdict")
    judged = triples.join(verdicts, on="sample_id")
    right = judged.filter(pl.col("verdict") == "correct")
    assert set(judged["verdict"]) >= {"correct", "incorrect"} and set(triples["temperature"]) == {1.5}
    rollouts = pl.read_parquet(made["opd"].path / "rollouts.parquet")
    assert len(rollouts) and set(rollouts["question_id"]) <= set(right["question_id"])
    assert rollouts["teacher_logprobs"].null_count() == len(rollouts)  # no teacher scores them
    metrics = pl.read_parquet(made["opd"].path / "metrics.parquet")
    assert metrics["loss"].is_finite().all() and 0 < metrics["agreement"][0] < 1
