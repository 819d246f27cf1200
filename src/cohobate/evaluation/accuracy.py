"""The accuracy of a model on questions with gold answers: greedy and sampled, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.config import Verification
from cohobate.core import schema
from cohobate.core.answer_parsing import parse, parse_plain
from cohobate.core.conversation import queries
from cohobate.core.statistics import Interval, wilson
from cohobate.evaluation.samplers import ModelSampler
from cohobate.evaluation.verifiers import judge
from cohobate.evaluation.verifiers.verdict import Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.sampling.decoding import Decoding, Sampled, SamplingJob
from cohobate.models.special_tokens import decode
from cohobate.models.thoughts import completed, opening_of
from cohobate.store.compute_ledger import LedgerEntry

_LABELS = ("student", "split", "decoding")
_SCHEMA = {name: kind for name, kind in schema.ANSWERS.polars.items() if name not in _LABELS}


@dataclass(frozen=True)
class Exam:
    """Decoding, samples per question, seed of the sampling noise, and the verifier.

    paid_by: who pays for the replies of a judge, if the verifier is one.
    """

    decoding: Decoding
    samples: int
    seed: int
    verifier: Verification
    paid_by: str = "verdicts"


def answer(
    sampler: ModelSampler,
    prompt_format: PromptFormat,
    questions: pl.DataFrame,
    exam: Exam,
    done: Callable[[int], None] = lambda rows: None,
) -> pl.DataFrame:
    """One row per response: the columns of schema.ANSWERS without student, split and decoding.

    questions: columns question_id, question, conversation, gold_answer, kind, depth.
    """
    repeated = [row for row in questions.iter_rows(named=True) for _ in range(exam.samples)]
    indices = [index for _ in range(len(questions)) for index in range(exam.samples)]
    model = sampler.model
    each = [question_ids(model.tokenizer, question, prompt_format) for question in queries(questions)]
    prompts = [prompt for prompt in each for _ in range(exam.samples)]
    keys = [f"{row['question_id']}/{i}" for row, i in zip(repeated, indices, strict=True)]
    sampled = sampler.sample(SamplingJob(prompts, exam.decoding, model.eos_ids, keys, exam.seed, done))
    cases = [_case(model.tokenizer, prompt_format, *one) for one in zip(repeated, prompts, sampled, strict=True)]
    verdicts = verdicts_of(exam.verifier, cases, paid_by=exam.paid_by)
    graded = zip(repeated, indices, prompts, sampled, cases, verdicts, strict=True)
    return pl.DataFrame([_graded(*one) for one in graded], schema=_SCHEMA)


def _case(
    tokenizer: Any,
    prompt_format: PromptFormat,
    row: dict[str, Any],
    prompt: list[int],
    response: Sampled,
) -> Case:
    text = completed(decode(tokenizer, response.response_ids), opening_of(tokenizer, prompt))
    plain = prompt_format.name == "plain"
    parsed = parse_plain(text, prompt_format.separator) if plain else parse(text, form=prompt_format.answer)
    truncated = response.finish_reason == "length"
    return Case(parsed.answer, row["gold_answer"], truncated, row["question"], text)


def _graded(
    row: dict[str, Any],
    index: int,
    prompt: list[int],
    response: Sampled,
    case: Case,
    verdict: Verdict,
) -> dict[str, Any]:
    return {
        "question_id": row["question_id"],
        "sample_index": index,
        "kind": row["kind"],
        "depth": row["depth"],
        "response": case.response,
        "answer_extracted": case.answer,
        "gold_answer": row["gold_answer"],
        "verdict": verdict.label,
        "reason": verdict.reason,
        "finish_reason": response.finish_reason,
        "prompt_tokens": len(prompt),
        "tokens": len(response.response_ids),
    }


def judge_ledger(
    verifier: Verification, questions: pl.DataFrame, answers: pl.DataFrame, stage: str, payer: str
) -> list[LedgerEntry]:
    """The ledger entries of a judge of `answers` to `questions`; none for other verifiers."""
    if verifier.judge is None or verifier.name != "judge":
        return []
    truncated = (pl.col("finish_reason") == "length").alias("truncated")
    texts = questions.select("question_id", "question").unique("question_id")
    rows = answers.join(texts, on="question_id", how="left", maintain_order="left")
    columns = rows.select("answer_extracted", "gold_answer", truncated, "question", "response")
    cases = [Case(*row) for row in columns.iter_rows()]
    entries, _ = judge.usage(verifier.judge, cases, stage, payer, "evaluation")
    return entries


@dataclass(frozen=True)
class Summary:
    """Answers in numbers: n responses, their accuracy (95% Wilson over responses), tokens per response.

    A response without a verdict (truncated, no gold) is not correct; undecided counts them. truncated is a share.
    by_depth: n, accuracy, low and high of the questions of each number of operations.
    """

    n: int
    accuracy: Interval
    undecided: int
    mean_tokens: float | None
    truncated: float | None
    by_depth: dict[str, dict[str, float | None]]

    def details(self) -> dict[str, Any]:
        """Everything but n and accuracy, as JSON values."""
        names = ("undecided", "mean_tokens", "truncated", "by_depth")
        return {name: getattr(self, name) for name in names}


def summarise(answers: pl.DataFrame) -> Summary:
    """The summary of `answers`: columns verdict, tokens, finish_reason, depth."""
    by_depth = {
        str(depth): {"n": len(group), **_accuracy(group).as_row("accuracy")}
        for (depth,), group in answers.filter(pl.col("depth").is_not_null())
        .sort("depth")
        .group_by("depth", maintain_order=True)
    }
    mean_tokens: Any = answers["tokens"].mean()
    truncated: Any = (answers["finish_reason"] == "length").mean()
    return Summary(
        n=len(answers),
        accuracy=_accuracy(answers),
        undecided=int((answers["verdict"] == "undecided").sum()),
        mean_tokens=mean_tokens,
        truncated=truncated,
        by_depth=by_depth,
    )


def _accuracy(answers: pl.DataFrame) -> Interval:
    return wilson(int((answers["verdict"] == "correct").sum()), len(answers))
