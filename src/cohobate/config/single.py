"""One prompt, many samples: on-policy distillation on a single prompt, against many prompts and against SFT on it."""

from typing import Annotated, ClassVar

from pydantic import Field

from cohobate.config.base import Experiment
from cohobate.core.settings import Count, Positive, Share

Rate = Annotated[float, Field(gt=0)]


class Single(Experiment):
    """Every arm starts from the student of [sft] and makes as many steps of as many sequences."""

    key: ClassVar[str] = "single"
    shipped: ClassVar[str] = "oneprompt"

    bare: Share = 0.0
    """Share of the triples, drawn by the hash of the question, of which the start learns `Answer: ...` alone, as from
    data without rationales: it can answer with chain of thought, but does not always. The arms' teacher always does."""
    question: Count = 0
    """Which question of the fresh split is the one prompt."""
    rollouts: Positive = 256
    """Sequences per step: rollouts of the one prompt, or one rollout each of as many prompts, or the teacher's answers
    to the one prompt."""
    steps: Positive = 20
    """Steps of each arm, with the other settings of [opd], or for SFT of [sft]."""
    lr: Rate = 2e-4
    """Learning rate of both OPD arms."""
    sft_lr: Annotated[tuple[Rate, ...], Field(min_length=1)] = (2e-4,)
    """Learning rates of SFT on the one prompt, an arm each: what generalises best may fit least."""
    seeds: Positive = 3
    """Repetitions of each arm."""
    limit: Positive = 1000
    """Held-out questions, from the test split."""
