"""Distance of a student to its teacher: per token by plain forward passes, and the interval of a ratio."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cohobate.config import Recipe
from cohobate.core.shipped import shipped_path
from cohobate.experiments.comparison.distance import ResponseDistance, measure, per_token, response_distances, summary
from cohobate.models.loading import LoadedModel, load
from cohobate.stages import questions


def shipped(name: str) -> LoadedModel:
    return load(str(shipped_path(name)), device="cpu")


@pytest.mark.slow
def test_reverse_kl_and_agreement_are_those_of_plain_forward_passes() -> None:
    student, teacher = shipped("world/base"), shipped("world/teacher")
    generator = torch.Generator().manual_seed(0)
    lengths = ((3, 5, 7), (9, 4, 300), (1, 2, 1))  # of both prompts and the response

    def draw(count: int) -> list[int]:
        return torch.randint(5, 500, (count,), generator=generator).tolist()

    prompts, theirs, responses = ([draw(row[part]) for row in lengths] for part in range(3))
    measured = response_distances(student, teacher, prompts, theirs, responses, token_budget=64)
    assert len(measured) == len(lengths)
    for own, before, of_teacher, response in zip(measured, prompts, theirs, responses, strict=True):
        with torch.no_grad():
            p, q = (
                model.model(torch.tensor([[*context, *response]])).logits[0, len(context) - 1 : -1].log_softmax(-1)
                for model, context in ((student, before), (teacher, of_teacher))
            )
        assert own.tokens == len(response)
        assert own.reverse_kl == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)
        assert own.agreed == int((p.argmax(-1) == q.argmax(-1)).sum())


@pytest.mark.slow
def test_a_model_is_at_no_distance_from_itself() -> None:
    model = shipped("world/base")
    [own] = response_distances(model, model, [[5, 6]], [[5, 6]], [[7, 8, 9]], token_budget=64)
    assert own.agreed == own.tokens == 3 and own.reverse_kl == pytest.approx(0, abs=1e-6)


def test_the_interval_of_a_mean_over_tokens_covers_it_as_often_as_it_says() -> None:
    generator, hits, tries = np.random.default_rng(0), 0, 400
    for _ in range(tries):
        tokens = generator.integers(1, 30, 200)
        rates = generator.gamma(2.0, 0.5, 200)  # of each response, mean 1
        interval = per_token(list(tokens * rates), tokens.tolist())
        hits += interval.low <= 1.0 <= interval.high
    assert 0.92 < hits / tries < 0.98


def test_means_weigh_tokens_and_nothing_is_made_of_no_response() -> None:
    metrics = summary([ResponseDistance(1, 2.0, 1), ResponseDistance(3, 2.0, 0)])
    assert (metrics["n"], metrics["tokens"]) == (2, 4)
    assert metrics["reverse_kl"]["mean"] == 1.0 and metrics["agreement"]["mean"] == 0.25
    assert summary([])["reverse_kl"] == {"mean": None, "low": None, "high": None}
    assert summary([ResponseDistance(2, 3.0, 1)])["reverse_kl"] == {"mean": 1.5, "low": None, "high": None}


@pytest.mark.slow
def test_questions_beyond_the_context_are_set_aside(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["1 + 1 = ?", "2 + 3 = ?", "one " * 5000]
    file = tmp_path / "sums.jsonl"
    rows = [{"question": each, "answer": "2", "split": "test"} for each in texts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
        "questions": {"source": "file", "path": str(file)},
        "evaluation": {"splits": ["test"], "max_tokens": 4},
        "compare": {"distance": 3, "methods": {"sft": {}, "again": {}}},
    }
    recipe = Recipe.model_validate(sections)
    artifact = measure(recipe, questions.write(recipe))
    assert artifact.manifest.named_metrics["n"] == 2
    assert "1 of 3 questions are set aside" in capsys.readouterr().err
