"""What a run would find in the store, and what the rest would take: no request, no server, no build.

FLOPs, hours and tokens that are written are bounds, as those of `estimate`: every response as long as its limit. Where
responses of the same requests are stored, their mean length gives a likelier figure beside the bound. A price is
no bound, since only the server knows the tokens of the prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cohobate.config import Judge, Recipe, Student, Teacher
from cohobate.core import context
from cohobate.core.errors import ModelError
from cohobate.core.formatting import duration
from cohobate.stages.asked import Asked, requests_of, rolled_out
from cohobate.stages.estimate import Line, estimate
from cohobate.stages.functions import pipeline
from cohobate.stages.hardware import Hardware, this_machine
from cohobate.store.artifacts import STAGES, Artifact, NotInStoreError

if TYPE_CHECKING:
    import polars as pl

    from cohobate.datasets.triples import Requests
    from cohobate.models.chat_template import PromptFormat
    from cohobate.teachers.response_store import StoredResponses

# Stored responses whose lengths are looked at, and requests whose prompts are measured.
_LOOKED_AT = 1000
_TOKENIZED = 200
_BYTES = 3.5  # of UTF-8, of a token of a prompt that was never sent: a Chinese character has 3, and is about a token


@dataclass(frozen=True)
class Demand:
    """Requests to a teacher: all, and those without a stored response. prompt, response: mean tokens of one.

    response is a measured mean where some are stored (`measured`), else the limit.
    """

    requests: int
    missing: int
    prompt: float
    response: float
    limit: int
    measured: bool


@dataclass(frozen=True)
class Plan:
    """stored: the artifacts that are there, by stage. rest: the stages that are not. lines: the work of these.

    demands: by the names of the recipe's teachers; empty where none is asked.
    """

    recipe: Recipe
    hardware: Hardware
    stored: dict[str, Artifact]
    rest: list[str]
    demands: dict[str, Demand]
    lines: list[Line]

    @property
    def demand(self) -> Demand:
        """The demands of all teachers added up, with means over what is missing."""
        return _total(list(self.demands.values()))

    @property
    def flops(self) -> float:
        return sum(line.flops for line in self.lines)

    @property
    def hours(self) -> float:
        return sum(line.hours for line in self.lines)

    @property
    def most_usd(self) -> float | None:
        """About the price of the missing responses if each is as long as its limit; None without a price."""
        return self._usd(lambda demand: demand.limit)

    def _usd(self, response: Callable[[Demand], float]) -> float | None:
        """The price of what is missing, of those teachers that have one."""
        prices = (
            self.recipe.by_teacher[name].teacher.cost_usd(each.missing * each.prompt, each.missing * response(each))
            for name, each in self.demands.items()
        )
        priced = [price for price in prices if price is not None]
        return sum(priced) if priced else None

    @property
    def judged(self) -> int:
        """Answers that a judge would be asked about at most; stored replies are among them."""
        if self.recipe.triples.verifier.name != "judge":
            return 0
        answers = sum(line.sequences for line in self.lines if line.stage == "evaluation")
        return answers + (self.demand.requests if "triples" in self.rest else 0)

    def sentences(self) -> Iterator[str]:
        """The totals in words."""
        if not self.rest:
            yield "everything is in the store, so that the run takes seconds and spends nothing"
            return
        yield from self._of_teacher()
        if self.judged:
            yield from self._of_judge()
        if "triples" in self.rest or self.lines:
            yield (
                f"{self.flops:.2g} FLOPs, about {duration(3600 * self.hours)} on {self.hardware.words}, if every "
                "response is as long as its limit; shorter ones cost less"
            )

    def _of_teacher(self) -> Iterator[str]:
        demand = self.demand
        if "triples" not in self.rest:
            return
        stored = demand.requests - demand.missing
        yield f"{demand.missing:,} of {demand.requests:,} requests to the teacher are left; {stored:,} are stored"
        for name, each in self.demands.items() if self.recipe.teachers else ():
            yield f"teacher {name}: {each.missing:,} of {each.requests:,} requests are left"
        if not demand.missing:
            return
        longest = sum(each.missing * each.limit for each in self.demands.values())
        tokens = f"at most {longest:,} tokens"
        if demand.measured:
            tokens += f", about {demand.missing * demand.response:,.0f} by the mean of the stored ones"
        yield f"they take about {demand.missing * demand.prompt:,.0f} tokens of prompts, and write {tokens}"
        most, likely = self.most_usd, self._usd(lambda each: each.response)
        if most is not None:
            by_mean = f"; {likely:.2f} USD by the mean of the stored ones" if demand.measured else ""
            yield f"about {most:.2f} USD if every response is as long as its limit{by_mean}{self._by_batch()}"
        yield from self._without_price()

    def _by_batch(self) -> str:
        """Words on the price of batches, where a teacher is asked in them."""
        priced = [each.teacher for each in self.recipe.by_teacher.values() if each.teacher.batch]
        rates = ", ".join(dict.fromkeys(f"{each.batch_price:.0%}" for each in priced))
        return f" (in batches, at {rates} of its price)" if priced else ""

    def _without_price(self) -> Iterator[str]:
        teachers = {name: own.teacher for name, own in self.recipe.by_teacher.items()}
        unpriced = [name for name, each in teachers.items() if each.is_endpoint and each.price_input is None]
        if unpriced and not self.recipe.teachers:
            yield "no price is known: set teacher.price_input and teacher.price_output"
        elif unpriced:
            yield f"no price is known of {', '.join(unpriced)}: set its price_input and price_output in [[teachers]]"

    def _of_judge(self) -> Iterator[str]:
        judge = self.recipe.triples.verifier.judge
        assert isinstance(judge, Judge)
        prompt = self.demand.prompt + self.demand.limit
        price = judge.cost_usd(self.judged * prompt, self.judged * judge.max_tokens)
        cost = "" if price is None else f", for about {price:.2f} USD if every text is as long as its limit"
        yield f"the judge is asked at most {self.judged:,} times{cost}; the replies that are stored are among these"


def plan(recipe: Recipe, until: str = STAGES[-1]) -> Plan:
    """What `cohobate run` would find and do, up to and including the stage `until`.

    Raises a UserError as the stages do for questions or models that cannot be used.
    """
    wanted = STAGES[: STAGES.index(until) + 1]
    with context.using(lookup_only=True):
        stored = {artifact.stage: artifact for artifact in _stored(recipe) if artifact.stage in wanted}
    rest = [stage for stage in wanted if stage not in stored]
    machine = this_machine()
    if not rest:
        return Plan(recipe, machine, stored, rest, {}, [])
    frame = _questions(recipe, stored.get("questions"))
    if "triples" in rest:
        demands = {each.name or "teacher": _demand(each) for each in requests_of(recipe, frame)}
    else:
        demands = {"teacher": Demand(0, 0, _local_prompt(recipe, frame), 0, recipe.triples.max_tokens, False)}
    lines = _lines(recipe, machine, rest, demands, frame)
    return Plan(recipe, machine, stored, rest, demands, lines)


def _total(demands: Sequence[Demand]) -> Demand:
    if len(demands) == 1:
        return demands[0]
    requests, missing = (sum(getattr(each, name) for each in demands) for name in ("requests", "missing"))

    def mean(of: Callable[[Demand], float]) -> float:
        return sum(each.missing * of(each) for each in demands) / missing if missing else 0.0

    limit = max((each.limit for each in demands), default=0)
    measured = any(each.measured for each in demands)
    return Demand(requests, missing, mean(lambda d: d.prompt), mean(lambda d: d.response), limit, measured)


def _stored(recipe: Recipe) -> Iterator[Artifact]:
    """The artifacts of the stages, in order, up to the first that is not there."""
    with suppress(NotInStoreError):
        yield from pipeline(recipe)


def _questions(recipe: Recipe, stored: Artifact | None) -> pl.DataFrame:
    import polars as pl

    from cohobate.sources.read import read

    if stored is not None:
        return pl.read_parquet(stored.path / "questions.parquet")
    return read(recipe.questions).questions


def _demand(each: Asked) -> Demand:
    from cohobate.teachers.response_store import ResponseStore

    requests, limit = each.requests, each.recipe.triples.max_tokens
    stored = ResponseStore().locate(requests.keys(), limit)
    missing = len(stored.missing)
    prompt, response = _stored_means(stored, requests)
    measured = response is not None
    return Demand(len(requests), missing, prompt or _mean_prompt(requests), response or limit, limit, measured)


def _stored_means(stored: StoredResponses, requests: Requests) -> tuple[float | None, float | None]:
    """Mean tokens of the prompts and responses that are stored, where their server counted them."""
    rows = stored.read(0, _LOOKED_AT).select("prompt_tokens", "completion_tokens") if len(stored) else None
    if rows is None or rows.is_empty():
        return None, None
    means = rows.mean().row(0)
    return means[0] or None, means[1] or None


def _mean_prompt(requests: Requests) -> float:
    """Mean tokens of the first prompts, by their bytes."""
    few = requests[: min(len(requests), _LOOKED_AT)]
    lengths = [sum(len(message["content"].encode()) for message in request.messages) for request in few]
    return sum(lengths) / max(1, len(lengths)) / _BYTES


def _local_prompt(recipe: Recipe, frame: pl.DataFrame) -> float:
    """Mean tokens of the prompts of a model of this machine, of the first questions: the longest of them."""
    from cohobate.models.chat_template import student_format, teacher_format

    sections: list[tuple[Student | Teacher, PromptFormat]] = [(recipe.student, student_format(recipe))]
    for own in recipe.by_teacher.values():
        sections += [(own.teacher, teacher_format(own))] if own.teacher.is_folder else []
    return max(_prompt(frame.head(_TOKENIZED), *each) for each in sections)


def _scored_prompt(recipe: Recipe, frame: pl.DataFrame) -> int | None:
    """Mean tokens of the prompts under which a teacher that is shown more scores; None where it is shown no more."""
    from cohobate.models.chat_template import question_ids
    from cohobate.models.loading import outline
    from cohobate.models.privileged import Shown, format_of_scoring

    if recipe.teacher.privileged is None or frame.is_empty():
        return None
    reader: Student | Teacher = recipe.student if recipe.teacher.follow is not None else recipe.teacher
    try:
        student = outline(recipe.student.model, template=recipe.student.template).tokenizer
        tokenizer = outline(reader.model, template=reader.template).tokenizer
    except ModelError:
        return None
    shown, how = Shown.of(recipe), format_of_scoring(recipe, student)
    lengths = [len(question_ids(tokenizer, query, how)) for query in shown.queries(frame)]
    return round(sum(lengths) / len(lengths))


def _prompt(frame: pl.DataFrame, section: Student | Teacher, prompt_format: PromptFormat) -> float:
    """Mean tokens of a model's prompts; by their bytes where it is not here yet."""
    from cohobate.core.conversation import queries
    from cohobate.models.chat_template import question_ids
    from cohobate.models.loading import outline

    try:
        tokenizer = outline(section.model, template=section.template).tokenizer
        lengths = [len(question_ids(tokenizer, query, prompt_format)) for query in queries(frame)]
    except ModelError:
        lengths = [int(len((section.prompt + text).encode()) / _BYTES) for text in frame["question"]]
    return sum(lengths) / max(1, len(lengths))


