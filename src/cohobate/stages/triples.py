"""Triples: the teacher answers the training questions; each answer gets a verdict.

Files: triples.parquet (one row a sample), verdicts.parquet, failures.parquet, aggregates.parquet (one row a question).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate import __version__, verify
from cohobate.config import Recipe
from cohobate.fingerprint import hash_value
from cohobate.store import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

    from cohobate.teachers.base import Failure, Request

VERSION = 1


def write(recipe: Recipe, questions: Artifact) -> Artifact:
    """Ask the teacher every training question and publish the triples.

    Failed requests are rows of failures.parquet; with more of them than `triples.max_failures` nothing is published,
    and the next run asks for the rest.
    """
    from cohobate.teachers.base import teacher_fingerprint

    teacher = teacher_fingerprint(recipe.teacher)
    return Store().produce(
        "triples",
        recipe=recipe,
        version=VERSION,
        identity={
            **recipe.triples.identity(),
            "verifier": verify.identity(recipe.triples.verifier),
            "teacher": {**recipe.teacher.identity(), "model": teacher},
        },
        parents=[questions],
        build=lambda workspace: _build(recipe, questions, teacher, workspace),
    )


def _build(recipe: Recipe, questions: Artifact, teacher: str, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate import labels, schema
    from cohobate.asking import ask, failure_rows
    from cohobate.files import write_parquet_atomic
    from cohobate.preflight import require
    from cohobate.responses import ResponseStore

    require(recipe, ["teacher"])
    verify.check(recipe.triples.verifier)
    asked = pl.read_parquet(questions.path / "questions.parquet").filter(pl.col("split") == "train")
    _say_what_cannot_be_judged(recipe, asked)
    requests = make_requests(recipe, asked, teacher)
    store = ResponseStore()
    known = store.find([request.key for request in requests], recipe.triples.max_tokens)
    stored = set(known["key"].to_list())
    missing = [request for request in requests if request.key not in stored]
    allowed = int(recipe.triples.max_failures * len(requests))
    failures = ask(recipe, missing, store, workspace.fingerprint, allowed)
    answered = store.find([request.key for request in requests], recipe.triples.max_tokens)
    samples = _samples(recipe, asked, requests, answered, teacher, workspace)
    verdicts = labels.label(samples, recipe.triples.verifier, workspace.scratch)
    tables = {
        "triples": samples.to_arrow().select(schema.TRIPLES.names).cast(schema.TRIPLES),
        "verdicts": verdicts.to_arrow().cast(schema.VERDICTS),
        "failures": failure_rows(failures).to_arrow().cast(schema.FAILURES),
        "aggregates": labels.aggregate(samples, verdicts).to_arrow().cast(schema.AGGREGATES),
    }
    for name, table in tables.items():
        write_parquet_atomic(table, workspace.path / f"{name}.parquet")
    return Outcome(
        rows=len(samples),
        metrics=_metrics(samples, verdicts, failures),
        ledger=_ledger(recipe, answered, workspace.fingerprint),
    )


def make_requests(recipe: Recipe, asked: pl.DataFrame, teacher: str) -> list[Request]:
    """One request for each sample of each question, in the questions' order."""
    from cohobate.chat import messages
    from cohobate.teachers.base import Request

    sampling = recipe.triples
    return [
        Request(
            question_id=question_id,
            messages=messages(question, recipe.teacher.prompt, recipe.teacher.system),
            model=teacher,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            sample_index=index,
            extra=recipe.teacher.extra,
        )
        for question_id, question in asked.select("question_id", "question").iter_rows()
        for index in range(sampling.samples)
    ]


def _say_what_cannot_be_judged(recipe: Recipe, asked: pl.DataFrame) -> None:
    """Before anything is spent: such questions are answered and paid like the others."""
    from cohobate import labels, progress

    spec = recipe.triples.verifier
    missing = 0 if spec.is_function or spec.majority else labels.without_gold(asked)
    if missing:
        progress.say(
            f"{missing} of {len(asked)} questions have no usable gold answer: their triples stay undecided; "
            "triples.verifier.majority = true judges them by the teacher's majority answer"
        )


