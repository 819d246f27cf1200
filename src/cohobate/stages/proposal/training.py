"""[sft], [opd] and [evaluation]: steps by the number of rows, learning rates by the size, memory by the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import context_of
from cohobate.models.model_cost import cost_of
from cohobate.stages.estimate import Machine, estimate
from cohobate.stages.hardware import Hardware
from cohobate.stages.proposal.draft import Draft
from cohobate.stages.proposal.questions import QuestionsPlan
from cohobate.stages.proposal.teacher import TeacherPlan
from cohobate.stages.taught import shape

_MILLION = 1_000_000
# Learning rates of full fine-tuning, of SFT and of on-policy distillation, up to so many parameters.
_RATES = ((10, 2e-3, 3e-4), (300, 3e-4, 1e-4), (1000, 1e-4, 1e-5), (10**9, 5e-5, 5e-6))
_ADAPTERS = 10  # adapters take ten times the learning rate of full fine-tuning
_EPOCHS = 3
# Of the memory: libraries keep the rest.
_ROOM = 0.9
_SMALL = 10 * _MILLION  # parameters of a student that fits anywhere
_PROMPT = 200  # tokens that the estimate counts for a prompt


@dataclass(frozen=True)
class Memory:
    """Settings that take less memory from one to the next; lora: adapters instead of full fine-tuning."""

    tokens: int
    rows: int
    checkpointing: bool = False
    lora: bool = False


_GPU = (Memory(16384, 128), Memory(8192, 64), Memory(4096, 32, True), Memory(4096, 16, True, True))
_CPU = (Memory(2048, 64), Memory(1024, 16), Memory(1024, 8, True), Memory(1024, 8, True, True))
_LEAST = Memory(512, 4, True, True)


@dataclass(frozen=True)
class Student:
    """The student, and how the teacher's scores can reach it. objective: of opd; None: its text alone is learnt."""

    model: str
    parameters: int
    context: int | None
    objective: str | None
    spans: bool = False


def student(model: str, teacher: TeacherPlan) -> Student:
    """The student of this name, and whether it can learn on-policy from `teacher`. Raises ModelError."""
    config = shape(model)
    parameters, context = cost_of(config).params, context_of(config)
    if not teacher.is_folder:
        return Student(model, parameters, context, None)
    if _share_tokens(teacher.section["model"], model):
        return Student(model, parameters, context, "exact")
    return Student(model, parameters, context, "sampled", spans=True)


def _share_tokens(teacher: str, model: str) -> bool:
    """Whether both have the same tokenizer; of models that are not here yet, whether they are of one family."""
    from cohobate.models.loading import model_path, outline, refuse_mismatch

    try:
        folders = [model_path(name) for name in (teacher, model)]
    except ModelError:
        return _family(teacher) == _family(model)
    outlines = [outline(folder) for folder in folders]
    try:
        refuse_mismatch(*outlines)
    except ModelError:
        return False
    return True


def _family(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].partition("-")[0].lower()


def train(
    draft: Draft, hardware: Hardware, learner: Student, questions: QuestionsPlan, tokens: int, samples: int
) -> None:
    """Put [sft], [opd], [evaluation] and [runtime] into `draft`: the first settings that fit into the memory.

    tokens: the longest response. Raises ModelError where none fits.
    """
    levels = [*(_CPU if hardware.device == "cpu" else _GPU), _LEAST]
    for level in levels if learner.parameters > _SMALL else levels[:1]:
        _settings(draft, hardware, learner, questions, tokens, samples, level)
        if learner.parameters <= _SMALL or _fits(draft, hardware.machine, questions):
            return
    raise ModelError(
        f"{learner.model} does not fit into the {hardware.machine.memory:.0f} GiB of {hardware.name}, even by adapters "
        "and in the smallest batches; choose a smaller student or teacher, or another --gpu"
    )


