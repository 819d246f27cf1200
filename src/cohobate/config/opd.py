"""The two stages that train the student; the settings of an objective stand in the objective's own file."""

from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import Field, model_validator

from cohobate.config.objectives import ObjectiveStage, OnPolicyDeclaration, with_objectives
from cohobate.core.settings import EXECUTION, Memory, Positive, PositiveShare, Section


@with_objectives("sft")
class Sft(ObjectiveStage):
    """Supervised fine-tuning of the student on the triples."""

    format: Literal["chat", "plain"] = "chat"
    """chat: the model's template, loss on the completion. plain: question<sep>rationale<sep>answer, loss on all."""
    separator: str = " ### "
    """Between the parts of a plain sequence."""
    select: Literal["all", "correct", "first_correct", "shortest_correct"] = "correct"
    """Which triples are learnt: every one, the verified ones, or the first or shortest verified one of a question."""
    turns: Literal["last", "all"] = "last"
    """Which assistant turns of a conversation are learnt. last: the teacher's response. all: also those that the
    question brings, each behind the prompt that asks for it."""
    batch: Positive = 64
    """Sequences per step; a pair of a preference objective is two."""
    end: Literal["teacher", "student"] = "teacher"
    """The token that is taught behind a response: the one that the teacher uses there (or the student's template, where
    the teacher's tokens are not the student's or not known), or that of the student's tokenizer."""

    def identity(self) -> dict[str, Any]:
        defaults = {"end": "teacher", "turns": "last"}  # artifacts that are older than these settings stay the same
        values = super().identity()
        return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}

    @model_validator(mode="after")
    def _turns_of_chat(self) -> Self:
        if self.turns == "all" and self.format == "plain":
            raise ValueError("turns = 'all' is for format = 'chat'; plain learns every token of a conversation anyway")
        return self


class StudentEngine(Section):
    """The vLLM engine of the student, which samples its rollouts, its evaluation, or both."""

    section: ClassVar[str] = "opd.vllm"
    """Its name in messages."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of weights and activations; auto: float32 on a CPU, bfloat16 on a GPU."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a GPU's memory that it takes; the rest is the trainer's."""
    max_length: Positive | None = None
    """Most tokens of prompt and response together; a smaller one needs less memory. None: the model's."""
    tensor_parallel: Positive = 1
    """GPUs that share the model."""
    sleep: bool = False
    """Give the GPU's memory back while the student is trained; then gpu_memory may be large. A CPU cannot."""


class Length(Section):
    """A price on the length of rollouts, as part of their reward."""

    target: Positive | None = None
    """Tokens that cost nothing; None: every token costs."""
    price: Annotated[float, Field(gt=0)] = 1.0
    """Reward lost by a rollout of twice the target; without a target, by one of max_tokens tokens."""


@with_objectives("opd")
class Opd(ObjectiveStage):
    """On-policy distillation: the student learns from its own rollouts, by the teacher's scores or a reward."""

    prompts: Positive = 64
    """Questions per step, from the fresh split."""
    group: Positive = 2
    """Rollouts per question."""
    sampler: Annotated[Literal["local", "vllm"], EXECUTION] = "local"
    """Where the rollouts are sampled. local: this process. vllm: an engine beside it, which gets the new weights before
    each batch of rollouts."""
    vllm: Annotated[StudentEngine, EXECUTION] = StudentEngine()
    """Settings of that engine."""
    overlap: bool = False
    """Sample, score and judge the rollouts of the next step while the student learns from this one's: they are one step
    off-policy, never more. Faster where another device, an engine or a server does that work; the local sampler keeps
    a copy of the weights for it."""
    max_tokens: Positive = 128
    """Longest rollout; a truncated one is learnt from too."""
    batch_size: Memory = 256
    """local: rollouts generated at a time."""
    train_tokens: Positive | None = None
    """Learn only from so many first tokens of each rollout; None: all."""
    updates: Positive = 1
    """Optimizer steps on each batch of rollouts. With the preference objectives a batch is a round, and in its first
    step the student is the reference: 4 or more let the reference hold."""
    temperature: float = 1.0
    """Of the rollouts; only 1 is on-policy."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Largest importance weight of the policy-gradient objectives."""
    advantage_clip: Annotated[float, Field(gt=0)] | None = 10.0
    """Bound of the advantage that is the teacher's log-prob less the student's, in nats; None is off."""
    length: Length | None = None
    """A price on tokens, so that responses become shorter; None: none."""
    mixture: dict[str, PositiveShare] = {}
    """Of several teachers, the shares of those that score every rollout together, such as {big = 0.7, own = 0.3};
    empty: each is scored by the teacher that its question is routed to."""

    def identity(self) -> dict[str, Any]:
        values = super().identity()  # artifacts that are older than these settings stay the same
        return {name: value for name, value in values.items() if name not in ("length", "mixture") or value}

    @property
    def declared(self) -> OnPolicyDeclaration:
        """The declaration of the objective, with these settings."""
        return cast(OnPolicyDeclaration, super().declared)

    @property
    def is_rewarded(self) -> bool:
        """Whether a verifier judges the rollouts."""
        return self.declared.rewarded

    @property
    def uses_triples(self) -> bool:
        """Whether it learns from the triples too."""
        return self.declared.references == "triples" or self.declared.on_policy_share < 1

    @model_validator(mode="after")
    def _on_policy(self) -> Self:
        if self.temperature != 1:
            raise ValueError(
                f"temperature is {self.temperature:g}, but rollouts must be drawn at 1: "
                "at any other the log-probabilities of sampler and trainer disagree"
            )
        return self

    @model_validator(mode="after")
    def _one_step_off_policy(self) -> Self:
        if not self.overlap:
            return self
        conflicts = dict(self.declared.overlap_conflicts())
        if self.updates > 1:
            conflicts["updates"] = "rollouts would be more than one step off-policy; set it to 1"
        if self.sampler == "vllm" and self.vllm.sleep:
            conflicts["vllm.sleep"] = "the engine cannot give its memory back while it samples; set it to false"
        for key, why in conflicts.items():
            raise ValueError(f"overlap does not go with this {key}: {why}, or overlap to false")
        return self

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.length is None:
            return self
        if not self.declared.prices_length:
            raise ValueError(
                f"objective = '{self.objective}' does not learn the rollouts as sampled; drop [opd.length]"
            )
        if self.group < 2:
            raise ValueError("length compares the rollouts of a question; set group to 2 or more")
        if self.length.target is not None and self.length.target >= self.max_tokens:
            raise ValueError(
                f"length.target is {self.length.target}, but no rollout is longer than max_tokens = {self.max_tokens}; "
                "lower the target"
            )
        return self

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.steps and self.group < 2 and self.declared.compares_group:
            raise ValueError(f"objective = '{self.objective}' compares rollouts of a question; set group to 2 or more")
        return self
