"""The memory of a stage's work, against torch's own tracker and against what the work takes with real tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from cohobate.config import Lora, Training
from cohobate.models import logprobs
from cohobate.models.allocation import Allocations
from cohobate.models.batching import batches
from cohobate.models.loading import LoadedModel
from cohobate.models.sampling.sampler import Decoding, sample
from cohobate.models.sequence import TrainingSequence
from cohobate.stages import memory
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
    expected = memory.generation(of, batch, trained=False, half=False, temperature=0)
    assert expected == pytest.approx(peaks[0], rel=0.1)


def test_scoring_takes_what_was_measured_without_memory() -> None:
    of = config("olmo2")
    model = student(of).model
    with peak() as peaks:
        logprobs.score(model, rows(BATCH), 1000, 0)
    assert memory.scoring(of, BATCH, half=False) == pytest.approx(peaks[0], rel=0.1)


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