def _fits(draft: Draft, machine: Machine, questions: QuestionsPlan) -> bool:
    lines = estimate(draft.recipe(), machine, _PROMPT, questions.counts["train"])
    return max(line.memory for line in lines) <= _ROOM * machine.memory


def _settings(
    draft: Draft,
    hardware: Hardware,
    learner: Student,
    questions: QuestionsPlan,
    tokens: int,
    samples: int,
    level: Memory,
) -> None:
    rate, on_policy_rate = next(rates[1:] for rates in _RATES if learner.parameters <= rates[0] * _MILLION)
    factor = _ADAPTERS if level.lora else 1
    why = "adapters take ten times the rate of full fine-tuning" if level.lora else "by the student's size"
    counts = questions.counts
    rows = counts["train"] * samples
    batch = min(64, max(4, rows // 4))
    steps = min(max(_EPOCHS * rows // batch, 10), 1000)
    small = learner.parameters <= _SMALL
    memory: dict[str, Any] = {} if small else {"tokens_per_batch": level.tokens}
    memory |= {"activation_checkpointing": True} if level.checkpointing else {}
    if not small and draft.values()["teacher"].get("kind") != "endpoint":
        draft.set("triples", "responses generated at a time", batch_size=level.rows)
    draft.set("sft", f"about {_EPOCHS} times through what is right of {rows:,} responses", steps=steps)
    draft.set("sft", batch=batch)
    draft.set("sft", why, lr=rate * factor)
    draft.set("sft", **_cadence(steps, counts), **memory)
    on_policy = learner.objective is not None and counts.get("fresh", 0) > 0
    if on_policy:
        _on_policy(draft, learner, counts, tokens, on_policy_rate * factor, level, memory)
    else:
        reason = "fresh questions are needed" if learner.objective else "a server's text alone is learnt from"
        draft.set("opd", f"no on-policy distillation: {reason}", steps=0)
    if level.lora:
        for section in ("sft", *(["opd"] if on_policy else [])):
            draft.set(f"{section}.lora", rank=32, alpha=64)
    _evaluation(draft, hardware, learner, counts, tokens, level)


def _on_policy(
    draft: Draft,
    learner: Student,
    counts: dict[str, int],
    tokens: int,
    rate: float,
    level: Memory,
    memory: dict[str, Any],
) -> None:
    prompts = min(64, counts["fresh"])
    steps = min(max(2 * counts["fresh"] // prompts, 10), 200)
    draft.set("opd", _WHY[learner.objective or ""], objective=learner.objective)
    draft.set("opd", "two rollouts of each fresh question, or more of few", steps=steps)
    draft.set("opd", prompts=prompts, group=1, lr=rate, max_tokens=tokens, **_cadence(steps, counts), **memory)
    if learner.parameters > _SMALL:
        draft.set("opd", "rollouts generated at a time", batch_size=level.rows)
    if learner.spans:
        draft.set("opd.sampled", "the tokenizers differ, so text is scored", spans=True)


_WHY = {
    "exact": "reverse KL over the whole vocabulary",
    "sampled": "the teacher's probability of what was sampled",
}


def _cadence(steps: int, counts: dict[str, int]) -> dict[str, Any]:
    """Warm-up and evaluation points of so many steps."""
    return {
        "warmup": min(10, steps // 5),
        "evaluate_every": max(1, steps // 4),
        "evaluate_questions": min(200, counts.get("validation", 0)),
    }


def _evaluation(
    draft: Draft, hardware: Hardware, learner: Student, counts: dict[str, int], tokens: int, level: Memory
) -> None:
    splits = [split for split in ("test", "hard") if counts.get(split)]
    draft.set("evaluation", splits=splits or ["validation"], decodings=["greedy"], max_tokens=tokens)
    if learner.parameters > _SMALL:
        draft.set("evaluation", "responses generated at a time", batch_size=level.rows)
    most = 200 if hardware.device == "cpu" and learner.parameters > _SMALL else 1000
    if max((counts[split] for split in splits), default=0) > most:
        draft.set("evaluation", "questions of each split", limit=most)
