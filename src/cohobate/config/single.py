"""One prompt, many samples: on-policy distillation on a single prompt, against many prompts and against SFT on it."""

from typing import Annotated

from pydantic import Field

from cohobate.config.base import Count, Positive, Section


class Single(Section):
    """Every arm starts from the student of [sft] and makes as many steps of as many sequences."""

    question: Count = 0
    """Which question of the fresh split is the one prompt."""
    rollouts: Positive = 256
    """Sequences a step: rollouts of the one prompt, or one rollout each of as many prompts, or the teacher's answers to
    the one prompt."""
    steps: Positive = 20
    """Steps of each arm, with the other settings of [opd], or for SFT of [sft]."""
    lr: Annotated[float, Field(gt=0)] = 2e-4
    """The arms' learning rate: the same for all, so that they compare."""
    seeds: Positive = 3
    """Repetitions of each arm."""
    limit: Positive = 1000
    """Held-out questions, from the test split."""
