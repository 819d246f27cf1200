"""The memory of a stage's work on one device: the code of the stage runs once, on tensors without elements.

What is measured is the largest batch that the settings allow, of prompts and responses as long as they may be. Deep
models are measured at two small depths, since memory grows by the same amount with every further layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohobate.config import Lora, Sft, Training
from cohobate.core.model_shape import ModelShape
from cohobate.models.model_cost import cached_bytes, cost_of, once_per_config

# Layers of the two models that are measured in place of a deeper one: whole periods of the usual patterns of layers,
# and enough for the peak to be where it is in a deep model.
_DEPTHS = (4, 8)
# Chunks of logits of a pass: after so many of them memory grows no more.
_CHUNKS = 3
FLOAT, HALF = 4, 2  # bytes
# Adam's two moments of a weight that trains; its gradient is part of what is measured.
_MOMENTS = 8


@dataclass(frozen=True)
class Batch:
    """`rows` sequences under way at a time, each of so many tokens of prompt and of response."""

    rows: int
    prompt: int
    response: int

    @classmethod
    def of_budget(cls, budget: int, prompt: int, response: int) -> Batch:
        """The sequences that pass through a model at a time under a token budget; at least one does."""
        return cls(max(1, budget // (prompt + response)), prompt, response)


def weights(config: Any, size: int) -> int:
    """Bytes of a model's weights, of `size` bytes each."""
    return cost_of(config).params * size


def states(config: Any, training: Training, *, half: bool = False) -> int:
    """Bytes that a student in training takes between its updates: float32 weights, and Adam's moments.

    half: products in bfloat16, in which the weights under adapters are held too.
    """
    if training.lora is None:
        return weights(config, FLOAT + _MOMENTS)
    [total] = _by_depth(config, lambda shallow: _held(shallow, training, half))
    return total


@dataclass(frozen=True)
class UpdatePeak:
    """Bytes at the peak of an update beside `states`: in all, of its gradients, and without these."""

    all: int
    gradients: int
    activations: int


def update(config: Any, training: Training, batch: Batch, *, half: bool) -> UpdatePeak:
    """The memory of an update on a batch. half: products in bfloat16."""
    peaks = _by_depth(config, lambda shallow: _update(shallow, training, batch, half))
    forward, _, end = peaks
    return UpdatePeak(max(peaks), end, forward)


def scoring(config: Any, batch: Batch, *, half: bool) -> int:
    """Bytes at the peak of a teacher's pass over a batch, without its weights, which are in bfloat16 if `half`."""
    return max(_by_depth(config, lambda shallow: _scoring(shallow, batch, half)))


def generation(
    config: Any, batch: Batch, *, half: bool, training: Training | None = None, temperature: float = 1.0
) -> int:
    """Bytes at the peak of sampling by the local sampler, without the weights themselves.

    training: of a student in training, whose weights are float32; half says then that products are in bfloat16.
    """
    lora = None if training is None else training.lora
    trained = training is not None
    return max(_by_depth(config, lambda shallow: _generation(shallow, batch, trained, half, temperature, lora)))


def _by_depth(config: Any, measure: Callable[[Any], tuple[int, ...]]) -> tuple[int, ...]:
    """What `measure` gives at the depth of `config`; for a deep model, on the line through two smaller depths."""
    depth, (low, high) = ModelShape.of(config).layers, _DEPTHS
    if depth <= high:
        return measure(config)
    first, second = (measure(_shallow(config, layers)) for layers in _DEPTHS)
    steps = (depth - high) / (high - low)
    return tuple(round(b + (b - a) * steps) for a, b in zip(first, second, strict=True))


def _shallow(config: Any, layers: int) -> Any:
    """The configuration of the model's first layers."""
    shallow = copy.deepcopy(config)
    text = shallow.get_text_config()
    depth = text.num_hidden_layers
    if depth == layers:
        return shallow
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return shallow


def _held(config: Any, training: Training, half: bool) -> tuple[int, ...]:
    trainee = _trainee(config, training, half=half)
    every = trainee.student.model.parameters()
    moments = sum(parameter.numel() for parameter in trainee.trainable().values()) * _MOMENTS
    return (sum(parameter.numel() * parameter.element_size() for parameter in every) + moments,)


