"""The cost of a recipe before any weight is loaded: FLOPs by the ledger's formulae, hours and memory on a GPU.

Lengths are assumptions, and the output states them: responses as long as their limit, prompts of --prompt-tokens. Time
is the larger of arithmetic (FLOPs at a share of the peak) and, for generation, of reading the weights once per token of
a batch. Memory: weights, gradients and Adam's moments in float32 (16 bytes per trained weight), activations of a batch
of `tokens_per_batch` in bfloat16, and the weights of models beside the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe, Training
from cohobate.core.errors import ModelError, RecipeError
from cohobate.core.model_shape import ModelShape
from cohobate.models.model_cost import attention_layers, cost_of, skeleton
from cohobate.models.published_configs import names, published_config
from cohobate.models.token_loss import CHUNK_ELEMENTS
from cohobate.store.compute_ledger import PASSES

GIB = 2**30
# bf16 peak of dense products in FLOP/s, memory bandwidth in bytes/s, memory in GiB: the vendors' data sheets.
GPUS: dict[str, tuple[float, float, float]] = {
    "rtx-4090": (165e12, 1.008e12, 24),
    "l40s": (362e12, 0.864e12, 48),
    "a100": (312e12, 2.039e12, 80),
    "h100": (989e12, 3.35e12, 80),
    "h200": (989e12, 4.8e12, 141),
    # One processor core in float32, as measured with models of 100 M parameters; its memory is the machine's.
    "cpu-core": (1e11, 1e10, 16),
}
_TRAINED = 16  # bytes per trained weight: float32 weight, gradient, two moments
_FROZEN = 4  # bytes per weight beside adapters: the student is loaded in float32 to train
_HALF = 2
_GENERATED = 64  # rows per generation step where no setting limits them


@dataclass(frozen=True)
class Machine:
    """One GPU: peak FLOP/s, bytes/s, GiB, and the share of the peak that is reached."""

    flops: float
    bandwidth: float
    memory: float
    utilisation: float = 0.35

    @classmethod
    def with_gpu(cls, name: str, utilisation: float) -> Machine:
        """The machine of a name in GPUS. Raises RecipeError for another one."""
        if name not in GPUS:
            raise RecipeError(f"--gpu {name} is not known; known are {', '.join(GPUS)}")
        return cls(*GPUS[name], utilisation)


@dataclass(frozen=True)
class Line:
    """One piece of work: FLOPs, GPU-hours, and the GiB that each GPU needs while it lasts."""

    stage: str
    model: str
    work: str
    sequences: int
    tokens: int
    flops: float
    hours: float
    memory: float


def shape(name: str) -> Any:
    """The configuration of a model: its folder's, or the published one. Raises ModelError when there is neither."""
    from cohobate.models.loading import model_path, read_config

    published = published_config(name)
    if published is not None:
        return published
    try:
        folder = model_path(name)
    except ModelError:
        raise ModelError(
            f"the shape of '{name}' is not known: it is no folder here, and none of {', '.join(names())}; give a "
            "folder with its config.json"
        ) from None
    return read_config(folder)


def estimate(recipe: Recipe, machine: Machine, prompt_tokens: int = 200, questions: int | None = None) -> list[Line]:
    """The work of each stage of `recipe`. questions: their number, where the recipe leaves it to a file.

    Raises ModelError for a model of unknown shape. A teacher behind an endpoint costs tokens and no local FLOPs.
    """
    count = recipe.questions.train if questions is None else questions
    student = shape(recipe.student.model)
    teacher = shape(recipe.teacher.model) if recipe.teacher.is_folder else None
    lines = [_generation(recipe, machine, teacher, prompt_tokens, count)]
    if recipe.sft.steps:
        rows = recipe.sft.steps * recipe.sft.batch
        lines += _training(recipe.sft, "sft", machine, student, rows, prompt_tokens, recipe.triples.max_tokens, 0.0)
    if recipe.opd.steps:
        lines += _on_policy(recipe, machine, student, teacher, prompt_tokens)
    return lines


def _generation(recipe: Recipe, machine: Machine, teacher: Any | None, prompt_tokens: int, count: int) -> Line:
    rows, length = count * recipe.triples.samples, recipe.triples.max_tokens
    if teacher is None:
        return Line("triples", "teacher", "generation", rows, rows * length, 0.0, 0.0, 0.0)
    gpus = recipe.teacher.tensor_parallel if recipe.teacher.uses_engine else 1
    batch = min(recipe.triples.batch_size, rows)
    if recipe.teacher.uses_engine:  # it serves as many at a time as there is room for
        room = gpus * machine.memory * GIB * recipe.teacher.gpu_memory - cost_of(teacher).params * _HALF
        batch = max(1, min(batch, int(room / (cache_bytes(teacher) * (prompt_tokens + length)))))
    return _generated("triples", "teacher", "generation", machine, teacher, rows, prompt_tokens, length, batch, gpus)


def _on_policy(recipe: Recipe, machine: Machine, student: Any, teacher: Any | None, prompt_tokens: int) -> list[Line]:
    config = recipe.opd
    rows, length = config.steps // config.updates * config.prompts * config.group, config.max_tokens
    beside = cost_of(teacher).params * _HALF / GIB if teacher and config.asks_teacher else 0.0
    batch = min(_GENERATED, config.prompts * config.group)
    rollout = _generated("opd", "student", "rollout", machine, student, rows, prompt_tokens, length, batch)
    lines = [rollout]
    if teacher and config.asks_teacher:
        flops = _forward(teacher, rows, prompt_tokens, length)
        hours = flops / (machine.flops * machine.utilisation) / 3600
        lines.append(Line("opd", "teacher", "scoring", rows, rows * length, flops, hours, beside))
    learnt = min(length, config.train_tokens or length)
    rows_learnt = config.steps * config.prompts * config.group
    return lines + _training(config, "opd", machine, student, rows_learnt, prompt_tokens, learnt, beside)


