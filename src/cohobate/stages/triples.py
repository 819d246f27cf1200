"""Triples: the teacher answers the training questions; each answer gets a verdict.

Files: triples.parquet (one row a sample), verdicts.parquet, failures.parquet, aggregates.parquet (one row a question).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cohobate import __version__, verify
from cohobate.config import Recipe
from cohobate.errors import TeacherError
from cohobate.fingerprint import hash_value
from cohobate.store import Artifact, Outcome, Store, Workspace
from cohobate.students import model_fingerprint

if TYPE_CHECKING:
    import polars as pl

    from cohobate.teachers.base import Request, Response

VERSION = 1
# So many responses without any rationale are no accident.
_WITHOUT_RATIONALE = 20


def write(recipe: Recipe, questions: Artifact) -> Artifact:
    """Ask the teacher every training question and publish the triples."""
    teacher = model_fingerprint(recipe.teacher.model)
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
    _ask(recipe, [r for r in requests if r.key not in stored], store, workspace.fingerprint)
    answered = store.find([request.key for request in requests], recipe.triples.max_tokens)
    samples = _samples(recipe, asked, requests, answered, teacher, workspace)
    verdicts = labels.label(samples, recipe.triples.verifier, workspace.scratch)
    tables = {
        "triples": samples.to_arrow().select(schema.TRIPLES.names).cast(schema.TRIPLES),
        "verdicts": verdicts.to_arrow().cast(schema.VERDICTS),
        "failures": schema.FAILURES.empty_table(),
        "aggregates": labels.aggregate(samples, verdicts).to_arrow().cast(schema.AGGREGATES),
    }
    for name, table in tables.items():
        write_parquet_atomic(table, workspace.path / f"{name}.parquet")
    return Outcome(
        rows=len(samples),
        metrics=_metrics(samples, verdicts),
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


def _ask(recipe: Recipe, requests: list[Request], store: Any, paid_by: str) -> None:
    """Get and store the missing responses, batch by batch."""
    if not requests:
        return
    from cohobate import progress
    from cohobate.runtime import set_threads
    from cohobate.students import load
    from cohobate.teachers.local import LocalTeacher

    set_threads(recipe)
    model = load(recipe.teacher.model, device=recipe.runtime.device)
    teacher = LocalTeacher(model, recipe.triples.batch_size)
    facts = {"max_tokens": recipe.triples.max_tokens, "engine_version": teacher.engine_version}
    first: list[Response] = []
    with (
        progress.bar("triples", len(requests), "responses") as bar,
        store.writer(paid_by=paid_by, **facts) as writer,
    ):
        for batch in teacher.answer(requests):
            writer.append(batch)
            first += batch[: max(0, _WITHOUT_RATIONALE - len(first))]
            _refuse_without_rationale(first)
            tokens = sum(response.completion_tokens for response in batch)
            bar.advance(len(batch), f"{tokens / len(batch):.0f} tokens a response")


def _refuse_without_rationale(first: list[Response]) -> None:
    from cohobate.answers import parse

    if len(first) < _WITHOUT_RATIONALE:
        return
    if not any(parse(response.text, response.reasoning).rationale for response in first):
        raise TeacherError(
            f"the teacher's first {len(first)} responses hold no rationale (the first is {first[0].text[:80]!r}); "
            "ask for one in teacher.prompt, or raise triples.max_tokens"
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
    sampling, prompt = recipe.triples, recipe.teacher.prompt
    same_for_all = {
        "source_name": recipe.questions.source,
        "revision": None,
        "licence": None,
        "teacher_name": recipe.teacher.model,
        "teacher_model": teacher,
        "teacher_revision": teacher[:16],
        "provider": "transformers",
        "prompt_template_id": hash_value([prompt, recipe.teacher.system])[:8],
        "prompt_template_sha256": hash_value([prompt, recipe.teacher.system]),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "extra": None,
        "reasoning_tokens": None,
        "cost_usd": None,
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
        pl.col("text").alias("response"),
        pl.Series("answer", [p.answer for p in parsed], dtype=pl.String),
        pl.Series("answer_extracted", [p.answer and normalise(p.answer) for p in parsed], dtype=pl.String),
        pl.Series("rationale_source", [p.rationale_source for p in parsed], dtype=pl.String),
        pl.when(pl.col("gold_answer").is_not_null()).then(pl.lit("questions")).alias("gold_source"),
        (pl.col("finish_reason") == "length").alias("truncated"),
        (pl.col("paid_by") != workspace.fingerprint).alias("cached"),
        **{name: pl.lit(value) for name, value in same_for_all.items()},
    )


def _metrics(samples: pl.DataFrame, verdicts: pl.DataFrame) -> dict[str, Any]:
    from cohobate import labels

    return {
        "samples": len(samples),
        "questions": samples["question_id"].n_unique(),
        **labels.counts(verdicts),
        "mean_completion_tokens": samples["completion_tokens"].mean(),
        "truncated": samples["truncated"].mean(),
        "failures": 0,
    }


def _ledger(recipe: Recipe, answered: pl.DataFrame, mark: str) -> list[Any]:
    import polars as pl

    from cohobate.ledger import ModelCost, Paid, entry
    from cohobate.students import model_path

    cost = ModelCost.of_folder(model_path(recipe.teacher.model))
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
