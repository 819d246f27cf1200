"""Triples: the teacher answers the training questions, and a verifier labels each answer.

Files: triples.parquet and verdicts.parquet (one row per sample), failures.parquet, aggregates.parquet (one row per
question).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Teacher
from cohobate.core.answer_forms import check_loads, form_identity
from cohobate.core.errors import AwaitingError
from cohobate.evaluation.verifiers import verify
from cohobate.stages.asked import Asked, requests_of, submit_batches
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

    from cohobate.core.schema import Table
    from cohobate.datasets.parsed_ahead import ParsedAhead
    from cohobate.datasets.triples import Requests, TripleRows
    from cohobate.store.compute_ledger import LedgerEntry
    from cohobate.teachers.base import Failure
    from cohobate.teachers.response_store import ResponseStore

STAGE = "triples"
VERSION = 2
# The columns of all samples that stay in memory, for metrics and the ledger.
_MEASURED = ("question_id", "teacher", "cached", "cost_usd", "prompt_tokens", "completion_tokens", "truncated")
_LABELLED = ("verifier", "verdict", "reason")


def write(recipe: Recipe, questions: Artifact) -> Artifact:
    """Generate the teacher's responses to the training questions and publish the triples.

    Failed requests are rows of failures.parquet; with more of them than `triples.max_failures` of those that were sent
    nothing is published, and the next run sends only the rest. Raises TeacherError, EndpointError, QuestionsError,
    VerifierError.
    """
    return _produce(recipe, questions, lambda: None)


def write_for_student(recipe: Recipe, questions: Artifact) -> Artifact:
    """What `write` does, for a student that is to learn from the triples: it is checked before they are paid.

    Raises UserError for a student that cannot learn.
    """
    from cohobate.stages.preflight import require_student_apart

    return _produce(recipe, questions, lambda: require_student_apart(recipe))


def _produce(recipe: Recipe, questions: Artifact, check: Callable[[], None]) -> Artifact:
    return Store().produce(
        STAGE,
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe),
        parents=[questions],
        build=lambda workspace: _build(recipe, questions, workspace, check),
    )


def _identity(recipe: Recipe) -> dict[str, Any]:
    common = {**recipe.triples.identity(), "verifier": verify.identity(recipe.triples.verifier)}
    if recipe.route is None:
        return {**common, "teacher": _teacher_identity(recipe.teacher)}
    teachers = {name: _teacher_identity(own.teacher) for name, own in recipe.by_teacher.items()}
    return {**common, "teachers": teachers, "route": recipe.route.identity()}


def _teacher_identity(teacher: Teacher) -> dict[str, Any]:
    from cohobate.teachers.base import response_revision, teacher_fingerprint

    return {
        **teacher.identity(),
        **form_identity(teacher.answer),
        "model": teacher_fingerprint(teacher),
        **response_revision(teacher),
    }


def generate_shard(recipe: Recipe, questions: Artifact, number: int, of: int) -> int:
    """Store every `of`-th response from the `number`-th on, for `write` to read; returns the number of failures.

    Shards may run at the same time, on machines that share the data folder. Raises what `write` raises.
    """
    import polars as pl

    from cohobate.core.fingerprint import artifact_fingerprint
    from cohobate.teachers.generate import generate
    from cohobate.teachers.response_store import ResponseStore

    payer = artifact_fingerprint(STAGE, VERSION, _identity(recipe), [questions.fingerprint])
    store, failures = ResponseStore(), 0
    every = requests_of(recipe, pl.read_parquet(questions.path / "questions.parquet"))
    for each in (one for one in every if not one.recipe.teacher.batch):  # whose batches `write` submits
        with each.named(), store.claims() as claims:
            missing = store.locate(each.requests.keys(), recipe.triples.max_tokens).missing
            shard = each.requests.at(missing.filter(missing % of == number))
            may_fail = int(recipe.triples.max_failures * len(shard))
            failures += len(generate(each.recipe, shard, store, claims, payer, may_fail))
    return failures


def _build(recipe: Recipe, questions: Artifact, workspace: Workspace, check: Callable[[], None]) -> Outcome:
    import polars as pl

    from cohobate.core import progress, schema
    from cohobate.core.parquet import write_table
    from cohobate.datasets.parsed_ahead import ParsedAhead
    from cohobate.evaluation.verifiers import labels
    from cohobate.teachers.generate import failure_rows
    from cohobate.teachers.response_store import ResponseStore

    verify.check(recipe.triples.verifier)
    check_loads(recipe.teacher.answer)
    every = pl.read_parquet(questions.path / "questions.parquet")
    _check(recipe, every, check)
    ahead, store = ParsedAhead(recipe.teacher.answer), ResponseStore()
    failures: list[Failure] = []
    shares = requests_of(recipe, every)  # all of them, before the first is paid
    answered: dict[str | None, TripleRows] = {}
    awaiting: list[AwaitingError] = []
    if len(shares) > 1:
        submit_batches(shares, store)
    # Those who answer at once are asked while the batches run.
    for each in sorted(shares, key=lambda one: one.recipe.teacher.batch):
        try:
            with each.named():
                answered[each.name] = _answered(each, store, workspace.fingerprint, ahead, failures)
        except AwaitingError as later:  # the other teachers can be asked meanwhile
            awaiting.append(later)
    if awaiting:
        raise awaiting[0]
    rows_of = [answered[each.name] for each in shares]
    samples, verdicts = _write_tables(recipe, rows_of, workspace)
    if sentence := labels.missing_answers(verdicts):
        progress.say(sentence)
    for rows in rows_of:
        failures += _without_question(rows, int(recipe.triples.max_failures * len(rows.requests)))
    write_table(failure_rows(failures), schema.FAILURES, workspace.path / "failures.parquet")
    judge_entries, judge_metrics = _judge_usage(recipe, samples, verdicts, workspace.fingerprint)
    return Outcome(
        rows=len(samples),
        metrics={**_metrics(samples, verdicts, failures), **judge_metrics},
        ledger=[*_ledger(recipe, samples), *judge_entries],
    )


def _check(recipe: Recipe, questions: pl.DataFrame, check: Callable[[], None]) -> None:
    """What can be refused before any teacher is asked; `check` is that of a student, apart from this process."""
    from cohobate.core import progress
    from cohobate.stages.preflight import BOTH, require, require_student, require_templates

    teachers = [each.teacher for each in recipe.by_teacher.values()]
    if all(each.is_folder and not each.uses_engine for each in teachers):  # the libraries of models are loaded anyway
        require_student(recipe, BOTH)
    else:
        require(recipe, ["teacher"])
        check()
    require_templates(recipe, questions)
    for line in lacking_splits(recipe, set(questions["split"].unique())):
        progress.say(line)


def _answered(each: Asked, store: ResponseStore, payer: str, ahead: ParsedAhead, failures: list[Failure]) -> TripleRows:
    """The rows of one teacher, who is asked for what is not stored; those who fail are added to `failures`."""
    from cohobate.datasets.triples import TripleRows
    from cohobate.teachers.generate import generate

    recipe, requests = each.recipe, each.requests
    keys = requests.keys()
    with store.claims() as claims:
        responses = store.locate(keys, recipe.triples.max_tokens)
        missing = requests.at(responses.missing)
        # Of what is asked now: many stored responses are no reason to be content with none of the new ones.
        may_fail = _allowed(recipe, missing)
        failures += generate(recipe, missing, store, claims, payer, may_fail, ahead.add)
    if len(missing):
        responses = store.locate(keys, recipe.triples.max_tokens)
    return TripleRows(recipe, requests, keys, responses, payer, ahead)


def _allowed(recipe: Recipe, missing: Requests) -> int:
    """How many of the requests that are sent now may fail.

    Those that failed before, in a dataset of this recipe that was published with them, may do so again.
    """
    import polars as pl

    failed_before: set[str] = set()
    earlier = Store().all() if len(missing) else []
    for artifact in earlier:
        if artifact.stage == STAGE and artifact.manifest.recipe == recipe.name:
            with suppress(OSError, pl.exceptions.PolarsError):  # damaged: then they count
                failures = pl.read_parquet(artifact.path / "failures.parquet", columns=["request_key"])
                failed_before |= set(failures["request_key"])
    again = sum(request.key in failed_before for request in missing) if failed_before else 0
    return again + int(recipe.triples.max_failures * (len(missing) - again))


def _write_tables(
    recipe: Recipe, answered: Sequence[TripleRows], workspace: Workspace
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """triples.parquet, verdicts.parquet and aggregates.parquet, a piece at a time.

    Returns the columns of all samples and of all verdicts that metrics and the ledger need.
    """
    from cohobate.core import schema
    from cohobate.core.parquet import parquet_writer
    from cohobate.evaluation.verifiers import labels
    from cohobate.stages.labels import COLUMNS

    tables = {"triples": schema.TRIPLES, "verdicts": schema.VERDICTS, "aggregates": schema.AGGREGATES}
    spec = recipe.triples.verifier
    by_judge = spec.name == "judge"
    all_samples = _Columns(schema.TRIPLES, [*dict.fromkeys((*_MEASURED, *(COLUMNS if by_judge else ())))])
    all_verdicts = _Columns(schema.VERDICTS, schema.VERDICTS.names if by_judge else _LABELLED)
    with ExitStack() as stack:
        write = {
            name: stack.enter_context(parquet_writer(workspace.path / f"{name}.parquet", declared))
            for name, declared in tables.items()
        }
        responses = sum(len(rows.responses) for rows in answered)
        labeller = labels.labeller(spec, responses, workspace.scratch, workspace.fingerprint)
        label = stack.enter_context(labeller)
        for samples in chain.from_iterable(rows.pieces() for rows in answered):
            verdicts = label(samples)
            write["triples"](samples)
            write["verdicts"](verdicts)
            write["aggregates"](labels.aggregate(samples, verdicts))
            all_samples.add(samples)
            all_verdicts.add(verdicts)
    return all_samples.frame(), all_verdicts.frame()


class _Columns:
    """Some columns of a declared table that comes in pieces."""

    def __init__(self, declared: Table, names: Sequence[str]) -> None:
        import polars as pl

        self.kinds = pl.Schema({name: declared.polars[name] for name in names})
        self.pieces = [self.kinds.to_frame()]

    def add(self, piece: pl.DataFrame) -> None:
        self.pieces.append(piece.select(self.kinds.names()).cast(self.kinds))

    def frame(self) -> pl.DataFrame:
        import polars as pl

        return pl.concat(self.pieces)


def lacking_splits(recipe: Recipe, splits: set[str]) -> Iterator[str]:
    """A warning for each later stage of a full run that will refuse these questions, before the teacher is paid."""
    if recipe.sft.steps and recipe.triples.split not in splits:
        named = {"train": "training", "fresh": "fresh"}[recipe.triples.split]
        yield f"there are no {named} questions, so sft will have nothing to learn; give some, or set sft.steps = 0"
    if recipe.opd.steps and recipe.opd.declared.references != "triples" and "fresh" not in splits:
        yield "there are no fresh questions, so opd will refuse to roll out; give some, or set opd.steps = 0"
    if not splits & set(recipe.evaluation.splits):
        named = ", ".join(recipe.evaluation.splits)
        yield f"there are no questions in {named}, so evaluation will refuse; give some, or set evaluation.splits"


def _judge_usage(
    recipe: Recipe, samples: pl.DataFrame, verdicts: pl.DataFrame, payer: str
) -> tuple[list[LedgerEntry], dict[str, Any]]:
    """Ledger entries and metrics of an LLM judge, with its agreement with the exact verifier; none without a judge."""
    if recipe.triples.verifier.name != "judge":
        return [], {}
    from cohobate.core import progress
    from cohobate.evaluation.verifiers import judge, labels

    entries, metrics = labels.judge_usage(samples, verdicts, recipe.triples.verifier, "triples", payer)
    for line in judge.sentences(metrics):
        progress.say(line)
    return entries, metrics


def _without_question(rows: TripleRows, allowed: int) -> list[Failure]:
    """The responses about documents that hold no question, as failures. Raises QuestionsError for too many."""
    from cohobate.core.errors import QuestionsError
    from cohobate.teachers.base import Failure

    if len(rows.without_question) > allowed:
        raise QuestionsError(  # the responses are stored: another run would change nothing
            f"{len(rows.without_question)} of {len(rows.requests)} replies about documents do not begin with "
            f"`Question:` and an answer (such as {rows.without_question[0][1][:80]!r}); correct "
            "questions.documents.prompt, or raise triples.max_failures"
        )
    message = "the reply does not begin with `Question:` and an answer: "
    return [
        Failure(request, "NoQuestion", None, message + repr(text[:80]), attempts=1)
        for request, text in rows.without_question
    ]


def _metrics(samples: pl.DataFrame, verdicts: pl.DataFrame, failures: Sequence[Failure]) -> dict[str, Any]:
    """Counts and means. cost_usd: of the responses that this artifact paid; cost_usd_earlier: of those paid before."""
    from cohobate.evaluation.verifiers import labels

    here, earlier = (samples.filter(samples["cached"] == cached)["cost_usd"] for cached in (False, True))
    priced = samples["cost_usd"].count() > 0
    named = samples.filter(samples["teacher"].is_not_null())["teacher"].value_counts(sort=True)
    by_teacher = {"teachers": dict(named.iter_rows())} if len(named) else {}
    return {
        **by_teacher,
        "samples": len(samples),
        "questions": samples["question_id"].n_unique(),
        **labels.summary(verdicts),
        "mean_completion_tokens": samples["completion_tokens"].mean(),
        "truncated": samples["truncated"].mean(),
        "failures": len(failures),
        "failure_classes": dict(Counter(failure.error_class for failure in failures).most_common()),
        "cost_usd": here.sum() if priced else None,
        "cost_usd_earlier": earlier.sum() if priced else None,
    }


def _ledger(recipe: Recipe, samples: pl.DataFrame) -> list[LedgerEntry]:
    from cohobate.models.loading import model_path
    from cohobate.models.model_cost import cost_of_folder
    from cohobate.store.compute_ledger import UNKNOWN, Paid, entry

    entries = []
    payers: tuple[tuple[Paid, bool], ...] = (("here", False), ("earlier", True))
    for name, own in recipe.by_teacher.items():
        cost = cost_of_folder(model_path(own.teacher.model)) if own.teacher.is_folder else UNKNOWN
        written = samples.filter(samples["teacher"] == name) if recipe.teachers else samples
        for paid, cached in payers:
            rows = written.filter(written["cached"] == cached)
            if len(rows):
                lengths = rows["prompt_tokens"].to_list(), rows["completion_tokens"].to_list()
                entries.append(entry("triples", recipe.label(name), "generation", cost, *lengths, paid))
    return entries
