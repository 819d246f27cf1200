"""The memory of a stage's work, against torch's own tracker and against what the work takes with real tensors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from cohobate.config import Lora, Recipe, Training
from cohobate.config.load import changed, load_recipe
from cohobate.models import logprobs
from cohobate.models.allocation import Allocations
from cohobate.models.batching import batches
from cohobate.models.loading import LoadedModel
from cohobate.models.published_configs import published_config
from cohobate.models.sampling.sampler import Decoding, sample
from cohobate.models.sampling.slot_sampler import longest_step
from cohobate.models.sequence import TrainingSequence
from cohobate.stages import memory
from cohobate.stages.estimate import GPUS, Machine, estimate
from cohobate.stages.memory import Batch
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.trainee import Trainee

pytestmark = pytest.mark.trains
BATCH = Batch(rows=4, prompt=40, response=88)
_SHAPE = {
    "vocab_size": 3000,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "pad_token_id": 0,
}
_EXPERTS = {"num_experts": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


def config(kind: str = "qwen3", layers: int = 10, **more: Any) -> PretrainedConfig:
    return AutoConfig.for_model(kind, **{**_SHAPE, "num_hidden_layers": layers, **more})


def student(of: PretrainedConfig) -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(AutoModelForCausalLM.from_config(of).eval(), None, Path(), ())


def rows(batch: Batch) -> list[TrainingSequence]:
    return [
        TrainingSequence([(7 * i + t) % 3000 for t in range(batch.prompt + batch.response)], batch.prompt)
        for i in range(batch.rows)
    ]


@contextmanager
def peak() -> Iterator[list[int]]:
    """The peak of the bytes of real tensors that are made meanwhile."""
    peaks: list[int] = []
    with Allocations() as allocations:
        yield peaks
        peaks.append(allocations.peak)


@pytest.mark.parametrize("training", [Training(), Training(activation_checkpointing=True)], ids=["full", "recomputed"])
@pytest.mark.parametrize("kind", ["gemma2", "qwen3_moe"])
def test_an_update_takes_what_torch_tracks_with_real_tensors(kind: str, training: Training) -> None:
    """At the depth that was extrapolated to, by torch's own tracker."""
    of = config(kind, **(_EXPERTS if "moe" in kind else {}))
    trainee = Trainee(student(of), training, "base")
    learner, model = trainee.begin_update(), trainee.student.model
    [one] = batches(rows(BATCH), 1000, 0, "cpu")
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        learner(one, cross_entropy)["loss"].backward()
    [totals] = tracker.get_tracker_snapshot("peak").values()
    own = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    assert memory.update(of, training, BATCH, half=False).all == pytest.approx(totals["Total"] - own, rel=0.1)


def test_an_update_of_adapters_takes_what_was_measured_without_memory() -> None:
    """The same code with elements; torch's tracker knows no weights that do not train."""
    of, training = config("gemma2"), Training(lora=Lora(rank=4))
    learner = Trainee(student(of), training, "base").begin_update()
    [one] = batches(rows(BATCH), 1000, 0, "cpu")
    with peak() as peaks:
        learner(one, cross_entropy)["loss"].backward()
    assert memory.update(of, training, BATCH, half=False).all == pytest.approx(peaks[0], rel=0.02)


def test_an_update_in_bfloat16_takes_what_torch_tracks() -> None:
    """torch's own tracker, which knows gradients, moments and temporaries apart, over two steps."""
    of, training = config(layers=6), Training()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(of)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        ids = torch.zeros(BATCH.rows, BATCH.prompt + BATCH.response - 1, dtype=torch.long)
        with tracker:
            for _ in range(2):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = model(input_ids=ids, use_cache=False, logits_to_keep=BATCH.response).logits
                    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, -88:].flatten())
                loss.backward()
                del logits, loss
                optimizer.step()
                optimizer.zero_grad()
                tracker.reset_mod_stats()
        [totals] = tracker.get_tracker_snapshot("peak").values()
    expected = memory.states(of, training) + memory.update(of, training, BATCH, half=True).all
    assert expected == pytest.approx(totals["Total"], rel=0.1)


def test_sampling_takes_what_was_measured_without_memory() -> None:
    of, batch = config("olmo2"), Batch(rows=32, prompt=32, response=96)
    model = student(of).model
    # Those of the second half are read while the cache has the length of the first.
    prompts = [[5 + i] * batch.prompt for i in range(2 * batch.rows)]
    # The way to sample a model is tried once.
    sample(model, prompts[:1], Decoding(1, 0), None, eos_ids=[], pad_id=0)
    with peak() as peaks:
        sample(model, prompts, Decoding(batch.response, 0), None, eos_ids=[], pad_id=0, batch_size=batch.rows)
    expected = memory.generation(of, batch, half=False, temperature=0)
    assert expected == pytest.approx(peaks[0], rel=0.1)


def test_scoring_takes_what_was_measured_without_memory() -> None:
    of = config("olmo2")
    model = student(of).model
    with peak() as peaks:
        logprobs.score(model, rows(BATCH), 1000, 0)
    assert memory.scoring(of, BATCH, half=False) == pytest.approx(peaks[0], rel=0.1)