def _generated(
    stage: str,
    model: str,
    work: str,
    machine: Machine,
    config: Any,
    rows: int,
    prompt: int,
    length: int,
    batch: int,
    gpus: int = 1,
) -> Line:
    flops = _forward(config, rows, prompt, length)
    weights = cost_of(config).params * _HALF
    arithmetic = flops / (machine.flops * machine.utilisation)
    reading = (
        rows / batch * length * (weights + batch * cache_bytes(config) * (prompt + length / 2)) / machine.bandwidth
    )
    memory = (weights + batch * cache_bytes(config) * (prompt + length)) / gpus / GIB
    return Line(stage, model, work, rows, rows * length, flops, max(arithmetic, reading) / 3600, memory)


def _training(
    config: Training,
    stage: str,
    machine: Machine,
    student: Any,
    rows: int,
    prompt: int,
    length: int,
    beside: float,
) -> list[Line]:
    work = "adapter update" if config.lora else "update"
    flops = PASSES[work] * _forward(student, rows, prompt, length)
    hours = flops * (4 / 3 if config.activation_checkpointing else 1) / (machine.flops * machine.utilisation) / 3600
    memory = training_gib(config, student, max(config.tokens_per_batch, prompt + length)) + beside
    return [Line(stage, "student", work, rows, rows * length, flops, hours, memory)]


def training_gib(config: Training, student: Any, tokens: int) -> float:
    """GiB of weights, gradients, moments and activations while `tokens` tokens pass through."""
    weights = cost_of(student).params
    if config.lora is None:
        states = float(_TRAINED * weights)
    else:
        states = _FROZEN * weights + _TRAINED * adapter_weights(student, config.lora.rank)
    # A chunk of float32 logits, its probabilities and their gradient.
    logits = 3 * 4 * max(CHUNK_ELEMENTS, ModelShape.of(student).vocabulary)
    return (
        float(states + tokens * activation_bytes(student, checkpointing=config.activation_checkpointing) + logits) / GIB
    )


def adapter_weights(config: Any, rank: int) -> int:
    """Number of adapter weights on every linear layer but the output head: rank * (inputs + outputs) of each."""
    from torch.nn import Linear

    model = skeleton(config)
    head = model.get_output_embeddings()
    layers = [each for each in model.modules() if isinstance(each, Linear) and each is not head]
    return rank * sum(each.in_features + each.out_features for each in layers)


def activation_bytes(config: Any, *, checkpointing: bool) -> int:
    """Bytes saved per token for the backward pass: bfloat16 inputs of every product, or of every layer only.

    A layer saves its input twice (norm and residual), queries, keys, values and the attention's output, the input of
    the gated MLP and three vectors inside it. Attention itself is recomputed (FlashAttention).
    """
    shape = ModelShape.of(config)
    layer = 4 * shape.width + 2 * (shape.heads + shape.kv_heads) * shape.head_dim + 3 * shape.inner
    return _HALF * (shape.layers * shape.width + layer if checkpointing else shape.layers * layer)


def cache_bytes(config: Any) -> int:
    """Bytes of keys and values per token, in bfloat16."""
    layers = attention_layers(skeleton(config))
    return _HALF * sum(layer.cached_heads * (layer.key_width + layer.value_width) for layer in layers)


def _advice(line: Line) -> str:
    if line.work == "generation":
        return "teacher.tensor_parallel, with kind = 'vllm'; or a smaller triples.batch_size"
    stage = line.stage
    return (
        f"adapters ({stage}.lora.rank = 32), {stage}.activation_checkpointing = true, a smaller "
        f"{stage}.tokens_per_batch, or runtime.processes and runtime.shard"
    )


def _forward(config: Any, rows: int, prompt: int, length: int) -> float:
    """FLOPs of a forward pass over `rows` equal rows: those of one row, multiplied."""
    return float(rows * cost_of(config).respond([prompt], [length]))


def sentences(recipe: Recipe, lines: Sequence[Line], machine: Machine) -> list[str]:
    """The totals of the lines, and whether they fit into the machine's memory."""
    parts = [
        f"{sum(line.flops for line in lines):.2g} FLOPs, about {sum(line.hours for line in lines):.1f} GPU-hours at "
        f"{machine.utilisation:.0%} of the peak, if every response is as long as its limit; shorter ones cost less"
    ]
    sharing = recipe.runtime.processes if recipe.runtime.shard else 1
    # Training memory is divided among the processes of a sharded run; generation is not sharded by them.
    needs = {line: line.memory / (1 if line.work in ("generation", "rollout") else sharing) for line in lines}
    most = max(needs, key=lambda line: needs[line])
    fits = "fits into" if needs[most] <= machine.memory else "does not fit into"
    parts.append(
        f"the most memory is needed by {most.stage} ({most.work}): {needs[most]:.0f} GiB a GPU, which {fits} "
        f"{machine.memory:.0f} GiB"
    )
    if needs[most] > machine.memory:
        parts.append(f"less memory: {_advice(most)}")
    if not recipe.teacher.is_folder:
        [generation] = [line for line in lines if line.work == "generation"]
        price = recipe.teacher.cost_usd(0, generation.tokens)
        cost = "" if price is None else f", at most {price:.2f} USD for what it writes"
        parts.append(
            f"the endpoint writes at most {generation.tokens:,} tokens in {generation.sequences:,} responses{cost}"
        )
    return parts
