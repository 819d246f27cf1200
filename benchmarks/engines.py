"""Time of an OPD step by part, in this process against vLLM beside it, and time of a sync of the weights.

    COHOBATE_VLLM=.venv-vllm OMP_NUM_THREADS=1 python -m benchmarks.engines [--steps 10] [--sizes 2 25 100]
    OMP_NUM_THREADS=1 python -m benchmarks.engines --steps 0 --sizes --overlap 10 [--latency 1.0]

The steps are those of the tiny recipe with top-k scores (k = 16) on 64 rollouts of up to 48 tokens; the parts are
medians over all steps but the first two. A sync is the time from the trainer's float32 weights on the CPU to an engine
that samples with them, for Llamas with random weights of about so many million parameters; the median of five.
With --overlap the steps are timed without and with opd.overlap, the scores coming from a server that answers each
request after so many seconds and computes nothing: `waited` is what the student waited for rollouts and scores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

PROMPTS, GROUP, TOP_K = 32, 2, 16
WARM_UP = 2
SYNCS = 5
PARTS = ("rollout", "score", "update")
WAYS = {
    "this process": [],
    "scores by a server": ["teacher.scoring=server"],
    "rollouts by vLLM": ["opd.sampler=vllm"],
    "both": ["teacher.scoring=server", "opd.sampler=vllm"],
}
# Width and layers of a Llama with so many million parameters, without its 512 embeddings.
SHAPES = {2: (192, 4), 25: (512, 8), 100: (768, 14), 400: (1536, 14)}


def measured(changes: list[str], steps: int) -> tuple[pl.DataFrame, float]:
    """The metrics of the opd stage of the tiny recipe with `changes`, in a data folder of its own, and its seconds."""
    import polars as pl

    from cohobate.config.load import load_recipe
    from cohobate.stages import opd, questions, sft, triples

    small = ["runtime.threads=1", "sft.steps=2", "sft.evaluate_questions=0", "opd.evaluate_questions=0"]
    own = ["opd.objective=topk", f"opd.topk.k={TOP_K}", f"opd.steps={steps}", f"opd.prompts={PROMPTS}"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COHOBATE_DATA"] = folder
        recipe = load_recipe("tiny", [*small, *own, f"opd.group={GROUP}", "opd.snapshot_every=1000", *changes])
        question_set = questions.write(recipe)
        answers = triples.write(recipe, question_set)
        start = sft.train(recipe, answers, question_set)
        began = time.perf_counter()
        student = opd.train(recipe, start, question_set, answers)
        wall = time.perf_counter() - began
        return pl.read_parquet(student.path / "metrics.parquet"), wall


def time_steps(name: str, changes: list[str], steps: int) -> None:
    """Print the parts of a step of the tiny recipe with `changes`."""
    table, wall = measured(changes, steps)
    parts = {part: statistics.median(table[f"seconds_{part}"].to_list()[WARM_UP:]) for part in PARTS}
    mismatch = max(table["mismatch_max"].to_list())
    cells = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in [*parts.values(), sum(parts.values())])
    print(f"| {name} | {cells} | {wall:.0f} s | {mismatch:.0e} |", flush=True)


def time_overlap(overlap: bool, steps: int, latency: float) -> None:
    """Print how long a step waits and takes when a server scores whose answers take `latency` seconds."""
    from tests.support.wire_server import Act, WireServer

    with WireServer(lambda body, time: Act(delay=latency)).running() as server:
        address = ["teacher.kind=endpoint", "teacher.model=m", f"teacher.base_url={server.url}"]
        table, wall = measured([*address, "sft.select=all", f"opd.overlap={str(overlap).lower()}"], steps)
    seconds = {part: table[f"seconds_{part}"].to_numpy()[WARM_UP:-1] for part in PARTS}  # the last has no next batch
    waited = table["seconds_wait"].to_numpy()[WARM_UP:-1] if overlap else seconds["rollout"] + seconds["score"]
    columns = [*seconds.values(), waited, waited + seconds["update"]]
    cells = " | ".join(f"{1000 * statistics.median(column):.0f} ms" for column in columns)
    print(f"| {'overlap' if overlap else 'in turn'} | {cells} | {wall:.0f} s |", flush=True)


def time_sync(millions: int) -> None:
    """Print the time of a sync of a random model of about so many million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cohobate.config.load import load_recipe
    from cohobate.models.chat_template import PromptFormat, question_ids
    from cohobate.models.loading import load, save
    from cohobate.training.trainee import Trainee
    from cohobate.training.vllm_sampler import VllmSampler

    width, layers = SHAPES[millions]
    tokenizer = load("world/base").tokenizer
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=512, intermediate_size=4 * width, max_position_embeddings=512, **shape, **special)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COHOBATE_DATA"] = folder
        save(LlamaForCausalLM(config), tokenizer, Path(folder) / "model")
        recipe = load_recipe("tiny", ["runtime.threads=1", "opd.sampler=vllm", "opd.max_tokens=8"])
        student = load(Path(folder) / "model", train=True)
        sampler = VllmSampler(recipe, Trainee(student, recipe.opd, "random"))
        try:
            began = time.perf_counter()
            sampler.begin([question_ids(tokenizer, "What is 2 + 3?", PromptFormat())], ["one"])()
            first = time.perf_counter() - began
            syncs = []
            for _ in range(SYNCS):
                sampler.sync()
                syncs.append(sampler.sync_seconds)
        finally:
            sampler.close()
    count = student.model.num_parameters()
    seconds = statistics.median(syncs)
    print(
        f"| {count / 1e6:.1f} M | {count * 4 / 1e6:.0f} MB | {1000 * seconds:.0f} ms | "
        f"{count * 4 / seconds / 1e9:.1f} GB/s | {first:.0f} s |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="*", choices=SHAPES, default=[2, 25, 100])
    parser.add_argument("--overlap", type=int, default=0, metavar="STEPS")
    parser.add_argument("--latency", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.steps > WARM_UP:
        print("| engines | rollout | score | update | step | stage | mismatch |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, changes in WAYS.items():
            time_steps(name, changes, arguments.steps)
    if arguments.overlap > WARM_UP + 1:
        print("| rollouts | rollout | score | update | waited | step | stage |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for overlap in (False, True):
            time_overlap(overlap, arguments.overlap, arguments.latency)
    if arguments.sizes:
        print("\n| parameters | float32 | sync | rate | first rollout |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        for millions in arguments.sizes:
            time_sync(millions)


if __name__ == "__main__":
    main()