def _trainee(config: Any, training: Training, *, half: bool) -> Any:
    """A trainee on torch's meta device."""
    from cohobate.config.load import changed
    from cohobate.training.trainee import Trainee

    precision = "bfloat16" if half else "float32"
    return Trainee(_model(config, FLOAT), changed(training, {"precision": precision}, "estimate"), "base")


def _model(config: Any, size: int) -> Any:
    """A model on torch's meta device, in a precision of so many bytes."""
    import torch

    from cohobate.models.loading import LoadedModel
    from cohobate.models.model_cost import skeleton

    model = skeleton(config, torch.float32 if size == FLOAT else torch.bfloat16)
    return LoadedModel(model.eval(), None, Path(), ())


def _update(config: Any, training: Training, batch: Batch, half: bool) -> tuple[int, ...]:
    """Bytes beside weights and moments: the peak of the forward pass, that of the backward pass, and at its end.

    Each of the three grows by the same amount with every layer, which their maximum does not.
    """
    from cohobate.models.allocation import allocate, without_memory
    from cohobate.models.batching import batches
    from cohobate.training.objectives.base import off_policy

    trainee = _trainee(config, training, half=half)
    with without_memory() as allocations:
        allocate(trainee.student.model)
        learner, before = trainee.begin_update(), allocations.live
        rows = _sequences(config, batch)
        [one] = batches(rows, batch.rows * (batch.prompt + batch.response), 0, "cpu")
        allocations.peak = 0
        with trainee.precision():
            terms = learner(one, off_policy(Sft()).loss(None))
        forward, allocations.peak = allocations.peak, 0
        terms["loss"].backward()
        del terms, one
        return forward - before, allocations.peak - before, allocations.live - before


def _sequences(config: Any, batch: Batch) -> list[Any]:
    """Sequences of the batch's lengths, with logits for as many tokens as fill some chunks."""
    from cohobate.models.sequence import TrainingSequence
    from cohobate.models.token_loss import chunk_tokens

    length = batch.prompt + batch.response
    read = min(batch.response, 1 + _CHUNKS * chunk_tokens(ModelShape.of(config).vocabulary) // batch.rows)
    # Of different prompts, since equal ones are computed once.
    return [TrainingSequence([row, *[0] * (length - 1)], length - read) for row in range(batch.rows)]


def _scoring(config: Any, batch: Batch, half: bool) -> tuple[int, ...]:
    from cohobate.models import logprobs
    from cohobate.models.allocation import allocate, without_memory

    teacher = _model(config, HALF if half else FLOAT)
    with without_memory() as allocations:
        allocate(teacher.model)
        before, allocations.peak = allocations.live, 0
        logprobs.score(teacher.model, _sequences(config, batch), batch.rows * (batch.prompt + batch.response), 0)
        return (allocations.peak - before,)


@once_per_config
def _generation(
    config: Any, batch: Batch, trained: bool, half: bool, temperature: float, lora: Lora | None
) -> tuple[int, ...]:
    import torch

    from cohobate.core.errors import ModelError
    from cohobate.models import precision
    from cohobate.models.allocation import allocate, without_memory
    from cohobate.models.sampling.decoding import Decoding
    from cohobate.models.sampling.slot_sampler import longest_step

    if lora is None:
        model = _model(config, FLOAT if trained or not half else HALF).model
    else:
        model = _trainee(config, Training(lora=lora), half=half).student.model
    with without_memory() as allocations, torch.inference_mode():
        allocate(model)
        before, allocations.peak = allocations.live, 0
        setting = "bfloat16" if trained and half else "float32"
        try:
            with precision.products(setting, model.device):
                longest_step(model, batch.rows, batch.prompt, Decoding(batch.response, temperature))
        except ModelError:  # transformers' own generation samples it
            return (_cache(config, batch, HALF if half else FLOAT),)
        return (allocations.peak - before,)


def _cache(config: Any, batch: Batch, size: int) -> int:
    """Bytes of keys and values of a whole batch, and of the logits of one step with their probabilities."""
    cache = cached_bytes(config, size) * batch.rows * (batch.prompt + batch.response)
    return cache + 3 * FLOAT * batch.rows * ModelShape.of(config).vocabulary
