"""The parts of a step of on-policy distillation on one GPU, against what the device can do.

    python -m benchmarks.gpu [--device cuda] [--small] [--rows 64 256] [--tokens 1024] [--no-trl]

Random weights of real shapes: student Qwen3-0.6B (float32, bfloat16 products), teacher Qwen3-4B (bfloat16); prompts of
200 tokens, exact reverse KL. The limits are measured first: the rate of a large bfloat16 product, and of a copy. A
rollout is bound by bytes (weights once a token step, and the cache of all rows), scoring and update by products. TRL's
DistillationTrainer takes steps on the same models where it is installed. --small is a dry run of every part in seconds:
its figures mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.models import logprobs, precision
from cohobate.models.batching import batches, can_share
from cohobate.models.model_cost import cost_of
from cohobate.models.output_layer import OutputLayer
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.models.sequence import TrainingSequence
from cohobate.training.learner import Learner
from cohobate.training.objectives.exact import ExactReverseKL

_HALF, _UPDATE_TOKENS = 2, 16384  # bytes of bfloat16; tokens that pass at a time


@dataclass(frozen=True)
class Sizes:
    """student, teacher: settings of Qwen3Config; prompt: tokens; product: width of the product that is timed; copied:
    bytes of the copy.
    """

    student: dict[str, Any]
    teacher: dict[str, Any]
    prompt: int
    product: int
    copied: int


_QWEN3 = {"vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True}
REAL = Sizes(
    {**_QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    {**_QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    200,
    8192,
    1 << 30,
)
_TOY = {"vocab_size": 512, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}
SMALL = Sizes(
    {**_TOY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    {**_TOY, "hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    12,
    256,
    1 << 22,
)


class Bench:
    """The models on the device, and the limits of the device."""

    def __init__(self, sizes: Sizes, device: str) -> None:
        self.sizes, self.device = sizes, torch.device(device)
        self.student = _made(sizes.student, self.device, torch.float32)
        self.teacher = _made(sizes.teacher, self.device, torch.bfloat16)
        self.products = self._product_rate()
        self.bytes = self._copy_rate()

    def seconds(self, work: Callable[[], Any], times: int = 1) -> float:
        """The shortest time of several runs of `work`."""
        best = float("inf")
        for _ in range(times):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            best = min(best, time.perf_counter() - started)
        return best

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float | None:
        """The most gigabytes that were allocated on a GPU since the last call."""
        if self.device.type != "cuda":
            return None
        most = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return most

    def _product_rate(self) -> float:
        width = self.sizes.product
        a, b = (torch.randn(width, width, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * width**3 / self.seconds(lambda: torch.mm(a, b), times=10)

    def _copy_rate(self) -> float:
        source = torch.zeros(self.sizes.copied, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * self.sizes.copied / self.seconds(lambda: target.copy_(source), times=10)

    def rollout(self, rows: int, tokens: int) -> list[TrainingSequence]:
        """Print the rate of rollouts that end at `tokens`; their sequences."""
        draw = torch.Generator().manual_seed(rows)
        prompts = torch.randint(self.sizes.student["vocab_size"], (rows, self.sizes.prompt), generator=draw).tolist()
        noise = uniforms(0, [str(row) for row in range(rows)], tokens)
        sampled: list[Any] = []

        def work() -> None:
            with precision.products("bfloat16", self.device):
                sampled[:] = sample(
                    self.student, prompts, Decoding(tokens), noise, eos_ids=[], pad_id=0, batch_size=rows
                )

        seconds = self.seconds(work)
        weights = sum(parameter.numel() for parameter in self.student.parameters()) * _HALF
        shape = self.sizes.student
        row = 2 * shape["num_hidden_layers"] * shape["num_key_value_heads"] * shape["head_dim"] * _HALF
        floor = (weights + rows * row * (self.sizes.prompt + tokens / 2)) / self.bytes
        step = seconds / tokens
        _line(
            f"rollout, {rows} rows",
            seconds,
            f"{rows * tokens / seconds:,.0f} tok/s, {1e3 * step:.2f} ms a token step, {step / floor:.1f} x the bytes",
            self.peak(),
        )
        return [
            TrainingSequence(
                [*prompt, *row.response_ids], len(prompt), {"sampler_logprobs": torch.tensor(row.logprobs)}
            )
            for prompt, row in zip(prompts, sampled, strict=True)
        ]

    def score(self, rows: list[TrainingSequence]) -> list[TrainingSequence]:
        """Print the rate of scoring; the sequences with the teacher's hidden states."""
        found: list[logprobs.TokenScores] = []
        seconds = self.seconds(lambda: found.extend(logprobs.score(self.teacher, rows, _UPDATE_TOKENS, 0)))
        self._of_peak("score, teacher", seconds, self._flops(self.teacher, rows))
        return [row.with_features(**item.features()) for row, item in zip(rows, found, strict=True)]

    def update(self, rows: list[TrainingSequence]) -> None:
        """Print the rate of the gradient and of AdamW's step."""
        learner = Learner(self.student.train())
        optimizer = torch.optim.AdamW(self.student.parameters(), 1e-7, fused=self.device.type == "cuda")
        objective = ExactReverseKL(OutputLayer(self.teacher))
        total = sum(len(row.response) for row in rows)

        def gradient() -> None:
            with precision.products("bfloat16", self.device):
                share = can_share(self.student)
            for batch in batches(rows, _UPDATE_TOKENS, 0, self.device, share=share):
                with precision.products("bfloat16", self.device):
                    loss = learner(batch, objective)["loss"]
                (loss / total).backward()

        self._of_peak("update, gradient", self.seconds(gradient), 3 * self._flops(self.student, rows))
        _line("update, AdamW", self.seconds(optimizer.step), "", self.peak())
        self.student.eval()

    def mismatch(self, rows: list[TrainingSequence]) -> None:
        """Print how far the sampler's log-probabilities are from the trainer's."""
        with precision.products("bfloat16", self.device):
            found = logprobs.score(self.student, rows, _UPDATE_TOKENS, 0, keep_hidden=False)
        apart = torch.cat([a.logprobs - b.features["sampler_logprobs"] for a, b in zip(found, rows, strict=True)])
        k3 = (apart.exp() - 1 - apart).mean()
        most, mean = apart.abs().max(), apart.abs().mean()
        print(f"sampler and trainer: {most:.1e} nats at most, {mean:.1e} on average, k3 {k3:.1e}")

    def _flops(self, model: Any, rows: list[TrainingSequence]) -> float:
        return float(cost_of(model.config).respond([row.context for row in rows], [len(row.response) for row in rows]))

    def _of_peak(self, part: str, seconds: float, flops: float) -> None:
        rate = flops / seconds
        _line(part, seconds, f"{rate / 1e12:.3g} TFLOP/s, {rate / self.products:.0%} of a product's", self.peak())


