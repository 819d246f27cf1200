"""Runs whose training stages have several processes, and whether they trained as one process does."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cohobate.config.load import load_recipe
from cohobate.models.loading import load, model_path
from tests.support.pipeline import train_stages

SETTINGS = {
    "questions.train": 48,
    "questions.test": 8,
    "questions.hard": 0,
    "sft.steps": 6,
    "sft.snapshot_every": 2,
    "opd.steps": 4,
    "opd.warmup": 0,
    "opd.prompts": 5,  # an odd number, so that the ranks' shares are unlike
    "opd.group": 1,
    "opd.snapshot_every": 2,
    "evaluation.limit": 4,
}


START = model_path("world/base")


def recipe(processes: int, *, shard: bool = False, **changes: Any) -> Any:
    chosen = {**SETTINGS, "runtime.processes": processes, "runtime.shard": str(shard).lower(), **changes}
    return load_recipe("tiny", [f"{name}={value}" for name, value in chosen.items()])


def train(processes: int, root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Path]:
    monkeypatch.setenv("COHOBATE_DATA", str(root))
    return {stage: artifact.path for stage, artifact in train_stages(recipe(processes, **changes)).items()}


def metrics(stage: Path) -> pl.DataFrame:
    return pl.read_parquet(stage / "metrics.parquet")


def assert_same_training(found: dict[str, Path], expected: dict[str, Path]) -> None:
    """Equal but for the order of sums: two processes add the halves of what one adds up in a row."""
    for stage in ("sft", "opd"):
        ours, theirs = metrics(found[stage]), metrics(expected[stage])
        for name in ("loss", "grad_norm", "lr"):
            torch.testing.assert_close(ours[name].to_torch(), theirs[name].to_torch(), rtol=1e-3, atol=1e-5)
        for name in ("tokens", "sequences", "student_flops", "teacher_flops"):
            assert ours[name].to_list() == theirs[name].to_list(), name
        assert distance(found[stage], expected[stage]) < 0.01 * distance(expected[stage], START)


def distance(a: Path, b: Path) -> float:
    """Of two students' weights. AdamW makes a whole step of a gradient that is 0 but for rounding, so single weights
    may differ, but not the whole.
    """
    first, second = (load(folder / "model" if (folder / "model").exists() else folder) for folder in (a, b))
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    return math.sqrt(sum(float((x.detach().double() - y.detach().double()).square().sum()) for x, y in pairs))
