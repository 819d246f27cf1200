"""What each teacher of a recipe is asked: its share of the training questions, without those that are not asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError

if TYPE_CHECKING:
    import polars as pl

    from cohobate.datasets.triples import Requests
    from cohobate.teachers.response_store import ResponseStore


@dataclass(frozen=True)
class Asked:
    """The requests to one teacher. name: its own, of several. recipe: with it as the only one."""

    name: str | None
    recipe: Recipe
    requests: Requests

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of the block say which of several teachers they are about."""
        try:
            yield
        except CohobateError as error:
            if self.name is None:
                raise
            raise type(error)(f"teacher {self.name}: {error}") from error


def requests_of(recipe: Recipe, questions: pl.DataFrame) -> list[Asked]:
    """The requests to each teacher. Raises QuestionsError where a question has no teacher, or none can be asked."""
    from cohobate.datasets.triples import Requests
    from cohobate.teachers.base import teacher_fingerprint

    require_routable(recipe, questions)
    return [
        Asked(name, own, Requests(own, rows, teacher_fingerprint(own.teacher), name=name))
        for name, own, rows in _shares(recipe, _chosen(recipe, questions))
    ]


def require_routable(recipe: Recipe, questions: pl.DataFrame) -> None:
    """Raise QuestionsError where [route] names what no question has, or where a question that would be answered, or
    whose rollouts would be scored, has no teacher.
    """
    from cohobate.sources.route import require_values, teachers_of

    if recipe.route is None:
        return
    require_values(recipe.route, questions)
    teachers_of(recipe.route, _to_ask(recipe, questions))
    teachers_of(recipe.route, rolled_out(recipe, questions))


def rolled_out(recipe: Recipe, questions: pl.DataFrame) -> pl.DataFrame:
    """The questions whose rollouts are scored by the teacher that [route] gives; none where opd asks none by it."""
    import polars as pl

    opd = recipe.opd
    routed = bool(recipe.route and opd.steps and opd.asks_teacher and not opd.mixture)
    given = opd.declared.references == "triples"  # which are scored by those who wrote them
    return questions.filter((pl.col("split") == "fresh") & (routed and not given))


def submit_batches(shares: Sequence[Asked], store: ResponseStore) -> None:
    """Submit what the teachers who answer in batches are asked, before any of them is waited for."""
    from cohobate.teachers.generate import submit

    for each in shares:
        if each.recipe.teacher.batch:
            with each.named(), store.claims() as claims:
                missing = store.locate(each.requests.keys(), each.recipe.triples.max_tokens).missing
                submit(each.recipe, each.requests.at(missing), store, claims)


def _shares(recipe: Recipe, chosen: pl.DataFrame) -> Iterator[tuple[str | None, Recipe, pl.DataFrame]]:
    """The questions of each teacher, with its name and its recipe, of those that it can read and answer."""
    from cohobate.core import progress
    from cohobate.sources.route import teachers_of

    if recipe.route is None:
        yield None, recipe, _with_room(recipe, chosen)
        return
    teachers = teachers_of(recipe.route, chosen)
    counts = dict(teachers.value_counts().iter_rows())
    progress.say("questions by teacher: " + ", ".join(f"{name}: {counts.get(name, 0):,}" for name in recipe.by_teacher))
    for name, own in recipe.by_teacher.items():
        yield name, own, _with_room(own, chosen.filter(teachers == name))


def _chosen(recipe: Recipe, questions: pl.DataFrame) -> pl.DataFrame:
    """The training questions, without those that shall not be paid for; warns of gold answers before spending."""
    from cohobate.core import progress
    from cohobate.evaluation.verifiers import labels

    spec = recipe.triples.verifier
    chosen = _of_split(recipe, questions)
    missing = labels.without_gold(chosen)
    if missing and recipe.triples.without_gold == "skip":
        progress.say(f"{missing} of {len(chosen)} questions have no usable gold answer and are not asked")
        chosen = chosen.filter(labels.has_gold())
    elif missing and not (spec.needs_no_gold or spec.majority):
        progress.say(
            f"{missing} of {len(chosen)} questions have no usable gold answer: their triples stay undecided; "
            "triples.verifier.majority = true judges them by the teacher's majority answer, the verifier judge by a "
            "model, and triples.without_gold = 'skip' saves them"
        )
    if unread := labels.unreadable_gold(chosen, spec):
        progress.say(
            f"{len(unread)} gold answers cannot be read by the verifier {spec.name}, such as {unread[0]!r}: only the "
            "same words are right there; set another triples.verifier, or questions.gold_after"
        )
    return chosen


def _of_split(recipe: Recipe, questions: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    chosen = questions.filter(pl.col("split") == recipe.triples.split)
    return chosen if recipe.triples.limit is None else chosen.head(recipe.triples.limit)


def _to_ask(recipe: Recipe, questions: pl.DataFrame) -> pl.DataFrame:
    """What `_chosen` gives, without its warnings."""
    from cohobate.evaluation.verifiers import labels

    chosen = _of_split(recipe, questions)
    return chosen.filter(labels.has_gold()) if recipe.triples.without_gold == "skip" else chosen


def _with_room(recipe: Recipe, chosen: pl.DataFrame) -> pl.DataFrame:
    """Those of the questions whose prompts leave a teacher of this machine room for an answer."""
    from cohobate.core.errors import QuestionsError
    from cohobate.models.chat_template import teacher_format
    from cohobate.models.context_room import set_aside
    from cohobate.models.loading import outline

    teacher = recipe.teacher
    if not teacher.is_folder or chosen.is_empty():
        return chosen
    model = (outline(teacher.model, template=teacher.template), teacher_format(recipe))
    fitting = set_aside("triples", chosen, [model])
    if fitting.is_empty():
        raise QuestionsError("every question fills the teacher's context; shorten them, or choose another teacher")
    return fitting
