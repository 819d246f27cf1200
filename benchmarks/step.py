"""An optimizer step against TRL's trainers, and its distance to the matrix products it cannot do without.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step [--sequences 128] [--steps 8] [--rounds 3] [--only NAME]
                                                             [--asked 1]

The student is the shipped one after the SFT stage of the arithmetic recipe (made once in --folder), the teacher the
shipped one; all contenders see the same questions under the same prompt (OPD: each --asked times a step; GRPO: eight),
sample at temperature 1 up to 96 tokens, and take AdamW steps at a rate too low to change what is sampled. TRL runs in
float32 without gradient checkpointing, each step as one batch, the fastest of its settings here. Every contender is a
process of its own on the core of this one; the rounds alternate; what is printed are medians over all steps but each
process's first two. The floor is the FLOPs of the ledger at the rate of one large matrix product.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_TOKENS = 96
LEARNING_RATE = 1e-7
WARM_UP = 2
GROUP = 8
CONTENDERS = (
    "ours opd",
    "trl distillation",
    "trl gkd",
    "ours grpo",
    "trl grpo",
    "ours sft",
    "trl sft",
    "trl sft packed",
)
# With which of ours each of TRL's is compared.
TWINS = {"opd": ("distillation", "gkd"), "grpo": ("grpo",), "sft": ("sft", "sft packed")}


@dataclass(frozen=True)
class Task:
    """What a contender gets: folders of the models, and rows {question, response} enough for every step."""

    student: Path
    teacher: Path
    rows: list[dict[str, str]]
    sequences: int
    steps: int
    asked: int = 1

    def batches(self) -> Iterator[list[dict[str, str]]]:
        """The rows of each step, each `asked` times, from the start again when they run out."""
        for step in range(self.steps):
            places = range(step * self.sequences, (step + 1) * self.sequences)
            yield [self.rows[place // self.asked % len(self.rows)] for place in places]


def prepare(folder: Path) -> list[str]:
    """The folders of the student after SFT and of the teacher's responses, by the stages of the arithmetic recipe."""
    os.environ["COHOBATE_DATA"] = str(folder)
    from cohobate.config.load import load_recipe
    from cohobate.stages import questions, sft, triples

    recipe = load_recipe("arithmetic", ["runtime.threads=1", "sft.evaluate_questions=16"])
    asked = questions.write(recipe)
    answered = triples.write(recipe, asked)
    return [str(sft.train(recipe, answered, asked).path), str(answered.path)]


def task_of(sft: str, triples: str, sequences: int, steps: int, asked: int = 1) -> Task:
    import polars as pl

    from cohobate.models.loading import model_path

    frame = (
        pl.read_parquet(Path(triples) / "triples.parquet").filter(~pl.col("truncated")).select("question", "response")
    )
    rows = list(frame.iter_rows(named=True))
    return Task(Path(sft) / "model", model_path("world/teacher"), rows, sequences, steps, asked)


def reward(response: str) -> float:
    """As cheap as a reward can be, and not the same for all of a group."""
    return float(len(response) % 5)


def _sample(student: Any, batch: list[dict[str, str]], step: int) -> list[Any]:
    """A row {sampler_logprobs} a question of `batch`, with the prompt as context and a fresh response."""
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
    """The seconds between `times`, one for each part of `costs`, and the FLOPs of the ledger."""
    lengths = [row.context for row in rows], [len(row.response) for row in rows]
    seconds = dict(zip(costs, (b - a for a, b in itertools.pairwise(times)), strict=True))
    flops = {f"flops {part}": (3 if part == "update" else 1) * c.respond(*lengths) for part, c in costs.items()}
    return {"step": times[-1] - times[0], **seconds, **flops}


def ours_opd(task: Task) -> Iterator[dict[str, float]]:
    """Exact on-policy distillation by the functions of the training loop."""
    from cohobate.config import Training
    from cohobate.models import logprobs
    from cohobate.models.loading import load
    from cohobate.store.ledger import ModelCost
    from cohobate.training.objectives.exact import ExactReverseKL

    student, teacher = load(task.student, device="cpu"), load(task.teacher, device="cpu")
    update = _Update(student, ExactReverseKL(teacher.model.get_output_embeddings()))
    own, theirs = ModelCost.of(student.model.config), ModelCost.of(teacher.model.config)
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


