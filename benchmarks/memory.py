"""Peak memory of exact reverse KL over a large vocabulary: in chunks against all logits at once.

    OMP_NUM_THREADS=1 python -m benchmarks.memory [--tokens 16384] [--vocabulary 151936] [--width 1024] [--naive A B]

Random hidden states and heads of student and teacher, float32, forward and backward on a CPU; each measurement is a
process of its own. What is reported is the highest resident memory above that with weights and hidden states in place.
The naive loss is measured at the sizes of --naive, and the line through them is followed to --tokens. The gradients of
both are compared at the smaller of those sizes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def resident(field: str) -> int:
    """Bytes by the name of a field in /proc/self/status: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def loss_of(kind: str, objective: Any, head: Any, hidden: Any, tokens: Any, vocabulary: int) -> Any:
    from cohobate.models.token_loss import evaluate_in_chunks

    if kind == "naive":
        return objective(head(hidden), tokens)["loss"]
    return evaluate_in_chunks(objective, head, hidden, tokens, vocabulary)["loss"]


def measure(kinds: list[str], tokens: int, vocabulary: int, width: int) -> None:
    """Print peak and seconds of one kind, or the largest difference between the gradients of two."""
    import torch

    from cohobate.models.token_loss import Tokens
    from cohobate.training.objectives.exact import ExactReverseKL

    torch.manual_seed(0)
    student, teacher = (torch.nn.Linear(width, vocabulary, bias=False) for _ in range(2))
    teacher.requires_grad_(False)
    hidden = torch.randn(tokens, width).requires_grad_()
    ids = torch.randint(vocabulary, (tokens,))
    tokens_ = Tokens(ids, sampler_logprobs=-torch.rand(tokens), teacher_hidden=torch.randn(tokens, width))
    objective = ExactReverseKL(teacher)
    gradients: list[list[torch.Tensor]] = []
    before, started = resident("VmRSS"), time.perf_counter()
    for kind in kinds:
        hidden.grad = student.weight.grad = None
        loss_of(kind, objective, student, hidden, tokens_, vocabulary).backward()
        assert hidden.grad is not None and student.weight.grad is not None
        gradients.append([hidden.grad, student.weight.grad])
    peak, seconds = resident("VmHWM") - before, time.perf_counter() - started
    apart = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(gradients[0], gradients[-1], strict=True)]
    print(json.dumps({"peak": peak, "seconds": seconds, "apart": apart}))


def measured(kinds: str, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    sizes = ["--tokens", str(tokens), "--vocabulary", str(arguments.vocabulary), "--width", str(arguments.width)]
    command = [sys.executable, "-m", "benchmarks.memory", "--kinds", kinds, *sizes]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{kinds} at {tokens} tokens failed:\n{result.stderr[-3000:]}")
    measurement: dict[str, Any] = json.loads(result.stdout)
    return measurement


def main() -> None:
    """Compare; the hidden option is the process that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--naive", type=int, nargs=2, default=[512, 1024], help="tokens at which it is measured")
    parser.add_argument("--kinds", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kinds:
        measure(arguments.kinds.split(","), arguments.tokens, arguments.vocabulary, arguments.width)
        return
    small, large = arguments.naive
    low, high = (measured("naive", tokens, arguments)["peak"] for tokens in (small, large))
    slope = (high - low) / (large - small)
    ours = measured("chunks", arguments.tokens, arguments)
    apart = measured("naive,chunks", small, arguments)["apart"]
    print(f"{arguments.tokens} tokens, vocabulary {arguments.vocabulary}, width {arguments.width}")
    print(f"in chunks  {ours['peak'] / 1e9:6.2f} GB  {ours['seconds']:.0f} s")
    print(f"naive      {low / 1e9:6.2f} GB at {small}, {high / 1e9:.2f} GB at {large} tokens", end="; ")
    print(f"by the line through both {(high + slope * (arguments.tokens - large)) / 1e9:.0f} GB")
    print(f"largest difference of a gradient at {small} tokens, as a share of the largest: {max(apart):.1e}")


if __name__ == "__main__":
    main()
