"""Personalisation without forgetting: what is learnt, mixed with how much chat, and how it is examined."""

from typing import Annotated, ClassVar

from pydantic import Field

from cohobate.config.base import Experiment
from cohobate.config.compare import Changes
from cohobate.core.settings import EXECUTION, Positive, Section, Share


class Handbook(Section):
    """Documents to learn, with questions about them. Their content counts, not their place."""

    documents: Annotated[str, EXECUTION]
    """A .md or .txt file, a folder or a glob."""
    practice: Annotated[str | None, EXECUTION] = None
    """A questions file (question, gold_answer) that is learnt beside the passages; None: passages only."""
    exam: Annotated[str, EXECUTION]
    """A questions file (question, gold_answer) that is never learnt."""


class Adapters(Section):
    """The arm with adapters: what it changes in mid-training and recovery, its own rates among it."""

    sft: Changes
    """Changes of [sft], such as {lr = 4e-3, lora = {rank = 16, alpha = 32}}."""
    opd: Changes
    """Changes of [opd]."""


_WORLD = tuple(
    Handbook(documents=f"world/{name}", practice=f"world/{name}/practice.jsonl", exam=f"world/{name}/exam.jsonl")
    for name in ("handbook", "handbook-2")
)


class Recover(Experiment):
    """Mid-train the student on documents mixed with chat, then recover what it lost from the checkpoint before that.

    Mid-training uses the settings of [sft], recovery those of [opd]; the student's model is the reference checkpoint.
    """

    key: ClassVar[str] = "recover"
    shipped: ClassVar[str] = "handbook"

    handbooks: Annotated[tuple[Handbook, ...], Field(min_length=1, max_length=2)] = _WORLD
    """The handbooks that are learnt; the second one in a second round, after the first is learnt and recovered from."""
    words: Positive = 60
    """Longest passage, in words."""
    documents: tuple[Share, ...] = (1.0, 0.7, 0.5)
    """Shares of the sequences of a batch that come from the handbook; the others are chat."""
    again: Share | None = 0.7
    """With which of these shares the second handbook is learnt; None: no second round."""
    lora: Adapters | None = None
    """A further arm at the share `again`, or else the first one, mid-trained and recovered with adapters."""
    chat: Annotated[str, EXECUTION] = "world"
    """world: arithmetic, instructions and requests of the embedded world. Else a questions file whose train split is
    answered by the reference checkpoint for the mix, whose fresh split is rolled out on, and whose test split, with
    gold answers, shows what was lost; triples.verifier judges those replies, and the answers to the handbook's exam."""
    limit: Positive | None = None
    """A questions file: how many first prompts of its test split are asked; None: all."""
    chat_prompts: Positive = 2000
    """world: prompts of the mix."""
    fresh_prompts: Positive = 6000
    """world: prompts of the recovery."""
    exam_prompts: Positive = 400
    """world: prompts that show what was lost."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """At which the reference checkpoint answers the prompts of the mix."""
    max_tokens: Positive = 128
    """Longest reply in the mix and in the exams."""
    seeds: Positive = 3
    """Repetitions with other seeds of order and noise; intervals are over these."""
