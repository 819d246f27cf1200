"""A nightly run: rebuild what changed, and promote the result if it is not worse: the deployment `nightly`.

With nightly.from = "promoted": questions -> triples -> night (the new rows) -> sft -> opd -> evaluation -> report, from
the promoted student on.
"""

from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.core.progress import say
from cohobate.datasets.gate import Check
from cohobate.stages import night
from cohobate.stages.night import PromotedRun
from cohobate.store.artifacts import Artifact
from flows.distill import pipeline
from tasks.gate import Allowance, ask_probes, pass_gate
from tasks.run import cohobate_flow, resolved, run_stages
from tasks.stages import evaluate, train_opd, train_sft, write_night, write_questions, write_report, write_triples


def stages(recipe: Recipe) -> Iterator[Artifact]:
    """The stages of this night: a full run, or what the promoted student has not learnt yet."""
    promoted = night.promoted_run(recipe) if recipe.nightly.start == "promoted" else None
    if promoted:
        yield from continued(recipe, promoted)
        return
    if recipe.nightly.start == "promoted":
        say(f"no student of {recipe.name} is promoted yet, so this night is a full run")
    yield from pipeline(recipe)


def continued(recipe: Recipe, promoted: PromotedRun) -> Iterator[Artifact]:
    """The stages in order, from the promoted student on."""
    questions = write_questions(recipe)
    night.require_held_out(recipe, promoted, questions)  # before they are handed on: what follows them asks probes
    yield questions
    yield (triples := write_triples(recipe, questions))
    rows = write_night(recipe, promoted, questions, triples)
    if not night.has_rows(rows):
        yield from unchanged(recipe, promoted, questions)
        return
    own = night.recipe_of(recipe, rows)
    yield (start := train_sft(own, rows, rows, promoted.student))
    yield (student := train_opd(own, start, rows, rows))
    yield (scores := evaluate(recipe, questions, [student], alone=True, before=promoted.student))
    yield write_report(recipe, [questions, triples, rows, start, student, scores])


def unchanged(recipe: Recipe, promoted: PromotedRun, questions: Artifact) -> Iterator[Artifact]:
    """The promoted artifacts of a night without new rows; other questions to evaluate on are asked."""
    say(f"there is no new row to learn, so {promoted.student.id} stays as it is")
    yield from promoted.models
    if questions.fingerprint == promoted.questions.fingerprint:
        yield from promoted.pages
    else:
        yield evaluate(recipe, questions, [promoted.student], alone=True)


def with_probes(made: Iterator[Artifact], recipe: Recipe, allow: float, checks: list[Check]) -> Iterator[Artifact]:
    """The stages, with the teacher's probes after the questions, before anything is asked; `checks` gets the result."""
    yield (questions := next(made))
    for own in recipe.by_teacher.values():
        if own.teacher.probes:
            checks.append(ask_probes(own, questions, allow))
    yield from made


@cohobate_flow()
def nightly(recipe: Recipe | str = "arithmetic", allow: Allowance = 0.0) -> list[Artifact]:
    """Run the recipe, and promote its artifacts if they pass the gate.

    Args:
        recipe: A name, a path, or the whole of it.
        allow: The least that each limit of the recipe's section `gate`, but for the margins, is raised to: a share.

    """
    chosen = resolved(recipe)
    probed: list[Check] = []
    finished = run_stages(with_probes(stages(chosen), chosen, allow, probed), chosen)
    pass_gate(chosen, finished, allow, further=probed)
    return finished