def _made(settings: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            Qwen3Config(**settings, max_position_embeddings=8192), dtype=dtype
        ).eval()


def _line(part: str, seconds: float, what: str, peak: float | None = None) -> None:
    memory = "" if peak is None else f"  peak {peak:.1f} GB"
    print(f"{part:<22} {seconds:8.3f} s  {what}{memory}", flush=True)


def trl_step(bench: Bench, rows: int, tokens: int) -> float | None:
    """Seconds of a step of TRL's DistillationTrainer on the same models; None where TRL is not installed."""
    try:
        from benchmarks.step_trl import distillation_of
    except ImportError:
        return None
    steps = list(distillation_of(bench.student, bench.teacher, rows, tokens, cpu=bench.device.type == "cpu"))
    return min(step["step"] for step in steps[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=precision.resolve_device("auto"))
    parser.add_argument("--small", action="store_true", help="toy shapes: a dry run")
    parser.add_argument("--rows", type=int, nargs="+", default=None)
    parser.add_argument("--tokens", type=int, default=None)
    parser.add_argument("--no-trl", dest="trl", action="store_false")
    arguments = parser.parse_args()
    bench = Bench(SMALL if arguments.small else REAL, arguments.device)
    counts = arguments.rows or ([8] if arguments.small else [64, 256])
    tokens = arguments.tokens or (16 if arguments.small else 1024)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}: {bench.products / 1e12:.3g} TFLOP/s, copy {bench.bytes / 1e12:.3g} TB/s")
    bench.rollout(counts[0], 16)  # prepares the libraries
    started = time.perf_counter()
    rows = bench.rollout(counts[0], tokens)
    scored = bench.score(rows)
    bench.update(scored)
    _line(f"OPD step, {counts[0]} rows", time.perf_counter() - started, "")
    bench.mismatch(rows)
    for count in counts[1:]:
        bench.rollout(count, tokens)
    if not arguments.trl:
        return
    short = min(tokens, 192)
    again = time.perf_counter()
    bench.update(bench.score(bench.rollout(counts[0], short)))
    ours = time.perf_counter() - again
    theirs = trl_step(bench, counts[0], short)
    if theirs is None:
        print("TRL is not installed")
    else:
        print(f"TRL, {counts[0]} rows of {short} tokens: {theirs:.2f} s; ours {ours:.2f} s; {theirs / ours:.2f} x")


if __name__ == "__main__":
    main()
