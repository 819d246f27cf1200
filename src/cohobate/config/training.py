"""Settings of every training stage: optimizer, schedule, adapters, alarms."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cohobate.core.settings import EXECUTION, Count, Memory, Positive, Section, Share


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning."""

    rank: Positive = 32
    """Of each adapter."""
    alpha: Positive = 64
    """The adapters' output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the adapters' input, in updates of SFT only: on-policy updates have no dropout."""
    targets: tuple[str, ...] = ()
    """Names of the layers that get one, such as "q_proj"; empty: every linear layer but the output head."""


class Alarms(Section):
    """Signs of a run gone wrong: each is compared with the mean of the first five steps, and rings when it lasts for
    `patience` steps in a row. The run then ends with the student of the last snapshot before them. None: never.
    """

    reverse_kl: Annotated[float, Field(gt=0)] | None = 1.0
    """Rise of the reverse KL, in nats per token."""
    entropy: Share | None = None
    """Share of the student's entropy that must be left."""
    length: Annotated[float, Field(gt=1)] | None = 4.0
    """Growth of the rollouts' mean length, as a factor."""
    truncated: Share | None = 0.6
    """Rise of the share of truncated rollouts."""
    repetition: Share | None = 0.3
    """Rise of the share of repeated 4-grams."""
    mismatch: Annotated[float, Field(gt=0)] | None = 0.05
    """KL between the policy that sampled and the trainer's, in nats per token."""
    patience: Positive = 5
    """Steps in a row."""


class Training(Section):
    """Settings of every training stage."""

    steps: Count = 200
    """Optimizer steps; 0 passes the student on as it is."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate of AdamW."""
    min_lr_ratio: Share = 0.05
    """Learning rate at the end, as a share of the peak."""
    warmup: Count = 10
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW, on matrices only."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient norm."""
    seed: int = 0
    """Seed of order and noise."""
    evaluate_every: Positive = 50
    """Steps between evaluation points on the validation split."""
    evaluate_questions: Count = 200
    """Validation questions of an evaluation point."""
    evaluate_temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the answers at an evaluation point; 0 is greedy."""
    snapshot_every: Memory = 20
    """Steps between snapshots: what a kill makes the run replay."""
    tokens_per_batch: Memory = 2048
    """Padded tokens that pass through the model at a time (gradient accumulation)."""
    keep_scores: Annotated[bool, EXECUTION] = False
    """Keep the scores of a teacher in this process on disk, those of two steps at most, so that a run that is killed
    does not score again the step it was in, nor with opd.overlap the one ahead. Those of a server are always kept,
    until a snapshot is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products, and of those of the teacher that scores; weights and optimizer are float32.
    auto: bfloat16 on a GPU, float32 on a CPU, where bfloat16 is faster only with instructions for it."""
    activation_checkpointing: Annotated[bool, EXECUTION] = False
    """Recompute activations in the backward pass: less memory, a third more work."""
    lora: Lora | None = None
    """LoRA adapters; None: full fine-tuning."""
    alarms: Alarms = Alarms()
    """When a run is stopped and rolled back."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.steps and self.warmup > self.steps:
            raise ValueError(f"warmup {self.warmup} is longer than the {self.steps} steps")
        return self
