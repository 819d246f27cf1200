"""The cost of a recipe before any weight is loaded: FLOPs by the ledger's formulae, hours and memory on a GPU.

Lengths are assumptions, and the output states them: responses as long as their limit, prompts of --prompt-tokens. Time
is the larger of arithmetic (FLOPs at a share of the peak) and, for generation, of reading the weights once per token of
a batch. Memory is measured by running the code of each stage on tensors without elements (see `memory`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from cohobate.config import ObjectiveStage, Recipe, SplitName
from cohobate.core.errors import RecipeError
from cohobate.models.model_cost import cached_bytes, cost_of
from cohobate.stages import memory
from cohobate.stages.memory import Batch
from cohobate.stages.taught import Taught, shape, taught_by
from cohobate.store.compute_ledger import PASSES
from cohobate.training.objectives.preference import Preference

GIB = 2**30
CPU = "cpu-core"
UTILISATION = 0.35  # of the peak: what training on GPUs reaches
_CHARACTERS = 4  # of English, to a token
SUITE_QUESTIONS = 30  # as AIME has
# bf16 peak of dense products in FLOP/s, memory bandwidth in bytes/s, memory in GiB: the vendors' data sheets.
GPUS: dict[str, tuple[float, float, float]] = {
    "rtx-4090": (165e12, 1.008e12, 24),
    "l40s": (362e12, 0.864e12, 48),
    "a100": (312e12, 2.039e12, 80),
    "h100": (989e12, 3.35e12, 80),
    "h200": (989e12, 4.8e12, 141),
    # One processor core in float32, as measured with models of 100 M parameters; its memory is the machine's.
    CPU: (1e11, 1e10, 16),
}


@dataclass(frozen=True)
class Machine:
    """One GPU: peak FLOP/s, bytes/s, GiB, and the share of the peak that is reached."""

    flops: float
    bandwidth: float
    memory: float
    utilisation: float = UTILISATION
    half: bool = True  # products, and weights that do not train, in bfloat16

    @classmethod
    def with_gpu(cls, name: str, utilisation: float = UTILISATION) -> Machine:
        """The machine of a name in GPUS. Raises RecipeError for another one."""
        if name not in GPUS:
            raise RecipeError(f"--gpu {name} is not known; known are {', '.join(GPUS)}")
        return cls(*GPUS[name], utilisation, half=name != CPU)


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
    samples: bool = False  # memory is less where responses end before their limit


def estimate(
    recipe: Recipe,
    machine: Machine,
    prompt: int = 200,
    questions: int | None = None,
    scored_prompt: int | None = None,
    shares: Mapping[str, float] | None = None,
) -> list[Line]:
    """The work of each stage of `recipe`. prompt: tokens. questions: those for training, where a file says how many.

    scored_prompt: tokens of the prompt under which the teacher scores; None: `prompt` and what teacher.privileged says.
    shares: of the questions, by teacher; None: those of [route], or equal ones where a column decides.

    Raises ModelError for a model of unknown shape. A teacher behind an endpoint costs tokens and no local FLOPs.
    """
    return list(_Estimate(recipe, machine, prompt, questions, scored_prompt, shares).lines())


class _Estimate:
    """The lines of one recipe on one machine."""

    def __init__(
        self,
        recipe: Recipe,
        machine: Machine,
        prompt: int,
        questions: int | None,
        scored_prompt: int | None = None,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.recipe, self.machine, self.prompt, self.scored_prompt = recipe, machine, prompt, scored_prompt
        self.student, self.teachers = shape(recipe.student.model), taught_by(recipe, shares)
        self.counts = _counts(recipe, questions)
        self.size = memory.HALF if machine.half else memory.FLOAT  # of a weight that does not train

    def lines(self) -> Iterator[Line]:
        recipe = self.recipe
        yield from map(self._triples, self.teachers)
        if recipe.sft.steps:
            yield from self._scored("sft", recipe.sft, recipe.sft.steps * recipe.sft.batch, recipe.triples.max_tokens)
            yield from self._training("sft", recipe.sft, recipe.sft.batch, recipe.triples.max_tokens)
        if recipe.opd.steps:
            yield from self._on_policy()
        yield from self._evaluation()
        yield from self._suites()

    def _triples(self, taught: Taught) -> Line:
        recipe, settings, teacher = self.recipe, taught.settings, taught.config
        rows = round(self.counts["train"] * taught.share) * recipe.triples.samples
        length = recipe.triples.max_tokens
        if teacher is None:
            return Line("triples", taught.label, "generation", rows, rows * length, 0.0, 0.0, 0.0)
        batch = Batch(max(1, min(recipe.triples.batch_size, rows)), self.prompt, length)
        if not settings.uses_engine:
            return self._generated("triples", taught.label, "generation", teacher, rows, batch)
        # An engine serves as many at a time as there is room for.
        gpus, row = settings.tensor_parallel, cached_bytes(teacher, self.size) * (self.prompt + length)
        weights = memory.weights(teacher, self.size)
        room = gpus * self.machine.memory * GIB * settings.gpu_memory - weights
        batch = Batch(max(1, min(batch.rows, int(room / max(1, row)))), self.prompt, length)
        need = (weights + batch.rows * row) / gpus
        return self._generated("triples", taught.label, "generation", teacher, rows, batch, need)

    def _on_policy(self) -> Iterator[Line]:
        config = self.recipe.opd
        rows = -(-config.steps // config.updates) * config.prompts * config.group
        batch = Batch(min(config.batch_size, config.prompts * config.group), self.prompt, config.max_tokens)
        beside = self._beside(config)
        if config.sampler == "local":
            peak = memory.generation(self.student, batch, training=config, half=self.machine.half)
            copy = memory.weights(self.student, memory.FLOAT) if config.overlap else 0
            need = self._resident(config) + beside + copy + peak
        else:
            need = self._resident(config) + self._scorer(config) + self._engine()
        yield self._generated("opd", "student", "rollout", self.student, rows, batch, need)
        yield from self._scored("opd", config, rows, config.max_tokens)
        learnt = min(config.max_tokens, config.train_tokens or config.max_tokens)
        yield from self._training("opd", config, config.prompts * config.group, learnt)

    def _scored(self, stage: str, config: ObjectiveStage, rows: int, most: int) -> Iterator[Line]:
        """The scoring of responses by the teachers of this process: each its share, or of a mixture each all."""
        for taught in self._scoring(config):
            copied = taught.settings.follow is not None
            teacher, half = self.student if copied else taught.config, self.machine.half and not copied
            context = taught.settings.privileged
            before = self.scored_prompt or self.prompt + (0 if context is None else context.characters // _CHARACTERS)
            batch = Batch.of_budget(config.tokens_per_batch, before, most)
            need = self._resident(config) + self._beside(config) + memory.scoring(teacher, batch, half=half)
            scored = rows if self.recipe.opd.mixture else round(rows * taught.share)
            yield self._computed(stage, taught.label, "scoring", teacher, scored, most, need, prompt=before)

    def _training(self, stage: str, config: ObjectiveStage, rows: int, length: int) -> Iterator[Line]:
        """The updates of a stage, and its evaluation points."""
        batch = Batch.of_budget(config.tokens_per_batch, self.prompt, length)
        peak = memory.update(self.student, config, batch, half=self.machine.half)
        sharing = self.recipe.runtime.processes if self.recipe.runtime.shard else 1
        own = memory.states(self.student, config, half=self.machine.half)
        if sharing > 1:  # beside its share, each process has the student whole, for rollouts and evaluation
            need = memory.weights(self.student, memory.FLOAT) + (own + peak.gradients) / sharing + peak.activations
        else:
            need = own + peak.all
        need += self._beside(config)
        work = "adapter update" if config.lora else "update"
        yield self._computed(stage, "student", work, self.student, config.steps * rows, length, need, config)
        if isinstance(declared := config.declared, Preference):
            passes = 2 if declared.comparison.needs_divergence else 1
            scored = passes * config.steps * rows
            need = self._resident(config) + self._beside(config)
            need += memory.scoring(self.student, batch, half=self.machine.half)
            yield self._computed(stage, "student", "scoring", self.student, scored, length, need)
        questions = min(config.evaluate_questions, self.counts["validation"])
        if questions:
            points = config.steps // config.evaluate_every + 1
            batch = Batch(
                min(self.recipe.evaluation.batch_size, questions), self.prompt, self.recipe.evaluation.max_tokens
            )
            if self.recipe.evaluation.sampler == "vllm":
                sampling = self._engine()
            else:
                sampling = self._beside_engine(config) + memory.generation(
                    self.student, batch, training=config, half=False, temperature=config.evaluate_temperature
                )
            need = self._resident(config) + self._scorer(config) + sampling
            yield self._generated(stage, "student", "evaluation", self.student, points * questions, batch, need)

    def _resident(self, config: ObjectiveStage) -> float:
        """Bytes of the student between updates, on each GPU."""
        own = memory.states(self.student, config, half=self.machine.half)
        if self.recipe.runtime.shard and self.recipe.runtime.processes > 1:
            return memory.weights(self.student, memory.FLOAT) + own / self.recipe.runtime.processes
        return float(own)

    def _beside(self, config: ObjectiveStage) -> float:
        """Bytes of what lives on the GPU while the student trains: a teacher that scores, an engine that samples."""
        return self._scorer(config) + self._beside_engine(config)

    def _beside_engine(self, config: ObjectiveStage) -> float:
        """Bytes of the engine while it does not sample."""
        rolls_out = config is self.recipe.opd and config.steps and self.recipe.opd.sampler == "vllm"
        measures = self.recipe.evaluation.sampler == "vllm" and config.evaluate_questions
        return self._engine() if (rolls_out or measures) and not self.recipe.opd.vllm.sleep else 0.0

    def _scoring(self, config: ObjectiveStage) -> list[Taught]:
        """The teachers that score in this process."""
        local = [each for each in self.teachers if each.is_here and not each.settings.scores_by_server]
        mixed = {self.recipe.label(name) for name in self.recipe.opd.mixture}
        return [each for each in local if not mixed or each.label in mixed] if config.asks_teacher else []

    def _scorer(self, config: ObjectiveStage) -> int:
        """Bytes of the teachers that score here; one that is a copy of the student is in float32, as that is."""
        return sum(
            memory.weights(each.config, self.size)
            if each.settings.follow is None
            else memory.weights(self.student, memory.FLOAT)
            for each in self._scoring(config)
        )

    def _engine(self) -> float:
        """Bytes of the vLLM engine of the student."""
        return self._share(self.student, self.recipe.opd.vllm.gpu_memory)

    def _share(self, model: Any, gpu_memory: float) -> float:
        """Bytes of an engine: of a GPU the share that the recipe gives to it, else weights and a cache of 1 GiB."""
        if self.machine.half:
            return self.machine.memory * GIB * gpu_memory
        return memory.weights(model, memory.FLOAT) + GIB

    def _evaluation(self) -> Iterator[Line]:
        config, recipe = self.recipe.evaluation, self.recipe
        limit = config.limit or sum(self.counts.values())
        questions = sum(min(limit, self.counts[split]) for split in config.splits)
        samples = sum(1 if decoding == "greedy" else config.samples for decoding in config.decodings)
        rows = questions * samples
        students = 1 + bool(recipe.sft.steps) + bool(recipe.opd.steps)
        batch = Batch(max(1, min(config.batch_size, rows)), self.prompt, config.max_tokens)
        if rows:
            need = self._engine() if config.sampler == "vllm" else None
            yield self._generated("evaluation", "student", "evaluation", self.student, students * rows, batch, need)
        for each in self.teachers if rows else ():
            if each.config is not None:
                need = self._share(each.config, each.settings.gpu_memory) if config.sampler == "vllm" else None
                yield self._generated("evaluation", each.label, "evaluation", each.config, rows, batch, need)

    def _suites(self) -> Iterator[Line]:
        for suite in self.recipe.suites:
            rows = SUITE_QUESTIONS * suite.samples
            batch = Batch(min(self.recipe.evaluation.batch_size, rows), self.prompt, suite.max_tokens)
            need = self._engine() if self.recipe.evaluation.sampler == "vllm" else None
            yield self._generated("suites", "student", f"{suite.name}", self.student, rows, batch, need)

    def _generated(
        self, stage: str, model: str, work: str, config: Any, rows: int, batch: Batch, need: float | None = None
    ) -> Line:
        """Generation of `rows` responses; need: bytes on a GPU, by default those of the frozen model alone."""
        if need is None:
            need = memory.weights(config, self.size) + memory.generation(config, batch, half=self.machine.half)
        flops = _forward(config, rows, self.prompt, batch.response)
        arithmetic = flops / (self.machine.flops * self.machine.utilisation)
        read = memory.weights(config, self.size) + batch.rows * cached_bytes(config, self.size) * (
            self.prompt + batch.response / 2
        )
        reading = rows / batch.rows * batch.response * read / self.machine.bandwidth
        hours = max(arithmetic, reading) / 3600
        return Line(stage, model, work, rows, rows * batch.response, flops, hours, need / GIB, samples=True)

    def _computed(
        self,
        stage: str,
        model: str,
        work: str,
        config: Any,
        rows: int,
        length: int,
        need: float,
        training: ObjectiveStage | None = None,
        prompt: int | None = None,
    ) -> Line:
        """A pass over given tokens, or with `training` an update on them; prompt: before them, None for the usual."""
        flops = PASSES.get(work, 1) * _forward(config, rows, self.prompt if prompt is None else prompt, length)
        again = 4 / 3 if training is not None and training.activation_checkpointing else 1.0
        hours = flops * again / (self.machine.flops * self.machine.utilisation) / 3600
        return Line(stage, model, work, rows, rows * length, flops, hours, need / GIB)


def _counts(recipe: Recipe, questions: int | None) -> dict[str, int]:
    """The number of questions of each split: as the recipe says, or in proportion to those for training."""
    own = recipe.questions
    if own.source == "world":
        counts = {name: int(getattr(own, name)) for name in get_args(SplitName)}
        return counts if questions is None else {**counts, "train": questions}
    train = own.train if questions is None else questions
    shares = own.split.model_dump()
    count = train / shares["train"] if own.has_rows and shares["train"] else float(train)
    return {**{name: round(count * share) for name, share in shares.items()}, "train": train, "hard": 0}


def less_memory(line: Line) -> str:
    """The settings that make a piece of work take less memory."""
    stage = line.stage
    match stage, line.work:
        case "triples", _:
            return "teacher.tensor_parallel, with kind = 'vllm'; or a smaller triples.batch_size"
        case (("evaluation" | "suites"), _):
            return "a smaller evaluation.batch_size"
        case "opd", "rollout":
            return "opd.sampler = 'vllm', or a smaller opd.batch_size"
        case _, "evaluation":
            return "a smaller evaluation.batch_size"
    return (
        f"adapters ({stage}.lora.rank = 32), {stage}.activation_checkpointing = true, a smaller "
        f"{stage}.tokens_per_batch, or runtime.processes and runtime.shard"
    )


def _forward(config: Any, rows: int, prompt: int, length: int) -> float:
    """FLOPs of a forward pass over `rows` equal rows: those of one row, multiplied."""
    return float(rows * cost_of(config).respond([prompt], [length]))
