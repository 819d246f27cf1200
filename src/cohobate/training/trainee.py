"""The student in training: its precision, activation checkpointing, adapters, and the model that is published."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from cohobate.config import ObjectiveStage, Training
from cohobate.core import progress
from cohobate.models import precision
from cohobate.models.loading import LoadedModel, save
from cohobate.training.distributed import ALONE, World
from cohobate.training.learner import Learner, copy_full_weights, sharded
from cohobate.training.lora import hold_in_half, unadapted_experts, with_lora
from cohobate.training.moving_average import MovingAverage


class Trainee:
    """A student prepared for training with `config`. base: the base model's name in the adapter's configuration.

    The learner is trained; the student rolls out and is evaluated. They share their weights, unless these are sharded
    over the processes of `world`: then `sync` copies them. average: the weights of a teacher that follows it, if any.

    Raises UserError where LoRA is not installed or does not fit the student.
    """

    def __init__(
        self,
        student: LoadedModel,
        config: Training,
        base: str,
        world: World = ALONE,
        *,
        shard: bool = False,
        average: MovingAverage | None = None,
    ) -> None:
        self.student, self.config, self.world, self.is_sharded = student, config, world, shard
        self.average = average
        self.peft: Any = with_lora(student.model, config, base) if config.lora else None
        # Sharded layers have one precision.
        if self.peft is not None and not shard and precision.half_products(config.precision, student.device):
            hold_in_half(student.model)
        if self.peft is not None and world.first and (left := unadapted_experts(student.model)):
            progress.say(f"LoRA adapts no experts of {type(student.model).__name__}: {left:,} weights stay as they are")
        if config.activation_checkpointing:
            # The older of the two names is deprecated in newer releases of transformers.
            enable = getattr(student.model, "activation_checkpointing_enable", None)
            (enable or student.model.gradient_checkpointing_enable)({"use_reentrant": False})
        self.learner = sharded(student.model) if shard else Learner(student.model)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: p for name, p in self.learner.model.named_parameters() if p.requires_grad}

    def begin_update(self) -> Learner:
        """The learner, ready to compute gradients: without dropout, where the objective has none.

        The policy that sampled has no dropout. With it the update would be one of another policy.
        """
        drops = not isinstance(self.config, ObjectiveStage) or self.config.declared.dropout
        for module in (self.student.model, self.learner):
            module.train(drops)
            if not drops:
                _recompute_without_dropout(module)
        return self.learner

    def lead(self) -> None:
        """Let the teacher follow, where it does; once after each update."""
        if self.average is not None:
            self.average.follow(self.learner.model)

    def sync(self) -> None:
        """Bring the student up to date with the learner."""
        if self.is_sharded:
            copy_full_weights(self.learner, self.student.model)

    def precision(self) -> AbstractContextManager[Any]:
        """The context of rollouts and updates: bfloat16 products of float32 weights, or plain float32."""
        return precision.products(self.config.precision, self.student.device)

    def publish(self, folder: Path) -> None:
        """Write model/ and, with LoRA, adapter/ below `folder`, in the precision of the products."""
        model = self.student.model
        if self.peft is not None:
            # Otherwise peft would ask the network whether the vocabulary was resized.
            self.peft.save_pretrained(folder / "adapter", save_embedding_layers=False)
            (folder / "adapter" / "README.md").unlink(missing_ok=True)  # an empty template
            model = self.peft.merge_and_unload()
        half = precision.half_products(self.config.precision, self.student.device)
        student = self.student
        save(model.bfloat16() if half else model, student.tokenizer, folder / "model", student.path)


def _recompute_without_dropout(model: Any) -> None:
    """Put layers whose activations are recomputed, which they are in train mode alone, in that mode without dropout.

    The modules within them stay in eval mode; what a layer drops by itself has its rate among its attributes.
    """
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
            for name, value in vars(module).items():
                if isinstance(value, float) and ("drop" in name or "jitter" in name):
                    setattr(module, name, 0.0)
