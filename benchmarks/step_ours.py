"""Optimizer steps of cohobate on the task of `benchmarks.step`, by the functions of the training loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.step_task import GROUP, LEARNING_RATE, MAX_TOKENS, Task, reward


def _sample(student: Any, batch: list[dict[str, str]], step: int) -> list[Any]:
    """One sequence with sampler_logprobs per question of `batch`: its prompt as context, and a sampled response."""
    import torch

    from cohobate.models.chat_template import PromptFormat, question_ids
    from cohobate.models.sampling import sampler
    from cohobate.models.sequence import TrainingSequence

    prompts = [question_ids(student.tokenizer, row["question"], PromptFormat()) for row in batch]
    sampled = sampler.sample(
        student.model,
        prompts,
        sampler.Decoding(MAX_TOKENS),
        sampler.uniforms(0, [f"{step}/{i}" for i in range(len(batch))], MAX_TOKENS),
        eos_ids=student.eos_ids,
        pad_id=student.pad_id,
    )
    return [
        TrainingSequence(
            [*prompt, *response.response_ids], len(prompt), {"sampler_logprobs": torch.tensor(response.logprobs)}
        )
        for prompt, response in zip(prompts, sampled, strict=True)
    ]


def _measured(times: list[float], rows: list[Any], costs: dict[str, Any]) -> dict[str, float]:
    """Seconds between `times`, one for each part of `costs`, and the ledger's FLOPs of each part."""
    lengths = [row.context for row in rows], [len(row.response) for row in rows]
    seconds = dict(zip(costs, (b - a for a, b in itertools.pairwise(times)), strict=True))
    flops = {f"flops {part}": (3 if part == "update" else 1) * c.respond(*lengths) for part, c in costs.items()}
    return {"step": times[-1] - times[0], **seconds, **flops}


def opd(task: Task) -> Iterator[dict[str, float]]:
    """Exact on-policy distillation by the functions of the training loop."""
    from cohobate.config import Training
    from cohobate.models import logprobs
    from cohobate.models.loading import load
    from cohobate.models.model_cost import cost_of
    from cohobate.models.output_layer import OutputLayer
    from cohobate.training.objectives.exact import ExactReverseKL

    student, teacher = load(task.student, device="cpu"), load(task.teacher, device="cpu")
    update = _Update(student, ExactReverseKL(OutputLayer(teacher.model)))
    own, theirs = cost_of(student.model.config), cost_of(teacher.model.config)
    for step, batch in enumerate(task.batches()):
        times = [time.perf_counter()]
        rows = _sample(student, batch, step)
        times.append(time.perf_counter())
        scores = logprobs.score(teacher.model, rows, Training().tokens_per_batch, teacher.pad_id)
        times.append(time.perf_counter())
        pairs = zip(rows, scores, strict=True)
        update([row.with_features(teacher_hidden=score.hidden) for row, score in pairs])
        times.append(time.perf_counter())
        yield _measured(times, rows, {"rollout": own, "score": theirs, "update": own})


def grpo(task: Task) -> Iterator[dict[str, float]]:
    """Group-relative policy optimisation by the functions of the training loop."""
    import torch

    from cohobate.models.loading import load
    from cohobate.models.model_cost import cost_of
    from cohobate.models.special_tokens import decode
    from cohobate.training.objectives.grpo import GroupRelative
    from cohobate.training.objectives.policy_gradient import group_advantages

    student = load(task.student, device="cpu")
    update, own = _Update(student, GroupRelative()), cost_of(student.model.config)
    for step, batch in enumerate(task.batches()):
        repeated = [row for row in batch[: task.sequences // GROUP] for _ in range(GROUP)]
        times = [time.perf_counter()]
        rows = _sample(student, repeated, step)
        times.append(time.perf_counter())
        rewards = torch.tensor([reward(decode(student.tokenizer, row.response)) for row in rows])
        values = group_advantages(rewards.view(-1, GROUP)).values.flatten()
        pairs = zip(rows, values, strict=True)
        update([row.with_features(advantages=value.expand(len(row.response))) for row, value in pairs])
        times.append(time.perf_counter())
        yield _measured(times, rows, {"rollout": own, "update": own})


def sft(task: Task) -> Iterator[dict[str, float]]:
    """Supervised fine-tuning by the functions of the training loop; sequences are tokenized beforehand, as for TRL."""
    from cohobate.models.chat_template import PromptFormat, training_sequence
    from cohobate.models.loading import load
    from cohobate.models.model_cost import cost_of
    from cohobate.training.objectives.cross_entropy import cross_entropy

    student = load(task.student, device="cpu")
    update, own = _Update(student, cross_entropy), cost_of(student.model.config)
    sequences = {
        row["question"]: training_sequence(
            student.tokenizer, row["question"], row["response"], PromptFormat(), ended=True
        )
        for row in task.rows
    }
    for batch in task.batches():
        times = [time.perf_counter()]
        rows = [sequences[row["question"]] for row in batch]
        update(rows)
        times.append(time.perf_counter())
        yield _measured(times, rows, {"update": own})


class _Update:
    """The training loop's update: gradient of the mean over all tokens of a step, clipping, AdamW."""

    def __init__(self, student: Any, objective: Any) -> None:
        from cohobate.config import Training
        from cohobate.training.optimizer import make_optimizer

        config = Training(lr=LEARNING_RATE, schedule="constant", warmup=0)
        self.student, self.objective, self.budget = student, objective, config.tokens_per_batch
        self.optimizer, _ = make_optimizer(list(student.model.parameters()), config)

    def __call__(self, rows: list[Any]) -> None:
        import torch

        from cohobate.models.batching import batches, can_share, hidden_states
        from cohobate.models.output_layer import OutputLayer
        from cohobate.models.token_loss import evaluate_in_chunks

        model = self.student.model.train()
        output = OutputLayer(model)
        total = sum(len(row.response) for row in rows)
        share = can_share(model)
        for batch in batches(rows, self.budget, self.student.pad_id, self.student.device, share=share):
            hidden = hidden_states(model, batch)
            terms = evaluate_in_chunks(self.objective, output, hidden, batch.tokens, output.vocabulary)
            (terms["loss"] / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


TRAINERS = {"ours opd": opd, "ours grpo": grpo, "ours sft": sft}
