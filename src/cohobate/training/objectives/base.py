"""The declaration of an objective: its settings, what it needs of teacher and verifier, and its loss.

An objective is one subclass in one file. Recipes, fingerprints, preflight and training read the declaration, so a
recipe can be refused before anything heavy is loaded: neither this module nor that of an objective imports torch, or
what does, outside its methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from cohobate.core.settings import Section

if TYPE_CHECKING:
    from cohobate.config import Opd, Sft
    from cohobate.models.sequence import TrainingSequence
    from cohobate.models.token_loss import Head, TokenLoss
    from cohobate.training.types import ScoredRollout

Settings = TypeVar("Settings", bound=Section)
TrainingStage = Literal["sft", "opd"]


@dataclass(frozen=True)
class TeacherNeeds:
    """The scores that an objective needs beside the log-probabilities of the tokens themselves.

    hidden: last hidden states, of which whole distributions are made; top_k: so many of the most probable tokens, None
    for none; ghosts: the most probable token; spans: log-probabilities of spans of text, from a teacher with another
    tokenizer.
    """

    hidden: bool = False
    top_k: int | None = None
    ghosts: bool = False
    spans: bool = False

    @property
    def listed(self) -> int:
        """How many of the most probable tokens a server has to list."""
        return max(self.top_k or 0, int(self.ghosts))


class Objective(ABC, Generic[Settings]):
    """An objective with the settings of its stage, `config`, and those of its own section, `own`.

    The first paragraph of a subclass's docstring is its line in the description of `objective`.
    """

    stage: ClassVar[TrainingStage]
    """The stage that it trains."""
    name: ClassVar[str]
    """Its name in a recipe."""
    settings: ClassVar[type[Section]] = Section
    """The model of its section [STAGE.NAME]; a model without fields makes none."""
    version: ClassVar[int] = 1
    """Raised when the same settings train another student than before; from 2 on it is part of the identity."""
    for_server: ClassVar[str] = ""
    """The key with which the teacher's most probable tokens are enough, so that a server can score; empty: none."""
    dropout: ClassVar[bool] = False
    """Whether the student's dropout acts in its updates."""
    across_tokenizers: ClassVar[str] = ""
    """How a recipe asks for scores by a teacher with another tokenizer; empty: it cannot."""

    config: Any

    def __init__(self, config: Any) -> None:
        self.config = config
        self.own: Settings = getattr(config, self.name, None)  # type: ignore[assignment]

    @property
    def needs(self) -> TeacherNeeds | None:
        """Its needs of the teacher; None: no teacher scores."""
        return None

    @property
    def samples_needed(self) -> int:
        """The responses to a question, among the triples, without which it would learn nothing."""
        return 1

    def refusals(self) -> Iterator[str]:
        """A sentence on each setting of the stage that does not go with the objective, and what to set."""
        yield from ()

    @abstractmethod
    def loss(self, teacher_head: Head | None) -> TokenLoss:
        """The loss per token; teacher_head gives the teacher's logits from its hidden states, where it is loaded."""


class OffPolicyObjective(Objective[Settings]):
    """An objective of [sft]: it learns from the triples, scored by the teacher where it needs that."""

    stage: ClassVar[TrainingStage] = "sft"
    dropout: ClassVar[bool] = True
    config: Sft


class OnPolicyObjective(Objective[Settings]):
    """An objective of [opd]: it learns from the student's rollouts."""

    stage: ClassVar[TrainingStage] = "opd"
    config: Opd

    @property
    def rewarded(self) -> bool:
        """Whether a verifier judges each rollout."""
        return False

    @property
    def compares_group(self) -> bool:
        """Whether it compares the rollouts of a question, so that one alone would teach nothing."""
        return self.rewarded

    @property
    def references(self) -> Literal["triples", "gold"] | None:
        """The given responses that it needs beside the rollouts, as `Rollout.ghost_ids`.

        triples: those of the triples, whose questions are then rolled out on. gold: the gold responses of the fresh
        questions, of which the others are left out.
        """
        return None

    @property
    def on_policy_share(self) -> float:
        """Share of the steps that learn from rollouts; the others learn from the triples, scored by the teacher."""
        return 1.0

    @property
    def prices_length(self) -> bool:
        """Whether it learns the rollouts as they were sampled, so that a price on their length can be added."""
        return True

    def overlap_conflicts(self) -> Mapping[str, str]:
        """Settings that are wrong where rollouts are one step off-policy: {key below [opd]: why, and what to set}."""
        return {}

    def sequences(self, rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        """The sequences of a batch of rollouts, in order, with those of a group side by side.

        Unless overridden, each rollout as it was sampled.
        """
        return [rollout.sequence() for rollout in rollouts]


def on_policy(config: Opd) -> OnPolicyObjective[Any]:
    """The declaration of the objective that `config` names, with what training needs of it."""
    declared = config.declared
    assert isinstance(declared, OnPolicyObjective)
    return declared


def off_policy(config: Sft) -> OffPolicyObjective[Any]:
    """The declaration of the objective that `config` names, with what training needs of it."""
    declared = config.declared
    assert isinstance(declared, OffPolicyObjective)
    return declared


def loaded(teacher_head: Head | None) -> Head:
    """`teacher_head`. Raises ValueError without one."""
    if teacher_head is None:
        raise ValueError("this objective needs the teacher's output layer")
    return teacher_head
