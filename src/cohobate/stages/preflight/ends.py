"""The check of ends: the teacher must give the student's end of a response the probability of an end."""

from __future__ import annotations

from typing import Any

from cohobate.core.errors import CohobateError
from cohobate.stages.preflight.scope import Scope

_QUESTIONS = ("What is 2 + 3?", "Name a colour.")
_LONGEST = 96  # tokens of the teacher's own text
# Below the teacher's best end by this many nats, an end is none: a model is sure of its own by a fraction of a nat.
_APART = 5.0
# A response that is whole, where the teacher's own are not within `_LONGEST`.
_WHOLE = "2 + 3 = 5.\nAnswer: 5"


def ends(scope: Scope) -> str:
    """The teacher ends its own text where the student's end would stand."""
    teacher, student = scope.loaded["teacher"], scope.loaded["student"]
    end = _student_end(scope, student)
    measured = _measured(scope, teacher, sorted({end, *student.eos_ids, *teacher.eos_ids}))
    best = max(measured, key=lambda each: measured[each])
    names = {each: repr(student.tokenizer.decode([each])) for each in measured}
    if not measured[end] > measured[best] - _APART:
        raise CohobateError(
            f"the student ends a response with {names[end]} (id {end}), to which the teacher gives {measured[end]:.1f} "
            f"nats behind its own text, and {measured[best]:.1f} to {names[best]} (id {best}), so the student would "
            f"learn never to stop; {_advice(scope)}"
        )
    return (
        f"the student ends with {names[end]}, to which the teacher gives {measured[end]:.2g} nats behind its own text"
    )


def _student_end(scope: Scope, student: Any) -> int:
    """The end that SFT teaches, or without SFT the one that the student has."""
    from cohobate.models.end_of_response import own_end
    from cohobate.models.loading import outline

    taught: int = student.end
    return (
        taught
        if scope.recipe.sft.steps
        else own_end(outline(scope.recipe.student.model, template=scope.recipe.student.template))
    )


def _advice(scope: Scope) -> str:
    if not scope.recipe.sft.steps:
        return "let SFT teach it the teacher's end (sft.steps), or choose a student with the same end"
    if scope.recipe.sft.end == "student":
        return "set sft.end = 'teacher'"
    return "name in eos_token_id of the teacher's generation_config.json the ids that end its turns"


def _measured(scope: Scope, teacher: Any, candidates: list[int]) -> dict[int, float]:
    """The mean log-probability of each of `candidates` where the teacher's text ends."""
    from cohobate.models.own_forward import next_logprobs

    texts = _own_texts(scope, teacher)
    rows = [next_logprobs(teacher.model, ids) for ids in texts]
    return {each: sum(float(row[each]) for row in rows) / len(rows) for each in candidates}


def _own_texts(scope: Scope, teacher: Any) -> list[list[int]]:
    """Prompts with the teacher's greedy responses, without their end; with a given one where it ended none."""
    from cohobate.models.chat_template import question_ids, teacher_format
    from cohobate.models.sampling.sampler import Decoding, sample
    from cohobate.models.special_tokens import encode

    prompts = [question_ids(teacher.tokenizer, question, teacher_format(scope.recipe)) for question in _QUESTIONS]
    longest = min(_LONGEST, scope.recipe.triples.max_tokens)
    drawn = sample(teacher.model, prompts, Decoding(longest, 0.0), None, eos_ids=teacher.eos_ids, pad_id=teacher.pad_id)
    own = [
        [*prompt, *response.response_ids[:-1]]
        for prompt, response in zip(prompts, drawn, strict=True)
        if response.finish_reason == "stop"
    ]
    return own or [[*prompts[0], *encode(teacher.tokenizer, _WHOLE)]]