def tracked(model: Any, work: Callable[[], Any]) -> float:
    """Bytes at the peak of `work` with the weights, by torch's own tracker."""

    class Work(torch.nn.Module):
        """One call from outside, which is what the tracker knows."""

        def forward(self) -> None:
            work()

    tracker, once = MemTracker(), Work()
    tracker.track_external(model)
    with tracker:
        once()
    [totals] = tracker.get_tracker_snapshot("peak").values()
    return float(totals["Total"])


def estimated(recipe: str, work: str, *changes: str) -> tuple[Recipe, float]:
    """The recipe, and the bytes that its estimate states for a piece of work, with prompts of 200 tokens."""
    chosen = load_recipe(recipe, list(changes))
    [line] = [line for line in estimate(chosen, Machine(*GPUS["h200"]), 200) if f"{line.stage} {line.work}" == work]
    return chosen, line.memory * 2**30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen3-0.6B", pytest.param("Qwen3-30B-A3B", marks=pytest.mark.long)])
def test_the_aime_suite_takes_what_torch_tracks_at_full_depth(name: str) -> None:
    """All layers, rows and columns of the shipped suite; and the cache in closed form, which is most of it."""
    recipe, expected = estimated("aime", "suites aime24", f"student.model=models/{name}")
    [suite] = recipe.suites
    of, rows = published_config(name), min(recipe.evaluation.batch_size, 30 * suite.samples)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = AutoModelForCausalLM.from_config(of, dtype=torch.bfloat16).eval()
        decoding = Decoding(suite.max_tokens, suite.temperature)
        total = tracked(model, lambda: longest_step(model, rows, 200, decoding))
    assert expected == pytest.approx(total, rel=0.1)
    token = 2 * of.num_hidden_layers * of.num_key_value_heads * of.head_dim
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert expected == pytest.approx(2 * (weights + rows * (200 + suite.max_tokens) * token), rel=0.1)


@pytest.mark.long
def test_an_update_of_qwen3_takes_what_torch_tracks_at_full_depth() -> None:
    """qwen3_0.6b_from_8b: weights and gradients in float32, products in bfloat16, with Adam's two moments beside."""
    recipe, expected = estimated("qwen3_0.6b_from_8b", "sft update")
    batch = Batch.of_budget(recipe.sft.tokens_per_batch, 200, recipe.triples.max_tokens)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(published_config("Qwen3-0.6B"), dtype=torch.float32).eval()
        training = changed(recipe.sft, {"precision": "bfloat16"}, "test")
        trainee = Trainee(LoadedModel(model, None, Path(), ()), training, "base")
        learner = trainee.begin_update()
        [one] = batches(rows(batch), batch.rows * (batch.prompt + batch.response), 0, "cpu")

        def work() -> None:
            with trainee.precision():
                terms = learner(one, cross_entropy)
            terms["loss"].backward()

        total = tracked(model, work)
    moments = 8 * sum(parameter.numel() for parameter in model.parameters())
    assert expected == pytest.approx(total + moments, rel=0.1)


@pytest.mark.slow
def test_a_pass_of_qwen3_8b_takes_what_torch_tracks_at_full_depth() -> None:
    of, batch = published_config("Qwen3-8B"), Batch(4, 200, 2048)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = AutoModelForCausalLM.from_config(of, dtype=torch.bfloat16).eval()
        total = tracked(model, lambda: logprobs.score(model, rows(batch), 4 * 2248, 0))
    expected = memory.weights(of, 2) + memory.scoring(of, batch, half=True)
    assert expected == pytest.approx(total, rel=0.1)


@pytest.mark.parametrize("prompt", [20, 700])
def test_many_rows_are_measured_as_they_are(prompt: int) -> None:
    """Prompts are read some at a time, so that what reading takes ends to grow with the rows."""
    of = config("llama", layers=6, vocab_size=60000)
    model = AutoModelForCausalLM.from_config(of).eval()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        faked = AutoModelForCausalLM.from_config(of).eval()
        total = tracked(faked, lambda: longest_step(faked, 200, prompt, Decoding(60, 1.0)))
    weights = sum(parameter.numel() for parameter in model.parameters())
    batch = Batch(200, prompt, 60)
    assert memory.generation(of, batch, half=False) == pytest.approx(total - 4 * weights, rel=0.1)


def test_a_trained_weight_takes_12_bytes_between_updates_and_adapters_less() -> None:
    of = config()
    count = sum(parameter.numel() for parameter in student(of).model.parameters())
    assert memory.states(of, Training()) == 12 * count
    import peft

    adapted = peft.get_peft_model(
        student(of).model, peft.LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert memory.states(of, Training(lora=Lora(rank=3))) == 4 * count + 12 * trained
    linear = [m.weight for name, m in student(of).model.named_modules() if name.endswith("_proj")]
    half = 2 * sum(weight.numel() for weight in linear)  # which products in bfloat16 need no more than that
    assert memory.states(of, Training(lora=Lora(rank=3)), half=True) == 4 * count - half + 12 * trained
