"""Triples: the teacher answers the training questions; each answer gets a verdict.

Files: triples.parquet (one row a sample), verdicts.parquet, failures.parquet, aggregates.parquet (one row a question).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.evaluation.verifiers import verify
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

    from cohobate.datasets.triples import Rows
    from cohobate.teachers.base import Failure

STAGE = "triples"
VERSION = 1
_MEASURED = ["question_id", "cached", "cost_usd", "prompt_tokens", "completion_tokens", "truncated"]


def write(recipe: Recipe, questions: Artifact) -> Artifact:
    """Ask the teacher every training question and publish the triples.

    Failed requests are rows of failures.parquet; with more of them than `triples.max_failures` nothing is published,
    and the next run asks for the rest.
    """
    from cohobate.teachers.base import teacher_fingerprint

    teacher = teacher_fingerprint(recipe.teacher)
    return Store().produce(
        STAGE,
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe, teacher),
        parents=[questions],
        build=lambda workspace: _build(recipe, questions, teacher, workspace),
    )


def _identity(recipe: Recipe, teacher: str) -> dict[str, Any]:
    return {
        **recipe.triples.identity(),
        "verifier": verify.identity(recipe.triples.verifier),
        "teacher": {**recipe.teacher.identity(), "model": teacher},
    }


def ask_shard(recipe: Recipe, questions: Artifact, number: int, of: int) -> int:
    """Ask for every `of`-th response from the `number`-th on, so that `write` finds it; returns how many are missing.

    Shards may be asked at the same time, on machines that share the data folder. Raises what `write` raises.
    """
    import polars as pl

    from cohobate.core.fingerprint import artifact_fingerprint
    from cohobate.datasets.triples import Requests
    from cohobate.teachers.base import teacher_fingerprint
    from cohobate.teachers.generate import generate
    from cohobate.teachers.response_store import ResponseStore

    teacher = teacher_fingerprint(recipe.teacher)
    payer = artifact_fingerprint(STAGE, VERSION, _identity(recipe, teacher), [questions.fingerprint])
    requests = Requests(recipe, _worth_asking(recipe, pl.read_parquet(questions.path / "questions.parquet")), teacher)
    store = ResponseStore()
    places = store.locate(requests.keys(), recipe.triples.max_tokens).rows.is_null().arg_true()
    mine = requests.at(places.filter(places % of == number))
    return len(generate(recipe, mine, store, payer, int(recipe.triples.max_failures * len(mine))))


def _build(recipe: Recipe, questions: Artifact, teacher: str, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress, schema
    from cohobate.core.parquet import parquet_writer
    from cohobate.datasets.triples import Requests, Rows
    from cohobate.stages.preflight import require
    from cohobate.teachers.generate import failure_rows, generate
    from cohobate.teachers.response_store import ResponseStore

    require(recipe, ["teacher"])
    verify.check(recipe.triples.verifier)
    every = pl.read_parquet(questions.path / "questions.parquet")
    for line in lacking_splits(recipe, set(every["split"].unique())):
        progress.say(line)
    asked = _worth_asking(recipe, every)
    requests = Requests(recipe, asked, teacher)
    store, keys = ResponseStore(), requests.keys()
    found = store.locate(keys, recipe.triples.max_tokens)
    missing = requests.at(found.rows.is_null().arg_true())
    allowed = int(recipe.triples.max_failures * len(requests))
    failures = generate(recipe, missing, store, workspace.fingerprint, allowed)
    if len(missing):
        found = store.locate(keys, recipe.triples.max_tokens)
    rows = Rows(recipe, requests, keys, found, workspace.fingerprint)
    _write_tables(recipe, rows, workspace)
    failures += _without_question(rows, len(requests), allowed)
    with parquet_writer(workspace.path / "failures.parquet", schema.FAILURES) as write:
        write(failure_rows(failures))
    samples = pl.read_parquet(workspace.path / "triples.parquet", columns=_MEASURED)
    verdicts = pl.read_parquet(workspace.path / "verdicts.parquet")
    judges_work, judged = _judged(recipe, workspace, verdicts)
    return Outcome(
        rows=len(samples),
        metrics={**_metrics(samples, verdicts, failures), **judged},
        ledger=[*_ledger(recipe, samples), *judges_work],
    )


def _write_tables(recipe: Recipe, rows: Rows, workspace: Workspace) -> None:
    """triples.parquet, verdicts.parquet and aggregates.parquet, a piece at a time."""
    from cohobate.core import schema
    from cohobate.core.parquet import parquet_writer
    from cohobate.evaluation.verifiers import labels

    tables = {"triples": schema.TRIPLES, "verdicts": schema.VERDICTS, "aggregates": schema.AGGREGATES}
    with ExitStack() as stack:
        write = {
            name: stack.enter_context(parquet_writer(workspace.path / f"{name}.parquet", declared))
            for name, declared in tables.items()
        }
        total = rows.found.rows.count()
        judge = stack.enter_context(
            labels.labeller(recipe.triples.verifier, total, workspace.scratch, workspace.fingerprint)
        )
        for samples in rows.pieces():
            verdicts = judge(samples)
            write["triples"](samples)
            write["verdicts"](verdicts)
            write["aggregates"](labels.aggregate(samples, verdicts))


def lacking_splits(recipe: Recipe, splits: set[str]) -> Iterator[str]:
    """What later stages of a whole run will refuse: better known before the teacher is paid."""
    if recipe.sft.steps and recipe.triples.split not in splits:
        named = {"train": "training", "fresh": "fresh"}[recipe.triples.split]
        yield f"there are no {named} questions, so sft will have nothing to learn; give some, or set sft.steps = 0"
    if recipe.opd.steps and recipe.opd.declared.references != "triples" and "fresh" not in splits:
        yield "there are no fresh questions, so opd will refuse to roll out; give some, or set opd.steps = 0"
    if not splits & set(recipe.evaluation.splits):
        named = ", ".join(recipe.evaluation.splits)
        yield f"there are no questions in {named}, so evaluation will refuse; give some, or set evaluation.splits"


def _worth_asking(recipe: Recipe, questions: pl.DataFrame) -> pl.DataFrame:
    """The training questions, without those that shall not be paid for; says before anything is spent what is amiss."""
    import polars as pl

    from cohobate.core import progress
    from cohobate.evaluation.verifiers import labels

    spec = recipe.triples.verifier
    asked = questions.filter(pl.col("split") == recipe.triples.split)
    if recipe.triples.limit is not None:
        asked = asked.head(recipe.triples.limit)
    missing = labels.without_gold(asked)
    if missing and recipe.triples.without_gold == "skip":
        progress.say(f"{missing} of {len(asked)} questions have no usable gold answer and are not asked")
        asked = asked.filter(labels.has_gold())
    elif missing and not (spec.needs_no_gold or spec.majority):
        progress.say(
            f"{missing} of {len(asked)} questions have no usable gold answer: their triples stay undecided; "
            "triples.verifier.majority = true judges them by the teacher's majority answer, the verifier judge by a "
            "model, and triples.without_gold = 'skip' saves them"
        )
    if unread := labels.unreadable_gold(asked, spec):
        progress.say(
            f"{len(unread)} gold answers cannot be read by the verifier {spec.name}, such as {unread[0]!r}: only the "
            "same words are right there; set another triples.verifier, or questions.gold_after"
        )
    return asked


def _judged(recipe: Recipe, workspace: Workspace, verdicts: pl.DataFrame) -> tuple[list[Any], dict[str, Any]]:
    """What an LLM judge did and how often it agreed with the exact verifier; nothing without one."""
    import polars as pl

    from cohobate.core import progress
    from cohobate.evaluation.verifiers import judge, labels
    from cohobate.stages.labels import COLUMNS

    spec = recipe.triples.verifier
    if spec.name != "judge":
        return [], {}
    samples = pl.read_parquet(workspace.path / "triples.parquet", columns=COLUMNS)
    work, counted = labels.judge_usage(samples, verdicts, spec, "triples", workspace.fingerprint)
    for line in judge.sentences(counted):
        progress.say(line)
    return work, counted


def _without_question(rows: Rows, count: int, allowed: int) -> list[Failure]:
    """Replies about documents that do not begin with a question are no triples. Raises QuestionsError for too many."""
    from cohobate.core.errors import QuestionsError
    from cohobate.teachers.base import Failure

    if len(rows.lost) > allowed:
        raise QuestionsError(  # the replies are stored: trying again would change nothing
            f"{len(rows.lost)} of {count} replies about documents do not begin with `Question:` and an answer (such as "
            f"{rows.lost[0][1][:80]!r}); correct questions.documents.prompt, or raise triples.max_failures"
        )
    message = "the reply does not begin with `Question:` and an answer: "
    return [Failure(request, "NoQuestion", None, message + repr(said[:80]), 1) for request, said in rows.lost]


def _metrics(samples: pl.DataFrame, verdicts: pl.DataFrame, failures: Sequence[Failure]) -> dict[str, Any]:
    """Counts and means; cost_usd is what this artifact paid, cost_usd_earlier what others had paid before."""
    from cohobate.evaluation.verifiers import labels

    here, earlier = (samples.filter(samples["cached"] == cached)["cost_usd"] for cached in (False, True))
    priced = samples["cost_usd"].count() > 0
    return {
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


def _ledger(recipe: Recipe, samples: pl.DataFrame) -> list[Any]:
    from cohobate.models.loading import model_path
    from cohobate.store.ledger import UNKNOWN, ModelCost, Paid, entry

    here = recipe.teacher.is_folder
    cost = ModelCost.of_folder(model_path(recipe.teacher.model)) if here else UNKNOWN
    entries = []
    payers: tuple[tuple[Paid, bool], ...] = (("here", False), ("earlier", True))
    for paid, cached in payers:
        rows = samples.filter(samples["cached"] == cached)
        if len(rows):
            lengths = rows["prompt_tokens"].to_list(), rows["completion_tokens"].to_list()
            entries.append(entry("triples", "teacher", "generation", cost, *lengths, paid))
    return entries
