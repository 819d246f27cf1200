"""What a GPU needs of the sampler: no weight cast and nothing read back in a token step, few shapes, the same rows."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Qwen3Config

from cohobate.models.logprobs import score
from cohobate.models.sampling.decoding import Decoding, Sampled
from cohobate.models.sampling.pace import Pace
from cohobate.models.sampling.sampler import uniforms
from cohobate.models.sampling.slot_sampler import SlotSampler
from cohobate.models.sequence import TrainingSequence

# Reading one of these, the host waits for the device.
READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.masked_select.default,
}


def made(width: int = 32, layers: int = 2, vocabulary: int = 60, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 8,
        num_key_value_heads=width // 16,
        head_dim=16,
        **settings,
    )
    return AutoModelForCausalLM.from_config(config).eval()


PROMPTS = [[3, 4, 5], [7] * 11, [3, 4, 5], *([i, i + 1] for i in range(20))]
DECODING = Decoding(24, temperature=1.0)


@torch.inference_mode()
def drawn(model: Any, pace: Pace | None, prompts: list[list[int]] = PROMPTS, batch: int = 9) -> list[Sampled]:
    noise = uniforms(5, [str(i) for i in range(len(prompts))], DECODING.max_tokens)
    return SlotSampler(model, prompts, DECODING, noise, [1, 9, 17], 0, batch, pace).run(lambda rows: None)


class Watched(TorchDispatchMode):
    """Counts the reads of a tensor's values by the host, and the casts of what lies in the memory of `weights`."""

    def __init__(self, weights: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = {weight.untyped_storage().data_ptr() for weight in weights}
        self.reads = self.casts = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        self.reads += func in READS
        if func is torch.ops.aten._to_copy.default:
            self.casts += args[0].untyped_storage().data_ptr() in self.memory
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pace", [Pace(steps=5), Pace(steps=8, row_unit=16, column_unit=64), Pace(row_unit=4)], ids=str)
def test_rows_are_the_same_at_any_pace(pace: Pace) -> None:
    model = made()
    usual = drawn(model, Pace())
    found = drawn(model, pace)
    assert {row.finish_reason for row in usual} == {"stop", "length"}
    assert [(row.response_ids, row.finish_reason) for row in found] == [
        (row.response_ids, row.finish_reason) for row in usual
    ]
    for ours, theirs in zip(found, usual, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)


def sampler_in_the_middle(model: Any, pace: Pace) -> SlotSampler:
    noise = uniforms(5, ["a", "b", "c"], DECODING.max_tokens)
    sampler = SlotSampler(model, PROMPTS[:3], DECODING, noise, [1], 0, 3, pace)
    sampler.admit(3)
    sampler.advance()
    return sampler


# Not in inference mode, in which a watch does not see the operations that others consist of.
@pytest.mark.parametrize("half", [False, True])
@torch.no_grad()
def test_a_token_step_casts_no_weight_and_reads_nothing_back(half: bool) -> None:
    model = made(width=64)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        sampler = sampler_in_the_middle(model, Pace())
        sampler.cache.reserve(sampler.cache.limit, len(sampler.slot))
        with Watched(model.parameters()) as watched:
            sampler.draw(8, 48)
            sampler.draw(8, 48)
    assert watched.operations > 50
    assert (watched.reads, watched.casts) == (0, 0)
    memory = [states for layer in sampler.cache.layers for states in (layer.keys, layer.values)]
    assert {states.dtype for states in memory} == {torch.bfloat16 if half else torch.float32}


@torch.no_grad()
def test_the_watch_sees_casts_and_reads() -> None:
    model = made(width=64)
    with torch.autocast("cpu", torch.bfloat16), Watched(model.parameters()) as watched:
        logits = model(input_ids=torch.tensor([[1, 2]])).logits
        assert bool((logits > 0).any()) in (True, False)
    assert watched.casts >= 2 * 7
    assert watched.reads


@pytest.mark.parametrize("half", [False, True])
def test_log_probabilities_of_sampler_and_trainer_agree(half: bool) -> None:
    model = made(width=256, layers=6, vocabulary=3000, initializer_range=0.05)
    prompts = PROMPTS[:6]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        rows = drawn(model, None, prompts)
        sequences = [
            TrainingSequence([*prompt, *row.response_ids], len(prompt))
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        ours = torch.cat([torch.tensor(row.logprobs) for row in rows])
        theirs = torch.cat([scores.logprobs for scores in score(model, sequences, 512, 0)])
    apart = (ours - theirs).abs()
    ratio = (theirs - ours).exp()
    mismatch_k3 = float((ratio - 1 - (theirs - ours)).mean())
    assert len(apart) > 60
    assert float(apart.max()) < (2e-2 if half else 1e-5)
    assert float(apart.mean()) < (1e-3 if half else 1e-6) * 5
    assert mismatch_k3 < 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records CUDA graphs")
def test_recorded_steps_draw_what_steps_by_themselves_draw() -> None:
    model = made(width=64).cuda()
    eager = drawn(model, Pace(steps=8, row_unit=16, column_unit=64))
    recorded = drawn(model, Pace(steps=8, row_unit=16, column_unit=64, graphs=True))
    assert [row.response_ids for row in recorded] == [row.response_ids for row in eager]
    for ours, theirs in zip(recorded, eager, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)
