"""Every objective as a stage: trains the tiny student, resumes to the bit, and asks of the teacher what it should."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cohobate.config.load import load_recipe
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import load
from cohobate.report.transcripts import shaded_rollouts
from cohobate.stages import opd, sft
from cohobate.store.artifacts import Artifact
from cohobate.training.triple_source import with_gold_ghosts
from tests.support.method_runs import METHODS, SMALL
from tests.support.training_runs import published_weights, run_interrupted_at

PREFERENCES = {"dpo", "dpo over wrong ones", "simpo own", "kto"}
WITHOUT_TEACHER = PREFERENCES | {
    "shorter and right",
    *("grpo", "grpo twice", "ghost own", "ghost triples", "ghost gold", "judge", "judge alone"),
}
REWARDED = {"grpo", "grpo twice", "ghost own", "judge", "judge alone", "simpo own", "dpo over wrong ones"}


def train(start_artifacts: tuple[Path, list[Artifact]], overrides: list[str], root: Path, patch: Any) -> Artifact:
    """The opd artifact, made in `root`."""
    patch.setenv("COHOBATE_DATA", str(root))
    return opd.train(load_recipe("tiny", [*SMALL, *overrides]), *start_artifacts[1])


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains_pays_and_resumes_to_the_bit(
    name: str, start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(start_artifacts, METHODS[name], tmp_path / "whole", monkeypatch)
    metrics = pl.read_parquet(whole.path / "metrics.parquet")
    assert len(metrics) == 3 and metrics["loss"].is_finite().all()
    start, learnt = published_weights(start_artifacts[1][0]), published_weights(whole)
    rewards = metrics["mean_reward"].sum() if "mean_reward" in metrics.columns else 0
    if name not in REWARDED or rewards:  # without one right answer there may be nothing to learn from
        assert any(not torch.equal(value, start[key]) for key, value in learnt.items())
    paid = {(entry["model"], entry["work"]) for entry in whole.manifest.ledger}
    assert (("teacher", "scoring") in paid) != (name in WITHOUT_TEACHER)
    assert not (shaded_rollouts(whole, 3, seed=0) and name in WITHOUT_TEACHER)  # a report needs no teacher's scores

    with run_interrupted_at(2):
        train(start_artifacts, METHODS[name], tmp_path / "killed", monkeypatch)
    resumed = train(start_artifacts, METHODS[name], tmp_path / "killed", monkeypatch)
    assert resumed.fingerprint == whole.fingerprint and resumed.manifest.ledger == whole.manifest.ledger
    for key, value in published_weights(resumed).items():
        assert torch.equal(value, learnt[key]), key


def test_logit_distillation_trains_and_counts_its_teacher(
    start_artifacts: tuple[Path, list[Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(start_artifacts[0]))
    _, asked, taught = start_artifacts[1]
    made = [
        sft.train(load_recipe("tiny", [*SMALL, "sft.objective=logit_kd", *more]), taught, asked)
        for more in ([], ["sft.logit_kd.top_k=512"], ["sft.logit_kd.top_k=4", "sft.logit_kd.alpha=0.5"])
    ]
    full, same, few = (pl.read_parquet(artifact.path / "metrics.parquet") for artifact in made)
    # All 512 tokens of the vocabulary and an empty bucket are the whole vocabulary.
    torch.testing.assert_close(full["loss"].to_torch(), same["loss"].to_torch(), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(full["loss"].to_torch(), few["loss"].to_torch())
    for artifact in made:
        [scoring] = [entry for entry in artifact.manifest.ledger if entry["work"] == "scoring"]
        [update] = [entry for entry in artifact.manifest.ledger if entry["work"] == "update"]
        assert scoring["tokens"] == update["tokens"] and scoring["model"] == "teacher"


def test_gold_ghosts_are_the_responses_that_were_given(start_artifacts: tuple[Path, list[Artifact]]) -> None:
    asked = pl.read_parquet(start_artifacts[1][1].path / "questions.parquet").filter(pl.col("split") == "fresh")
    written = "1 + 1 = 2.\nAnswer: 2"
    given = asked.head(3).with_columns(pl.Series("gold_response", [written, None, " "]))
    tokenizer = load(start_artifacts[1][0].path / "model").tokenizer
    [ghost] = with_gold_ghosts(tokenizer, given, PromptFormat())["ghost_ids"].to_list()
    assert tokenizer.decode(ghost, skip_special_tokens=True) == written
    assert ghost[-1] == tokenizer.eos_token_id