def _lines(
    recipe: Recipe, machine: Hardware, rest: Sequence[str], demands: dict[str, Demand], frame: pl.DataFrame
) -> list[Line]:
    """The estimated work of the stages that are not there; of the triples, that of the missing responses."""
    counts = frame["split"].value_counts()
    train = dict(counts.iter_rows()).get(recipe.triples.split, 0)
    train = min(train, recipe.triples.limit or train)
    requests = sum(each.requests for each in demands.values())
    shares = {name: each.requests / requests for name, each in demands.items()} if requests else None
    prompt, scored = max(1, round(_local_prompt(recipe, frame))), _scored_prompt(recipe, frame.head(_TOKENIZED))
    counted = shares if "triples" in rest else _scored_shares(recipe, frame)
    every = estimate(recipe, machine.machine, prompt, max(1, train), scored, counted)
    missing = {recipe.label(name): each.missing / (each.requests or 1) for name, each in demands.items()}
    return [
        _part(line, missing.get(line.model, 0.0)) if line.stage == "triples" else line
        for line in every
        if line.stage in rest
    ]


def _scored_shares(recipe: Recipe, frame: pl.DataFrame) -> dict[str, float] | None:
    """The shares of the rollouts, by the teacher that scores them; None where [route] sends none to one."""
    from cohobate.sources.route import teachers_of

    fresh = rolled_out(recipe, frame)
    if recipe.route is None or fresh.is_empty():
        return None
    counts = dict(teachers_of(recipe.route, fresh).value_counts().iter_rows())
    return {name: counts.get(name, 0) / len(fresh) for name in recipe.by_teacher}


def _part(line: Line, share: float) -> Line:
    return replace(
        line,
        sequences=round(line.sequences * share),
        tokens=round(line.tokens * share),
        flops=line.flops * share,
        hours=line.hours * share,
    )
