"""Checks of those who answer: a teacher or a judge behind an endpoint, a teacher in vLLM, a judge in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohobate.config import Judge, Teacher, Triples
from cohobate.config.load import changed
from cohobate.core.errors import TeacherError
from cohobate.stages.preflight.scope import Scope

if TYPE_CHECKING:
    from cohobate.teachers.base import Response, TeacherBackend


def endpoint_answers(scope: Scope) -> str:
    """The teacher's endpoint answers a request."""
    return _endpoint_answers(scope.recipe.teacher, scope.recipe.triples)


def endpoint_defaults(scope: Scope) -> str:
    """The teacher's server adds no sampling settings of its own."""
    triples = scope.recipe.triples
    return _neutral_defaults(scope.recipe.teacher, triples.temperature, triples.top_p, triples.top_k)


def endpoint_batches(scope: Scope) -> str:
    """The teacher's server has the routes of batches; nothing is submitted."""
    from cohobate.teachers.endpoint.batch_routes import require_batches

    return require_batches(scope.recipe.teacher, changed(scope.recipe.triples, {"attempts": 2}, "preflight"))


def engine_answers(scope: Scope) -> str:
    """The teacher answers a request in vLLM."""
    from cohobate.teachers.kinds import open_backend

    recipe = scope.recipe
    one_at_a_time = changed(recipe.triples, {"batch_size": 1}, "preflight")
    answer = _one_answer(recipe.teacher, open_backend(recipe.teacher, one_at_a_time, recipe.runtime), "vLLM")
    return _words(answer, recipe.teacher, "vLLM")


def judge_answers(scope: Scope) -> str:
    """The judge's endpoint answers a request, or its model loads."""
    from cohobate.models.loading import load

    judge = scope.judge()
    assert judge is not None
    if judge.is_endpoint:
        return _endpoint_answers(judge, judge)
    model = load(judge.model, device=scope.recipe.runtime.device).model
    return f"{judge.model}: {model.num_parameters():,} parameters"


def judge_defaults(scope: Scope) -> str:
    """The judge's server adds no sampling settings of its own to a greedy reply."""
    judge = scope.judge()
    assert judge is not None
    return _neutral_defaults(judge, 0.0, 1.0, 0)


def _endpoint_answers(teacher: Teacher, limits: Triples | Judge) -> str:
    from cohobate.teachers.kinds import open_backend

    few, where = changed(limits, {"attempts": 2}, "preflight"), ", ".join(teacher.base_urls)
    answer = _one_answer(teacher, open_backend(teacher, few), where)
    if not teacher.template_args:
        return _words(answer, teacher, where)
    bare = type(teacher).model_validate({**teacher.model_dump(mode="json"), "template_args": {}})
    without = _one_answer(bare, open_backend(bare, few), where)
    if answer.prompt_tokens and answer.prompt_tokens == without.prompt_tokens:
        return (
            f"{_words(answer, teacher, where)}; the prompt has {answer.prompt_tokens} tokens with and without "
            f"{teacher.section}.template_args, so it may not read them"
        )
    return f"{_words(answer, teacher, where)}, and its prompt changes with {teacher.section}.template_args"


def _neutral_defaults(teacher: Teacher, temperature: float, top_p: float, top_k: int) -> str:
    from cohobate.teachers.base import Request
    from cohobate.teachers.endpoint.server_defaults import require_neutral_defaults

    request = Request(
        "preflight", [], teacher.model, temperature, top_p, top_k, 16, 0, 0, teacher.extra, tuple(teacher.omit)
    )
    return require_neutral_defaults(teacher, request)


def _words(answer: Response, teacher: Teacher, where: str) -> str:
    return f"{answer.served_model or teacher.model} at {where} answers in {answer.latency_ms:.0f} ms"


def _one_answer(teacher: Teacher, backend: TeacherBackend, where: str) -> Response:
    """The response to one small request, sent as all others will be."""
    from cohobate.models.chat_template import messages
    from cohobate.teachers.base import Failure, Request, request_rendering

    question = messages("What is 2 + 3?", teacher.prompt, teacher.system, fold=teacher.fold_system)
    request = Request(
        *("preflight", question, teacher.model, 0.0, 1.0, 0, 16, 0, 0),
        extra=teacher.extra,
        omit=tuple(teacher.omit),
        rendering=request_rendering(teacher),
    )
    try:
        outcomes = [item for batch in backend.answer([request]) for item in batch]
    finally:
        backend.stop()
    for item in outcomes:
        if isinstance(item, Failure):
            raise TeacherError(f"{where} does not answer ({item.error_class}: {item.message})")
        return item
    raise TeacherError(f"{where} does not answer")
