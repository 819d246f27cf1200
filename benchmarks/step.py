"""An optimizer step against TRL's trainers, and its distance to the matrix products it cannot do without.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step [--sequences 128] [--steps 8] [--rounds 3] [--only NAME]

The student is the shipped one after the SFT stage of the arithmetic recipe (made once in --folder), the teacher the
shipped one; all contenders see the same questions under the same prompt, sample at temperature 1 up to 96 tokens, and
take AdamW steps at a rate too low to change what is sampled. TRL runs in float32 without gradient checkpointing, each
step as one batch, the fastest of its settings here. Every contender is a process of its own on the core of this one;
the rounds alternate; what is printed are medians over all steps but each process's first two.
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
CONTENDERS = ("ours opd", "ours sft", "trl distillation", "trl gkd", "trl sft", "trl sft packed")


@dataclass(frozen=True)
class Task:
    """What a contender gets: folders of the models, and rows {question, response} enough for every step."""

    student: Path
    teacher: Path
    rows: list[dict[str, str]]
    sequences: int
    steps: int

    def batches(self) -> Iterator[list[dict[str, str]]]:
        """The rows of each step, from the start again when they run out."""
        for step in range(self.steps):
            places = range(step * self.sequences, (step + 1) * self.sequences)
            yield [self.rows[place % len(self.rows)] for place in places]


def prepare(folder: Path) -> Path:
    """The student after SFT and the teacher's responses, made by the stages of the arithmetic recipe."""
    os.environ["COHOBATE_DATA"] = str(folder)
    from cohobate.recipes import load_recipe
    from cohobate.stages import questions, sft, triples

    recipe = load_recipe("arithmetic", ["runtime.threads=1", "sft.evaluate_questions=16"])
    asked = questions.write(recipe)
    answered = triples.write(recipe, asked)
    return sft.train(recipe, answered, asked).path / "model"


def task_of(folder: Path, sequences: int, steps: int) -> Task:
    import polars as pl

    from cohobate.students import model_path

    triples = next(folder.glob("triples/*/triples.parquet"))
    frame = pl.read_parquet(triples).filter(~pl.col("truncated")).select("question", "response")
    student = next(folder.glob("sft/*/model"))
    return Task(student, model_path("world/teacher"), list(frame.iter_rows(named=True)), sequences, steps)


def ours_opd(task: Task) -> Iterator[dict[str, float]]:
    """Exact on-policy distillation by the functions of the training loop."""
    import torch

    from cohobate import rollouts, scoring
    from cohobate.batches import Row
    from cohobate.chat import Format, question_ids
    from cohobate.config import Training
    from cohobate.ledger import ModelCost
    from cohobate.objectives.opd import ExactReverseKL
    from cohobate.students import load

    student, teacher = load(task.student, device="cpu"), load(task.teacher, device="cpu")
    objective = ExactReverseKL(teacher.model.get_output_embeddings())
    budget = Training().tokens_per_batch
    costs = ModelCost.of(student.model.config), ModelCost.of(teacher.model.config)
    update = _Update(student, objective, budget)
    for step, batch in enumerate(task.batches()):
        times = [time.perf_counter()]
        prompts = [question_ids(student.tokenizer, row["question"], Format()) for row in batch]
        noise = rollouts.uniforms(0, [f"{step}/{i}" for i in range(len(batch))], MAX_TOKENS)
        sampled = rollouts.sample(
            student.model,
            prompts,
            rollouts.Decoding(MAX_TOKENS),
            noise,
            eos_ids=student.eos_ids,
            pad_id=student.pad_id,
        )
        times.append(time.perf_counter())
        rows = [Row([*p, *s.response_ids], len(p)) for p, s in zip(prompts, sampled, strict=True)]
        scores = scoring.score(teacher.model, rows, budget, teacher.pad_id)
        times.append(time.perf_counter())
        known = [
            {"sampler_logprobs": torch.tensor(s.logprobs), "teacher_hidden": score.hidden}
            for s, score in zip(sampled, scores, strict=True)
        ]
        update([Row(row.ids, row.context, facts) for row, facts in zip(rows, known, strict=True)])
        times.append(time.perf_counter())
        lengths = [row.context for row in rows], [len(row.response) for row in rows]
        flops = costs[0].respond(*lengths), costs[1].respond(*lengths), 3 * costs[0].respond(*lengths)
        parts = dict(zip(("rollout", "score", "update"), (b - a for a, b in itertools.pairwise(times)), strict=True))
        yield {
            "step": times[-1] - times[0],
            **parts,
            **{f"flops {part}": value for part, value in zip(parts, flops, strict=True)},
            "tokens": sum(lengths[1]),
        }


