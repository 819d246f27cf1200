"""The training loop on the shipped base: losses and gradients against transformers, rates by formula."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cohobate.core.errors import CohobateError
from cohobate.models.batching import Padded, batches, hidden_states
from cohobate.models.chat_template import PromptFormat, PromptFormatName, question_ids
from cohobate.models.loading import LoadedModel
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Terms, TokenLoss, Tokens
from cohobate.training.metrics import averages
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.sampled import SampledReverseKL
from cohobate.training.optimizer import make_optimizer
from cohobate.training.trainee import Trainee
from cohobate.training.triple_source import training_rows
from cohobate.training.types import Metrics
from tests.support.training_runs import (
    TRIPLES,
    Given,
    Gradients,
    assert_same,
    base,
    config,
    interrupt_at,
    one_step,
    run_of,
    taken_gradients,
    weights,
)

pytestmark = pytest.mark.trains


@pytest.fixture
def student() -> LoadedModel:
    return base()


@pytest.fixture
def rows(student: LoadedModel) -> list[TrainingSequence]:
    """Three chat sequences of unlike length, the second without an end."""
    return training_rows(student.tokenizer, TRIPLES, PromptFormat())


def by_transformers(rows: list[TrainingSequence], masked: list[int]) -> tuple[Gradients, float]:
    """Gradients and loss from transformers, with a label of -100 on the first `masked` tokens of each row."""
    model = base().model
    width = max(len(row.ids) for row in rows)
    ids, labels = torch.zeros(2, len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    labels.fill_(-100)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
        labels[i, masked[i] : len(row.ids)] = torch.tensor(row.ids[masked[i] :])
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}, float(loss.detach())


# What is learnt.


@pytest.mark.parametrize("name", ["chat", "plain"])
def test_a_step_is_that_of_transformers_with_chat_prompts_masked_and_plain_ones_learnt(
    name: PromptFormatName, student: LoadedModel, tmp_path: Path
) -> None:
    rows = training_rows(student.tokenizer, TRIPLES, PromptFormat(name=name))
    prompts = [len(question_ids(student.tokenizer, q, PromptFormat())) for q in TRIPLES["question"]]
    expected, loss = by_transformers(rows, prompts if name == "chat" else [0, 0, 0])
    gradients, metrics = one_step(student, rows, tmp_path)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert_same(gradients, expected)


def test_only_positions_that_predict_a_completion_get_a_gradient(
    student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    rows = sorted(rows, key=lambda row: -len(row.ids))  # as the batch orders them
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        states.append(output.last_hidden_state)

    student.model.get_decoder().register_forward_hook(keep)
    one_step(student, rows, tmp_path)
    [gradient] = [state.grad for state in states]
    assert gradient is not None
    learnt = gradient.norm(dim=-1) > 0
    for row, found in zip(rows, learnt, strict=True):
        predicting = range(row.context - 1, len(row.ids) - 1)
        assert found.nonzero()[:, 0].tolist() == list(predicting)


def test_a_truncated_response_is_learnt_without_an_end(student: LoadedModel, rows: list[TrainingSequence]) -> None:
    learnt = [student.tokenizer.decode(row.response) for row in rows]
    ends = ["" if truncated else "<|im_end|>" for truncated in TRIPLES["truncated"]]
    assert learnt == [text + end for text, end in zip(TRIPLES["response"], ends, strict=True)]


def test_a_missing_answer_or_rationale_is_learnt_as_nothing(student: LoadedModel) -> None:
    plain = training_rows(student.tokenizer, TRIPLES, PromptFormat(name="plain", separator="|"))
    learnt = [student.tokenizer.decode(row.ids) for row in plain]
    assert learnt[1] == "What is (12 - 5) * 3, in words?|12 - 5 = 7, then 7 * 3 = 21|"
    assert learnt[2] == "Why?||7<|im_end|>"


# Batches: no split and no padding changes anything.


def informed(rows: list[TrainingSequence]) -> list[TrainingSequence]:
    """`rows` with made-up knowledge of each response token, all different."""
    generator = torch.Generator().manual_seed(0)

    def known(count: int) -> dict[str, torch.Tensor]:
        return {
            "sampler_logprobs": -3 * torch.rand(count, generator=generator),
            "teacher_logprobs": -3 * torch.rand(count, generator=generator),
            "teacher_hidden": torch.randn(count, 8, generator=generator),
        }

    return [replace(row, features=known(len(row.response))) for row in rows]


def teacher_head(hidden: torch.Tensor) -> torch.Tensor:
    weights = torch.randn(512, 8, generator=torch.Generator().manual_seed(1))
    return hidden @ weights.T


OBJECTIVES: dict[str, TokenLoss] = {
    "sft": cross_entropy,
    "exact": ExactReverseKL(teacher_head),
    "sampled": SampledReverseKL(),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_micro_batches_change_neither_gradient_nor_metrics(
    objective: TokenLoss, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    learnt = []
    for budget in (1, 70, 100_000):  # each row alone, two together, all together
        folder = tmp_path / str(budget)
        learnt.append(one_step(base(), informed(rows), folder, objective, tokens_per_batch=budget))
    (expected, metrics), *others = learnt
    assert len(others) == 2 and metrics.keys() > {"loss", "seconds_update"}
    for gradients, found in others:
        assert_same(gradients, expected)
        for name in metrics.keys() - {"seconds_update"}:
            assert found[name] == pytest.approx(metrics[name], rel=1e-4), name


def test_padding_changes_no_hidden_state(student: LoadedModel, rows: list[TrainingSequence]) -> None:
    def states(chosen: list[TrainingSequence], pad: int) -> dict[int, torch.Tensor]:
        with torch.no_grad():
            [batch] = batches(chosen, 100_000, pad, "cpu")
            found = hidden_states(student.model, batch)
        assert isinstance(batch.layout, Padded)
        return {index: found[batch.layout.rows == place] for place, index in enumerate(batch.order)}

    padded, padded_otherwise = states(rows, 0), states(rows, 77)
    for i, row in enumerate(rows):
        alone = states([row], 0)[0]
        assert len(alone) == len(row.response)
        torch.testing.assert_close(padded[i], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(padded[i], padded_otherwise[i], rtol=0, atol=0)


# The step.


def test_a_step_moves_every_parameter_as_adamw_says_and_decays_no_norm(
    student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    """The first step of AdamW, p (1 - lr decay) - lr g / (|g| + eps), in a warm-up of four steps."""
    changes: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.5, "warmup": 4, "steps": 4}
    before, source = weights(student), Given(rows, interrupt_at(1))
    with taken_gradients(student) as gradients, pytest.raises(KeyboardInterrupt):
        run_of(student, source, tmp_path, **changes).train()
    after, rate = weights(student), 0.01 / 4
    for name, old in before.items():
        decay, gradient = 0.0 if "norm" in name else 0.5, gradients[name]
        expected = old * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
        assert not torch.equal(after[name], old), name
        torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-6)


def test_a_frozen_parameter_is_no_business_of_the_optimizer(student: LoadedModel) -> None:
    frozen = student.model.get_input_embeddings().weight.requires_grad_(False)
    trainee = Trainee(student, config(), "base")
    optimizer, _ = make_optimizer(trainee.trainable().values(), config())
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in student.model.parameters() if p is not frozen)


def test_the_gradient_is_clipped_and_its_norm_told_as_it_was(rows: list[TrainingSequence], tmp_path: Path) -> None:
    free, told = one_step(base(), rows, tmp_path / "free")
    clipped, _ = one_step(base(), rows, tmp_path / "clipped", clip=0.125)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in free.values()))
    assert norm > 0.25
    assert told["grad_norm"] == pytest.approx(norm, rel=1e-5)
    for name, value in free.items():
        torch.testing.assert_close(clipped[name], value * 0.125 / norm, rtol=1e-4, atol=1e-8)


def broken_at_zero(logits: torch.Tensor, tokens: Tokens) -> Terms:
    """A loss of 0 whose gradient is not a number."""
    return {"loss": (logits - logits.detach()).square().sum().sqrt()}


def infinite(logits: torch.Tensor, tokens: Tokens) -> Terms:
    return {"loss": logits.sum() * math.inf}


@pytest.mark.parametrize("objective", [broken_at_zero, infinite])
def test_a_step_that_is_not_finite_is_refused_before_it_touches_a_weight(
    objective: TokenLoss, student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    before = weights(student)
    with pytest.raises(CohobateError, match=r"^sft: the loss is .* at step 0; lower sft\.lr \(now 0\.5\)"):
        run_of(student, Given(rows), tmp_path, objective, lr=0.5).train()
    torch.testing.assert_close(weights(student), before, rtol=0, atol=0)


def test_each_step_uses_the_rate_of_the_schedule(
    student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"steps": 4, "warmup": 2, "schedule": "linear", "lr": 0.1, "min_lr_ratio": 0.5}
    done = run_of(student, Given(rows), tmp_path, **changes).train()
    rates = [metrics["lr"] for metrics in done.metrics]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.075])


# The run.


@pytest.mark.parametrize(("steps", "points"), [(0, [0]), (4, [0, 2, 4]), (5, [0, 2, 4, 5])])
def test_points_are_measured_first_last_and_every_so_often(
    steps: int, points: list[int], student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path
) -> None:
    evaluated: list[int] = []
    done = run_of(student, Given(rows), tmp_path, evaluated=evaluated, steps=steps, evaluate_every=2).train()
    assert evaluated == points
    assert [metrics["step"] for metrics in done.metrics] == list(range(steps))


def test_sums_become_means_over_tokens_and_maxima_stay() -> None:
    terms = {"loss": torch.tensor(9.0), "mismatch_max": torch.tensor(3.0)}
    assert averages(terms, 6) == {"loss": 1.5, "mismatch_max": 3.0}


def untimed(metrics: list[Metrics]) -> list[Metrics]:
    return [{name: value for name, value in m.items() if "seconds" not in name} for m in metrics]


def test_an_interrupted_run_ends_as_if_nothing_had_happened(rows: list[TrainingSequence], tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 6, "warmup": 2, "snapshot_every": 2}
    whole, cut, resumed = base(), base(), base()
    expected = run_of(whole, Given(rows), tmp_path / "whole", **changes).train()
    with pytest.raises(KeyboardInterrupt):
        run_of(cut, Given(rows, interrupt_at(5)), tmp_path / "cut", **changes).train()
    asked: list[int] = []
    found = run_of(resumed, Given(rows, asked.append), tmp_path / "cut", **changes).train()
    assert asked == [4, 5]
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert found.ledger == expected.ledger
    assert untimed(found.metrics) == untimed(expected.metrics)


def test_a_step_that_runs_out_of_memory_is_taken_in_smaller_parts(
    student: LoadedModel, rows: list[TrainingSequence], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs out once, in the middle of a step, when a part of its gradient has been added."""
    longest = max(len(row.ids) for row in rows)
    expected, metrics = one_step(base(), rows, tmp_path / "whole")
    parts: list[int] = []

    def refusing(logits: torch.Tensor, tokens: Tokens) -> Terms:
        parts.append(len(tokens.ids))
        if len(parts) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return cross_entropy(logits, tokens)

    found, own = one_step(student, rows, tmp_path / "parts", refusing, tokens_per_batch=longest)
    assert sum(parts[2:]) == metrics["tokens"] == own["tokens"]
    assert_same(found, expected)
    assert own["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert f"memory ran out at {longest} tokens at a time; going on with {longest // 2}" in capsys.readouterr().err