def _samples(
    recipe: Recipe,
    asked: pl.DataFrame,
    requests: list[Request],
    answered: pl.DataFrame,
    teacher: str,
    workspace: Workspace,
) -> pl.DataFrame:
    """The rows of triples.parquet: what was asked joined with what came back."""
    import polars as pl

    from cohobate.answers import parse
    from cohobate.manifest import code_version
    from cohobate.verdicts import normalise

    frame = pl.DataFrame(
        {
            "request_key": [request.key for request in requests],
            "question_id": [request.question_id for request in requests],
            "sample_index": [request.sample_index for request in requests],
            "messages": [json.dumps(request.messages, ensure_ascii=False) for request in requests],
        }
    ).join(answered, left_on="request_key", right_on="key", how="inner", maintain_order="left")
    parsed = [parse(t, r) for t, r in frame.select("text", "reasoning").iter_rows()]
    sampling, settings, prompt = recipe.triples, recipe.teacher, recipe.teacher.prompt
    here = settings.is_folder
    same_for_all = {
        "source_name": recipe.questions.source,
        "revision": None,
        "licence": None,
        "teacher_name": settings.model,
        "teacher_revision": teacher[:16] if here else settings.revision,
        "prompt_template_id": hash_value([prompt, recipe.teacher.system])[:8],
        "prompt_template_sha256": hash_value([prompt, recipe.teacher.system]),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "extra": json.dumps(settings.extra, ensure_ascii=False) if settings.extra else None,
        "run_id": os.environ.get("COHOBATE_RUN_ID"),
        "flow_run_id": os.environ.get("COHOBATE_FLOW_RUN_ID"),
        "code_version": code_version()["git"] or __version__,
        "config_sha256": hash_value(recipe.model_dump(mode="json")),
        "schema_version": 1,
    }
    details = asked.select("question_id", "question", "gold_answer", "split", pl.col("meta").alias("question_meta"))
    return frame.join(details, on="question_id", how="left", maintain_order="left").with_columns(
        pl.col("request_key").str.slice(0, 20).alias("sample_id"),
        pl.col("question_id").alias("row_id"),
        pl.Series("rationale", [p.rationale for p in parsed], dtype=pl.String),
        _whole("text", "reasoning").alias("response"),
        pl.col("served_model").fill_null(teacher).alias("teacher_model"),
        _provider(recipe).alias("provider"),
        _cost(recipe).alias("cost_usd"),
        pl.Series("answer", [p.answer for p in parsed], dtype=pl.String),
        pl.Series("answer_extracted", [p.answer and normalise(p.answer) for p in parsed], dtype=pl.String),
        pl.Series("rationale_source", [p.rationale_source for p in parsed], dtype=pl.String),
        pl.when(pl.col("gold_answer").is_not_null()).then(pl.lit("questions")).alias("gold_source"),
        (pl.col("finish_reason") == "length").alias("truncated"),
        (pl.col("paid_by") != workspace.fingerprint).alias("cached"),
        **{name: pl.lit(value) for name, value in same_for_all.items()},
    )


def _whole(text: str, reasoning: str) -> pl.Expr:
    """All that the teacher wrote: a reasoning that came in a field of its own stands inline before the text."""
    import polars as pl

    inline = pl.format("<think>\n{}\n</think>\n\n{}", pl.col(reasoning).str.strip_chars(), pl.col(text))
    return pl.when(pl.col(reasoning).str.strip_chars() != "").then(inline).otherwise(pl.col(text))


def _provider(recipe: Recipe) -> pl.Expr:
    """Who computed each row: a server, or an engine of ours, which for an earlier artifact may have been another."""
    import polars as pl

    if not recipe.teacher.is_folder:
        return pl.lit(recipe.teacher.provider or "endpoint")
    by_vllm = pl.col("engine_version").str.starts_with("vllm")
    return pl.when(by_vllm).then(pl.lit("vllm")).otherwise(pl.lit("transformers"))


def _cost(recipe: Recipe) -> pl.Expr:
    """USD of each row; null without a price."""
    import polars as pl

    read, write = recipe.teacher.price_input, recipe.teacher.price_output
    if read is None or write is None:
        return pl.lit(None, dtype=pl.Float64)
    return (pl.col("prompt_tokens") * read + pl.col("completion_tokens") * write) / 1e6


def _metrics(samples: pl.DataFrame, verdicts: pl.DataFrame, failures: Sequence[Failure]) -> dict[str, Any]:
    """Counts and means; cost_usd is what this artifact paid, cost_usd_earlier what others had paid before."""
    from cohobate import labels

    here, earlier = (samples.filter(samples["cached"] == cached)["cost_usd"] for cached in (False, True))
    priced = samples["cost_usd"].count() > 0
    return {
        "samples": len(samples),
        "questions": samples["question_id"].n_unique(),
        **labels.counts(verdicts),
        "mean_completion_tokens": samples["completion_tokens"].mean(),
        "truncated": samples["truncated"].mean(),
        "failures": len(failures),
        "failure_classes": dict(Counter(failure.error_class for failure in failures).most_common()),
        "cost_usd": here.sum() if priced else None,
        "cost_usd_earlier": earlier.sum() if priced else None,
    }


def _ledger(recipe: Recipe, answered: pl.DataFrame, mark: str) -> list[Any]:
    import polars as pl

    from cohobate.ledger import UNKNOWN, ModelCost, Paid, entry
    from cohobate.students import model_path

    here = recipe.teacher.is_folder
    cost = ModelCost.of_folder(model_path(recipe.teacher.model)) if here else UNKNOWN
    entries = []
    payers: tuple[tuple[Paid, pl.Expr], ...] = (
        ("here", pl.col("paid_by") == mark),
        ("earlier", pl.col("paid_by") != mark),
    )
    for paid, chosen in payers:
        rows = answered.filter(chosen)
        if len(rows):
            lengths = rows["prompt_tokens"].to_list(), rows["completion_tokens"].to_list()
            entries.append(entry("triples", "teacher", "generation", cost, *lengths, paid))
    return entries