def ours_sft(task: Task) -> Iterator[dict[str, float]]:
    """Supervised fine-tuning by the functions of the training loop; sequences are tokenized beforehand, as for TRL."""
    from cohobate.batches import Row
    from cohobate.chat import Format, training_sequence
    from cohobate.config import Training
    from cohobate.ledger import ModelCost
    from cohobate.objectives.sft import cross_entropy
    from cohobate.students import load

    student = load(task.student, device="cpu")
    cost = ModelCost.of(student.model.config)
    update = _Update(student, cross_entropy, Training().tokens_per_batch)
    sequences = {
        row["question"]: training_sequence(student.tokenizer, row["question"], row["response"], Format(), ended=True)
        for row in task.rows
    }
    for batch in task.batches():
        started = time.perf_counter()
        chosen = [sequences[row["question"]] for row in batch]
        rows = [Row(sequence.ids, sequence.context) for sequence in chosen]
        update(rows)
        flops = 3 * cost.respond([row.context for row in rows], [len(row.response) for row in rows])
        seconds = time.perf_counter() - started
        tokens = sum(len(row.response) for row in rows)
        yield {"step": seconds, "update": seconds, "flops update": flops, "tokens": tokens}


class _Update:
    """Gradient of the mean over all tokens of a step, clipping, AdamW: what the training loop does with a batch."""

    def __init__(self, student: Any, objective: Any, budget: int) -> None:
        from cohobate.config import Training
        from cohobate.training.optimizer import make_optimizer

        self.student, self.objective, self.budget = student, objective, budget
        config = Training(lr=LEARNING_RATE, schedule="constant", warmup=0)
        self.optimizer, _ = make_optimizer(student.model.parameters(), config)

    def __call__(self, rows: list[Any]) -> None:
        import torch

        from cohobate.batches import batches, hidden_states
        from cohobate.objectives.base import evaluate_in_chunks

        model = self.student.model.train()
        head = model.get_output_embeddings()
        total = sum(len(row.response) for row in rows)
        for batch in batches(rows, self.budget, self.student.pad_id, self.student.device):
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
        steps = {"ours opd": ours_opd, "ours sft": ours_sft}[name](task)
    rate = gemm_rate() if name.startswith("ours") else 0.0
    for measured in steps:
        print("STEP " + json.dumps({**measured, "rate": rate}), flush=True)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """The steps of every contender, over all rounds, without those that warm up."""
    chosen = [name for name in CONTENDERS if name in (arguments.only or CONTENDERS)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    sizes = ["--sequences", str(arguments.sequences), "--steps", str(arguments.steps), "--folder", str(folder)]
    for _ in range(arguments.rounds):
        for name in chosen:
            command = [sys.executable, "-m", "benchmarks.step", "--contender", name, *sizes]
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
        ours = medians.get("ours sft" if "sft" in name else "ours opd")
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
    """Compare; the hidden option is the process that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path, help="where student and triples are kept; default a temporary one")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run_contender(arguments.contender, task_of(arguments.folder, arguments.sequences, arguments.steps))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        prepare(folder)
        table(measure(arguments, folder))


if __name__ == "__main__":
    main()
