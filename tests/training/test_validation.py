"""Evaluation points: how their answers are decoded."""

from pathlib import Path

import pytest

from cohobate.config import Evaluation, Training, Verification
from cohobate.evaluation.samplers import LocalSampler
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import load
from cohobate.training.validation import Validation
from tests.support.pipeline import Finished


@pytest.mark.parametrize(("temperature", "decoding"), [(0.0, "greedy"), (4.0, "sampled")])
def test_a_model_that_knows_loses_its_way_at_a_high_temperature_alone(
    finished: Finished, tmp_path: Path, temperature: float, decoding: str
) -> None:
    config = Training(evaluate_questions=16, evaluate_temperature=temperature)
    knowing = LocalSampler(load("world/teacher", device="cpu"), 16)
    folder = finished.artifacts["questions"].path
    validation = Validation.of(
        knowing, PromptFormat(), folder, config, tmp_path, "sft", Evaluation(max_tokens=64), Verification()
    )
    validation(0, [])
    [point], _ = validation.points()
    assert (point["decoding"], point["n"]) == (decoding, 16)
    assert point["accuracy"] < 0.2 if temperature else point["accuracy"] > 0.8