def ours_grpo(task: Task) -> Iterator[dict[str, float]]:
    """Group-relative policy optimisation by the functions of the training loop."""
    import torch

    from cohobate.models.chat_template import decode
    from cohobate.models.loading import load
    from cohobate.store.ledger import ModelCost
    from cohobate.training.objectives.grpo import GroupRelative
    from cohobate.training.objectives.policy_gradient import group_advantages

    student = load(task.student, device="cpu")
    update, own = _Update(student, GroupRelative()), ModelCost.of(student.model.config)
    for step, batch in enumerate(task.batches()):
        asked = [row for row in batch[: task.sequences // GROUP] for _ in range(GROUP)]
        times = [time.perf_counter()]
        rows = _sample(student, asked, step)
        times.append(time.perf_counter())
        rewards = torch.tensor([reward(decode(student.tokenizer, row.response)) for row in rows])
        values = group_advantages(rewards.view(-1, GROUP)).values.flatten()
        pairs = zip(rows, values, strict=True)
        update([row.with_features(advantages=value.expand(len(row.response))) for row, value in pairs])
        times.append(time.perf_counter())
        yield _measured(times, rows, {"rollout": own, "update": own})


def ours_sft(task: Task) -> Iterator[dict[str, float]]:
    """Supervised fine-tuning by the functions of the training loop; sequences are tokenized beforehand, as for TRL."""
    from cohobate.models.chat_template import PromptFormat, training_sequence
    from cohobate.models.loading import load
    from cohobate.store.ledger import ModelCost
    from cohobate.training.objectives.cross_entropy import cross_entropy

    student = load(task.student, device="cpu")
    update, own = _Update(student, cross_entropy), ModelCost.of(student.model.config)
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
    """Gradient of the mean over all tokens of a step, clipping, AdamW: what the training loop does with a batch."""

    def __init__(self, student: Any, objective: Any) -> None:
        from cohobate.config import Training
        from cohobate.training.optimizer import make_optimizer

        config = Training(lr=LEARNING_RATE, schedule="constant", warmup=0)
        self.student, self.objective, self.budget = student, objective, config.tokens_per_batch
        self.optimizer, _ = make_optimizer(list(student.model.parameters()), config)

    def __call__(self, rows: list[Any]) -> None:
        import torch

        from cohobate.models.batching import batches, can_share, hidden_states
        from cohobate.models.token_loss import evaluate_in_chunks

        model = self.student.model.train()
        head = model.get_output_embeddings()
        total = sum(len(row.response) for row in rows)
        share = can_share(model)
        for batch in batches(rows, self.budget, self.student.pad_id, self.student.device, share=share):
            hidden = hidden_states(model, batch)
            terms = evaluate_in_chunks(self.objective, head, hidden, batch.tokens, head.out_features)
            (terms["loss"] / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def gemm_rate() -> float:
    """FLOP/s of a matrix product of the teacher's shape, the best of several."""
    import torch

    a, b = torch.randn(2048, 192), torch.randn(192, 512)
    best = float("inf")
    for _ in range(50):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2 * 2048 * 192 * 512 / best


def run_contender(name: str, task: Task) -> None:
    """Print a JSON line a step."""
    if name.startswith("trl"):
        from benchmarks.trl_trainers import TRAINERS

        steps = TRAINERS[name](task)
    else:
        from cohobate.models.torch_setup import keep_freed_memory

        keep_freed_memory()
        steps = {"ours opd": ours_opd, "ours grpo": ours_grpo, "ours sft": ours_sft}[name](task)
    rate = gemm_rate() if name.startswith("ours") else 0.0
    for measured in steps:
        print("STEP " + json.dumps({**measured, "rate": rate}), flush=True)


def measure(arguments: argparse.Namespace, made: list[str]) -> dict[str, list[dict[str, float]]]:
    """The steps of every contender, over all rounds, without those that warm up."""
    chosen = [name for name in CONTENDERS if name in (arguments.only or CONTENDERS)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    sizes = ["--sequences", str(arguments.sequences), "--steps", str(arguments.steps), "--made", *made]
    for _ in range(arguments.rounds):
        for name in chosen:
            asked = arguments.asked if name.removeprefix("ours ").removeprefix("trl ") in ("opd", *TWINS["opd"]) else 1
            command = [sys.executable, "-m", "benchmarks.step", "--contender", name, *sizes, "--asked", str(asked)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"{name} failed:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
            lines = [line for line in result.stdout.splitlines() if line.startswith("STEP ")]
            found[name] += [json.loads(line.removeprefix("STEP ")) for line in lines[WARM_UP:]]
    return found


def table(found: dict[str, list[dict[str, float]]]) -> None:
    """Medians of each contender, the split of ours, its floor, and the ratios."""
    medians = {
        name: {key: statistics.median(s[key] for s in steps) for key in steps[0]} for name, steps in found.items()
    }
    for name, steps in found.items():
        values = sorted(step["step"] for step in steps)
        twin = next((ours for ours, theirs in TWINS.items() if name.removeprefix("trl ") in theirs), "")
        ours = medians.get(f"ours {twin}")
        ratio = "" if ours is None else f"{medians[name]['step'] / ours['step']:5.2f} x ours"
        spread = f"({values[0]:.3f} to {values[-1]:.3f}, n={len(values)})"
        print(f"{name:<17} {medians[name]['step']:6.3f} s  {spread}  {ratio}")
    for name, median in medians.items():
        parts = [part for part in ("rollout", "score", "update") if f"flops {part}" in median]
        for part in parts:
            floor = median[f"flops {part}"] / median["rate"]
            print(
                f"{name} {part:<8} {median[part]:6.3f} s  floor {floor:6.3f} s  ({median[f'flops {part}'] / 1e9:.1f} "
                f"GFLOP at {median['rate'] / 1e9:.0f} GFLOP/s)  {median[part] / floor:4.2f} x floor"
            )


def main() -> None:
    """Compare; the hidden options are the processes that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asked", type=int, default=1, help="rollouts of a question in a step of OPD")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path, help="where student and triples are kept; default a temporary one")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--made", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        task = task_of(*arguments.made, arguments.sequences, arguments.steps, arguments.asked)
        run_contender(arguments.contender, task)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        table(measure(arguments, prepare(folder)))


if __name__ == "__main__":
    main()
