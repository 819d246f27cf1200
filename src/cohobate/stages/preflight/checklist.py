"""The checks of a preflight in their order, and the runner that leaves out what an earlier failure makes impossible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError, UserError
from cohobate.stages.preflight import ends, engines, machine, models, scoring, teachers, templates
from cohobate.stages.preflight.scope import BOTH, Loaded, Role, Scope


def _always(scope: Scope) -> bool:
    return True


@dataclass(frozen=True)
class Check:
    """One check: `run` returns its finding in a sentence, or raises a CohobateError with one.

    needs: the check is left out where one of these is missing. gives: the need that is missing for later checks where
    this one fails or is left out. when: whether the check applies; one that does not leaves nothing missing. once: it
    is of no teacher, so that it is made once for several of them.
    """

    name: str
    run: Callable[[Scope], str | Loaded]
    needs: tuple[str, ...] = ()
    gives: str | None = None
    when: Callable[[Scope], bool] = _always
    once: bool = False


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    passed: bool
    detail: str


_MODELS = ("folder", "teacher", "student")
# Loading a student takes long, and a judge may charge for its answer: neither is tried after a teacher that failed.
CHECKS = (
    Check("data folder", machine.data_folder, gives="folder", once=True),
    Check("trackers", machine.trackers, when=Scope.tracks, once=True),
    Check("questions", machine.questions, ("folder",), when=Scope.reads_questions, once=True),
    Check("curation", machine.curation, ("folder",), when=Scope.curates, once=True),
    Check("teacher answers", teachers.endpoint_answers, ("folder",), "teacher", Scope.asks_endpoint),
    Check("teacher as asked", teachers.endpoint_defaults, ("teacher",), when=Scope.asks_endpoint),
    Check("teacher in batches", teachers.endpoint_batches, ("teacher",), when=Scope.asks_batches),
    Check("vllm", machine.vllm, ("folder", "teacher"), "teacher", Scope.needs_vllm),
    Check("teacher answers", teachers.engine_answers, ("folder", "teacher"), "teacher", Scope.asks_engine),
    # Engines before the models are loaded, whose memory they would have to share.
    Check("vllm of the student", machine.vllm, ("folder", "teacher"), "student", Scope.samples_with_vllm, once=True),
    Check("teacher in vllm", engines.teacher, ("folder", "teacher"), "teacher", Scope.evaluates_teacher_with_vllm),
    Check("student in vllm", engines.student, _MODELS, "student", Scope.samples_with_vllm, once=True),
    Check("teacher loads", models.teacher, ("folder", "teacher"), "teacher", Scope.reads_teacher),
    Check("student loads", models.student, _MODELS, "student", Scope.has_student, once=True),
    Check("disk", machine.disk, ("student",), when=Scope.has_student, once=True),
    Check("memory", machine.memory, ("student",), when=Scope.may_be_too_large, once=True),
    Check("judge answers", teachers.judge_answers, _MODELS, when=Scope.asks_judge, once=True),
    Check("judge as asked", teachers.judge_defaults, _MODELS, when=Scope.asks_judge_endpoint, once=True),
    Check("logits", models.logits, ("teacher", "student"), when=Scope.reads_a_model),
    Check("template", templates.template, ("teacher", "student"), when=Scope.reads_a_model),
    Check("privileged context", templates.privileged, ("teacher", "student"), when=Scope.shows_more),
    Check("lengths", models.lengths, ("teacher", "student"), when=Scope.reads_a_model),
    Check("tokenizers", models.tokenizers, ("teacher", "student"), when=Scope.compares_tokenizers),
    Check("ends", ends.ends, ("teacher", "student"), when=Scope.compares_ends),
    Check("scores repeat", scoring.teacher_repeats, ("teacher", "student"), when=Scope.scores_here),
    Check("self-distillation", scoring.self_kl, ("student",), when=Scope.trains_on_scores, once=True),
    Check("server starts", scoring.server_starts, ("student",), "address", Scope.starts_server),
    Check("server scores", scoring.server_scores, ("student", "address"), "server", Scope.asks_server),
    Check("server context", scoring.server_context, ("server",), when=Scope.asks_server),
    Check("server vocabulary", scoring.server_vocabulary, ("server",), "server", Scope.asks_server),
    Check("server tokenizer", scoring.server_tokenizer, ("server",), "server", Scope.asks_server),
    Check("server template", scoring.server_template, ("server",), when=Scope.asks_server),
    Check("server end", scoring.server_end, ("server",), when=Scope.asks_server),
    Check("server repeats", scoring.server_repeats, ("server",), when=Scope.asks_server),
    Check("server agrees", scoring.server_agrees, ("teacher", "server"), when=Scope.compares_server),
    # The last, since it changes the weights that it loaded.
    Check("adapters", models.adapters, ("student",), when=Scope.adapts, once=True),
)


def check(
    recipe: Recipe, roles: Sequence[Role] = BOTH, *, ask: bool = True, checks: Sequence[Check] = CHECKS
) -> list[Finding]:
    """The findings about the models in `roles`, in order; what an earlier failure makes impossible is left out.

    ask: send an endpoint a request, which it may charge for; start a vLLM teacher and ask it.
    """
    scope = Scope(recipe, tuple(roles), ask)
    with scope.stack as stack:
        if recipe.teachers:
            each = [Scope(own, scope.roles, ask, stack) for own in recipe.by_teacher.values()]
            scope = replace(scope, others=tuple(each))
        return run(checks, scope)


def run(checks: Sequence[Check], scope: Scope) -> list[Finding]:
    """The findings of the checks that apply and whose needs are met; loaded values are put into `scope`."""
    findings: list[Finding] = []
    of_teachers = scope.others or (scope,)
    names = [f", teacher {name}" for name in scope.recipe.by_teacher] if scope.others else [""]
    missing: list[set[str | None]] = [set() for _ in of_teachers]
    for each in checks:
        if each.once and scope.others:
            # What it needs of a teacher it needs of all, and what it gives is for all.
            lacking = set().union(*missing)
            findings += _of_one(each, scope, lacking, each.name)
            for other, own in zip(scope.others, missing, strict=True):
                other.loaded.update(scope.loaded)
                own.update({each.gives} & lacking)
            continue
        for other, own, name in zip(of_teachers, missing, names, strict=True):
            findings += _of_one(each, other, own, each.name + name)
    return findings


def _of_one(each: Check, scope: Scope, missing: set[str | None], name: str) -> list[Finding]:
    """The finding of a check, if it applies and can be made; otherwise what it gives is put into `missing`."""
    if not each.when(scope):
        return []
    if missing.intersection(each.needs):
        missing.add(each.gives)
        return []
    try:
        result = each.run(scope)
    except CohobateError as error:
        missing.add(each.gives)
        return [Finding(name, False, str(error))]
    if isinstance(result, Loaded):
        assert each.gives is not None
        scope.loaded[each.gives] = result.value
        result = result.detail
    return [Finding(name, True, result)]


def require(recipe: Recipe, roles: Sequence[Role] = BOTH, *, checks: Sequence[Check] = CHECKS) -> None:
    """Raise the first failed check as a UserError; a stage calls this before it spends anything.

    Sends no request: the stage's own first answers show whether these work. An engine is started to try each model that
    vLLM samples, once in a process.
    """
    for finding in check(recipe, roles, ask=False, checks=checks):
        if not finding.passed:
            raise UserError(f"{finding.detail} (preflight: {finding.name})")


def print_findings(findings: Sequence[Finding]) -> None:
    """A table, one line per finding."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "check", "finding", box=None, header_style="bold")
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.passed else "[red]no[/]", finding.name, finding.detail)
    Console().print(table)
