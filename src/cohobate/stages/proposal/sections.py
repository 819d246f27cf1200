"""The whole proposal: the sections of a recipe from what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cohobate.config import VERIFIERS, Recipe
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.core.sanitize import one_line
from cohobate.core.user_code import is_function_name
from cohobate.stages.hardware import Hardware, hardware
from cohobate.stages.proposal import questions, teacher, training
from cohobate.stages.proposal.draft import Draft
from cohobate.stages.proposal.questions import QuestionsPlan
from cohobate.stages.proposal.teacher import TeacherPlan
from cohobate.stages.proposal.wishes import Wishes
from cohobate.stages.taught import shape

# What a teacher is asked beside the question, so that its final answer is found.
_STEPS = "{question}\nThink step by step, then write the final answer on a line of its own, as Answer: ..."
# Samples of a question, up to so many training questions.
_SAMPLES = ((200, 4), (2000, 2))

_FLAGS = {
    "questions.source": "--questions",
    "questions.path": "--questions",
    "teacher.kind": "--teacher",
    "teacher.model": "--teacher or --teacher-model",
    "teacher.base_url": "--teacher",
    "student.model": "--student",
    "triples.verifier": "--verifier",
    "triples.verifier.name": "--verifier",
}


@dataclass(frozen=True)
class Proposal:
    """A recipe that loads, the file's text, and what it was made for. training_questions: those the teacher answers."""

    recipe: Recipe
    draft: Draft
    hardware: Hardware
    training_questions: int


def propose(wishes: Wishes, name: str) -> Proposal:
    """The recipe called `name`. Raises a UserError in one sentence for whatever cannot be used."""
    _no_flags(wishes.overrides)
    if wishes.verifier is not None and wishes.verifier not in VERIFIERS and not is_function_name(wishes.verifier):
        raise RecipeError(f"--verifier {wishes.verifier}: give {', '.join(VERIFIERS)}, or your own as module:function")
    # What is read in no time comes first, so that a mistake is reported at once.
    columns = questions.guessed(wishes)
    for folder in (wishes.student, *([] if teacher.is_server(wishes.teacher) else [wishes.teacher])):
        shape(folder)
    machine = hardware(wishes.gpu)
    taught = teacher.plan(wishes, machine)
    learner = training.student(wishes.student, taught)
    planned = questions.plan(wishes, columns, on_policy=learner.objective is not None)
    draft = Draft()
    draft.set("", name=name, description=f"{wishes.student} learns from {wishes.teacher}.")
    _questions(draft, planned)
    _teacher(draft, taught, planned)
    draft.set("student", model=wishes.student)
    tokens = _longest(taught, learner)
    samples = _samples(draft, taught, planned, tokens)
    _verifier(draft, taught, planned)
    training.train(draft, machine, learner, planned, tokens, samples)
    if wishes.nightly:
        draft.set("gate", "a night's data replaces the promoted ones only within this", overall=0.05, shared=0.0)
    draft.override(wishes.overrides)
    return Proposal(draft.recipe(), draft, machine, planned.counts.get("train", 0))


def _no_flags(overrides: Sequence[str]) -> None:
    """Raise RecipeError for an override that a flag says, from which much else follows."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _FLAGS:
            raise RecipeError(f"--set {override}: give it as {_FLAGS[key]}, since other settings are chosen by it")


def _questions(draft: Draft, planned: QuestionsPlan) -> None:
    if not planned.counts.get("train"):
        raise QuestionsError(f"{planned.section['path']} gives no question to training; its column 'split' says so")
    if not any(planned.counts.get(split) for split in ("test", "hard", "validation")):
        raise QuestionsError(
            f"{planned.section['path']} has a column 'split' that leaves no question to test with; rename it, and the "
            "splits are drawn"
        )
    comments = {
        "path": f"{planned.rows:,} questions",
        "columns": f"the file has: {', '.join(planned.guess.names)}"[:200],
        "gold_after": "the gold answer is what stands behind the last one",
        "repeated": f"{planned.repeated:,} rows repeat an earlier question",
        "split": ", ".join(f"{split} {count:,}" for split, count in sorted(planned.counts.items())),
        "seed": "of the draw of the splits",
    }
    for key, value in planned.section.items():
        draft.set("questions", one_line(comments.get(key, "")), **{key: value})


def _teacher(draft: Draft, taught: TeacherPlan, planned: QuestionsPlan) -> None:
    for key, value in taught.section.items():
        draft.set("teacher", one_line(taught.notes.get(key, "")), **{key: value})
    if taught.is_world:  # trained on the default prompt
        return
    if planned.is_open:
        draft.set("teacher", prompt="{question}")
        draft.set("teacher", "the whole text is the answer", answer="response")
    else:
        draft.set("teacher", "so that the final answer is found", prompt=_STEPS)


def _longest(taught: TeacherPlan, learner: training.Student) -> int:
    """Tokens of the longest response: what the teacher may write, with room for it in the student's context."""
    longest = int(taught.sampling["max_tokens"])
    return longest if learner.context is None else max(1, min(longest, learner.context // 2))


def _samples(draft: Draft, taught: TeacherPlan, planned: QuestionsPlan, tokens: int) -> int:
    """Put the sampling of [triples] into `draft`; the responses to each question."""
    samples = next((count for most, count in _SAMPLES if planned.counts["train"] <= most), 1)
    draft.set("triples", "responses to each question: few questions get more", samples=samples)
    for key, value in {**taught.sampling, "max_tokens": tokens}.items():
        draft.set("triples", taught.notes.get(key, ""), **{key: value})
    return samples


def _verifier(draft: Draft, taught: TeacherPlan, planned: QuestionsPlan) -> None:
    if planned.verifier != "judge":
        if planned.missing:
            draft.set("triples", f"{planned.missing:,} questions without an answer are not asked", without_gold="skip")
        draft.set("triples.verifier", "how answers are compared with the gold ones", name=planned.verifier)
        return
    if planned.is_open:
        draft.set("sft", "all: the judge's word is no gold; correct: what it finds right", select="all")
    section = "triples.verifier"
    draft.set(section, "a model judges, here the teacher itself: a stronger one is better", name="judge")
    names = ("kind", "model", "provider", "base_url", "api_key_env", "limit_name", "price_input", "price_output")
    judge = {name: taught.section[name] for name in names if name in taught.section}
    if judge.get("kind") == "vllm":
        judge["kind"] = "local"
    draft.set(f"{section}.judge", **judge)
