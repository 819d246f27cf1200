"""TRL's trainers on the task of `benchmarks.step`, each timed by its own callbacks from step to step."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.step_task import GROUP, LEARNING_RATE, MAX_TOKENS, Task, reward

# Sequences of the task are at most 140 tokens; a packed row holds about ten.
_PACKED_TOKENS = 512


def _common(task: Task, folder: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "output_dir": folder,
        "per_device_train_batch_size": task.sequences,
        "gradient_accumulation_steps": 1,
        "max_steps": task.steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": [],
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    return {**plain, **changes}


def _models(task: Task) -> tuple[Any, Any, Any]:
    from cohobate.models.loading import load

    student, teacher = load(task.student, device="cpu"), load(task.teacher, device="cpu")
    return student.model, teacher.model, student.tokenizer


def _conversations(task: Task) -> list[dict[str, Any]]:
    """One row {prompt, completion} per sequence of the task, in the order of its steps."""
    return [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
        for batch in task.batches()
        for row in batch
    ]


def _timed(make: Callable[[Any, str], Any]) -> Iterator[dict[str, float]]:
    """Train with the trainer of `make(callback, folder)`; seconds from the start of a step to that of the next."""
    from transformers import TrainerCallback

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        make(Clock(), folder).train()
    for before, after in itertools.pairwise(marks):
        yield {"step": after - before}


def distillation(task: Task) -> Iterator[dict[str, float]]:
    """DistillationTrainer: rollouts by generate, reverse KL over the whole vocabulary in chunks."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    student, teacher, tokenizer = _models(task)
    data = Dataset.from_list([{"prompt": row["prompt"]} for row in _conversations(task)])

    def make(clock: Any, folder: str) -> Any:
        settings = _common(task, folder, max_completion_length=MAX_TOKENS, beta=1.0, shuffle_dataset=False)
        return DistillationTrainer(
            model=student,
            teacher_model=teacher,
            args=DistillationConfig(**settings),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[clock],
        )

    return _timed(make)


def distillation_of(student: Any, teacher: Any, rows: int, tokens: int, *, cpu: bool) -> Iterator[dict[str, float]]:
    """Steps of DistillationTrainer with models that are given, whose vocabulary is larger than the tokenizer's."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DistillationConfig, DistillationTrainer

    from cohobate.models.loading import model_path

    tokenizer = AutoTokenizer.from_pretrained(str(model_path("world/teacher")))
    asked = [{"prompt": [{"role": "user", "content": f"What is {i} + {i}?"}]} for i in range(2 * rows)]

    def make(clock: Any, folder: str) -> Any:
        task = Task(student, teacher, [], rows, 2)
        settings = _common(task, folder, max_completion_length=tokens, beta=1.0, bf16=not cpu, use_cpu=cpu)
        return DistillationTrainer(
            model=student,
            teacher_model=teacher,
            args=DistillationConfig(**settings),
            train_dataset=Dataset.from_list(asked),
            processing_class=tokenizer,
            callbacks=[clock],
        )

    return _timed(make)


def gkd(task: Task) -> Iterator[dict[str, float]]:
    """GKDTrainer on its own rollouts only (lambda 1), with the reverse KL (beta 1)."""
    from datasets import Dataset
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    student, teacher, tokenizer = _models(task)
    data = Dataset.from_list([{"messages": row["prompt"] + row["completion"]} for row in _conversations(task)])

    def make(clock: Any, folder: str) -> Any:
        settings = _common(
            task, folder, max_new_tokens=MAX_TOKENS, temperature=1.0, lmbda=1.0, beta=1.0, max_length=256
        )
        return GKDTrainer(
            model=student,
            teacher_model=teacher,
            args=GKDConfig(**settings),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[clock],
        )

    return _timed(make)


def grpo(task: Task) -> Iterator[dict[str, float]]:
    """GRPOTrainer without a reference model, each batch of completions used once."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    student, _, tokenizer = _models(task)
    # It repeats each row for the group itself.
    rows = [row for batch in task.batches() for row in batch[: task.sequences // GROUP]]
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": row["question"]}]} for row in rows])

    def rewards(completions: list[Any], **_: Any) -> list[float]:
        return [reward(completion[0]["content"]) for completion in completions]

    def make(clock: Any, folder: str) -> Any:
        settings = _common(
            task,
            folder,
            max_completion_length=MAX_TOKENS,
            num_generations=GROUP,
            beta=0.0,
            shuffle_dataset=False,
        )
        return GRPOTrainer(
            model=student,
            reward_funcs=rewards,
            args=GRPOConfig(**settings),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[clock],
        )

    return _timed(make)


def _sft(task: Task, *, packed: bool) -> Iterator[dict[str, float]]:
    """SFTTrainer, loss on completions. Packed: seconds for as many sequences as the others have in a step."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    student, _, tokenizer = _models(task)
    rows = _conversations(task)
    tokens = sum(
        len(tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=True)["input_ids"])
        for row in rows
    )
    per_step = max(1, round(tokens / task.steps / _PACKED_TOKENS))
    trainers: list[Any] = []

    def make(clock: Any, folder: str) -> Any:
        settings = _common(task, folder, completion_only_loss=True)
        if packed:
            settings |= {"packing": True, "max_length": _PACKED_TOKENS, "per_device_train_batch_size": per_step}
        trainer = SFTTrainer(
            model=student,
            args=SFTConfig(**settings),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainers.append(trainer)
        return trainer

    steps = list(_timed(make))
    share = 1.0
    if packed:
        in_a_step = per_step * len(rows) / len(trainers[0].train_dataset)
        share = task.sequences / in_a_step
    return ({"step": step["step"] * share} for step in steps)


def sft(task: Task) -> Iterator[dict[str, float]]:
    """One padded batch per step."""
    return _sft(task, packed=False)


def sft_packed(task: Task) -> Iterator[dict[str, float]]:
    """Rows of several sequences without padding."""
    return _sft(task, packed=True)


TRAINERS = {
    "trl distillation": distillation,
    "trl gkd": gkd,
    "trl grpo": grpo,
    "trl sft": sft,
    "trl sft packed": sft_packed,
}
