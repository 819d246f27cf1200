"""A student that ends with one token under a teacher that ends with another: it goes on to end, as one with one end."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config.load import load_recipe
from cohobate.core.shipped import shipped_path
from tests.support.pipeline import train_stages

pytestmark = [pytest.mark.trains, pytest.mark.long]

STEPS = 30
SETS = [
    *("questions.train=300", "questions.fresh=2000", "questions.validation=200", "questions.test=4"),
    *("questions.hard=0", "triples.max_tokens=100", "sft.steps=120", "sft.batch=32", "sft.lr=2e-3", "sft.warmup=5"),
    *("sft.evaluate_every=1000", "sft.snapshot_every=1000", f"opd.steps={STEPS}", "opd.prompts=16"),
    *("opd.max_tokens=120", "opd.lr=5e-4", "opd.warmup=1", f"opd.evaluate_every={STEPS}"),
    *("opd.evaluate_questions=200", "opd.snapshot_every=1000", "runtime.threads=1"),
]


def altered(model: str, folder: Path, **files: dict[str, Any]) -> Path:
    """A copy of a shipped model; files: NAME_json, and what to change in it."""
    shipped = shipped_path(model)
    assert shipped is not None
    shutil.copytree(shipped, folder)
    for name, change in files.items():
        path = folder / name.replace("_json", ".json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder


def outcome(*models: str) -> tuple[float, float]:
    """The share of truncated rollouts over the last steps, and the accuracy on validation questions, after training."""
    made = train_stages(load_recipe("tiny", [*SETS, *models]))
    cut = pl.read_parquet(made["opd"].path / "metrics.parquet")["truncated"].tail(5).mean()
    points = pl.read_parquet(made["opd"].path / "points.parquet")
    assert isinstance(cut, float) and points["step"].max() == STEPS
    return cut, float(points.sort("step")["accuracy"][-1])


@pytest.mark.timeout(1500)
def test_another_end_changes_neither_truncation_nor_accuracy(data: Path, tmp_path: Path) -> None:
    ends = {"eos_token_id": 0}
    student = altered(
        "world/base",
        tmp_path / "student",
        tokenizer_config_json={"eos_token": "<|endoftext|>"},
        generation_config_json=ends,
        config_json=ends,
    )
    teacher = altered("world/teacher", tmp_path / "teacher", generation_config_json={"eos_token_id": [2, 0]})
    cut, accuracy = outcome(f"student.model={student}", f"teacher.model={teacher}")
    control_cut, control_accuracy = outcome()
    assert cut == pytest.approx(control_cut, abs=0.02)
    assert accuracy == pytest.approx(control_accuracy, abs=0.05)
