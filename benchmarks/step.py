"""Time of an optimizer step against TRL's trainers, and against its matrix products alone.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step [--sequences 128] [--steps 8] [--rounds 3] [--only NAME]
                                                             [--asked 1]

The student is the shipped one after the SFT stage of the arithmetic recipe (made once in --folder), the teacher the
shipped one; all contenders see the same questions under the same prompt (OPD: each --asked times a step; GRPO: eight),
sample at temperature 1 up to 96 tokens, and take AdamW steps at a learning rate too low to change the samples. TRL runs
in float32 without gradient checkpointing, each step as one batch, the fastest of its settings here. Every contender is
a process of its own on the core of this one; the rounds alternate; medians are over all steps but each process's first
two. The floor is the FLOPs of the ledger at the rate of one large matrix product.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.step_task import Task, prepare, task_of

WARM_UP = 2
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
# The trainers of TRL that each of ours is compared with.
TWINS = {"opd": ("distillation", "gkd"), "grpo": ("grpo",), "sft": ("sft", "sft packed")}


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
    """Print one line of JSON per step."""
    if name.startswith("trl"):
        from benchmarks import step_trl

        steps = step_trl.TRAINERS[name](task)
    else:
        from benchmarks import step_ours
        from cohobate.models.torch_setup import keep_freed_memory

        keep_freed_memory()
        steps = step_ours.TRAINERS[name](task)
    rate = gemm_rate() if name.startswith("ours") else 0.0
    for measured in steps:
        print("STEP " + json.dumps({**measured, "rate": rate}), flush=True)


def measure(arguments: argparse.Namespace, inputs: list[str]) -> dict[str, list[dict[str, float]]]:
    """The steps of every contender, over all rounds, without the first of each process."""
    chosen = [name for name in CONTENDERS if name in (arguments.only or CONTENDERS)]
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    sizes = ["--sequences", str(arguments.sequences), "--steps", str(arguments.steps), "--inputs", *inputs]
    for _ in range(arguments.rounds):
        for name in chosen:
            is_opd = name.removeprefix("ours ").removeprefix("trl ") in ("opd", *TWINS["opd"])
            repeats = arguments.repeats if is_opd else 1
            command = [sys.executable, "-m", "benchmarks.step", "--contender", name, *sizes, "--asked", str(repeats)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"{name} failed:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
            lines = [line for line in result.stdout.splitlines() if line.startswith("STEP ")]
            steps[name] += [json.loads(line.removeprefix("STEP ")) for line in lines[WARM_UP:]]
    return steps


def print_table(steps_by_name: dict[str, list[dict[str, float]]]) -> None:
    """Medians of each contender, the split of ours, its floor, and the ratios."""
    medians = {
        name: {key: statistics.median(s[key] for s in steps) for key in steps[0]}
        for name, steps in steps_by_name.items()
    }
    for name, steps in steps_by_name.items():
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
    parser.add_argument("--asked", dest="repeats", type=int, default=1, help="rollouts per question in a step of OPD")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path, help="where student and triples are kept; default a temporary one")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        sft, triples = arguments.inputs
        task = task_of(sft, triples, arguments.sequences, arguments.steps, arguments.repeats)
        run_contender(arguments.contender, task)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        print_table(measure(arguments, prepare(folder)))


if __name__ == "__main__":
    main()
