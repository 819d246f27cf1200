"""The tiny policy that a judge reinforces: its size, its training, and what the study of noisy judges covers."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from cohobate.config.base import Experiment
from cohobate.config.judge import Judge
from cohobate.core.settings import Count, Positive, Share


class TinyPolicyJudge(Judge):
    """The judge of a policy's answers: any model that replies +1 or -1, at an endpoint or in this process."""

    section: ClassVar[str] = "policy.judge"
    limits_section: ClassVar[str] = "policy.judge"


class TinyPolicySettings(Experiment):
    """A bag of words that chooses one of a few fixed answers, and learns from a judge which one is right."""

    key: ClassVar[str] = "policy"
    shipped: ClassVar[str] = "helpdesk"

    answers: tuple[str, ...] = ()
    """Its possible answers; empty: every gold answer of the questions. Each gold answer must be among them."""
    words: Positive = 2000
    """Rows of the embedding: each word has one, by a hash that is the same in every run."""
    embedding: Positive = 32
    """Width of a word's embedding; a question is the mean of its words."""
    hidden: Positive = 64
    """Width of the hidden layer."""
    steps: Positive = 200
    """Optimizer steps."""
    batch: Positive = 64
    """Questions per step, one sampled answer each."""
    lr: Annotated[float, Field(gt=0)] = 0.005
    """Learning rate of Adam."""
    lock_in: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the cross-entropy on answers that were rewarded."""
    keep: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """The running reward is this share of the old one, and the rest of the newest reward."""
    margin: Annotated[float, Field(ge=0)] = 0.05
    """The policy is saved when its running reward beats the best so far by more than this."""
    seed: int = 0
    """Seed of weights, order, samples and noise."""
    judge: TinyPolicyJudge | None = None
    """The language model that judges; None: the exact verifier, which is always right."""
    noise: Share = 0.0
    """Share of the judge's verdicts that are flipped, for study."""
    noise_each_time: bool = False
    """Draw the flipped verdicts again each time a pair is judged; else always those of the same pairs, as a model at
    temperature 0 errs."""
    study_noise: tuple[Share, ...] = (0.0, 0.1, 0.3)
    """Shares of wrong verdicts that the page compares; empty: no study."""
    study_seeds: Count = 5
    """Seeds of each."""

    @model_validator(mode="after")
    def _choices(self) -> Self:
        if len(self.answers) == 1 or len(set(self.answers)) < len(self.answers):
            raise ValueError("answers must be two or more different texts")
        return self
