"""Examine a model: the handbooks' questions and the chat that it must not forget, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from cohobate.core.statistics import wilson
from cohobate.models.chat_template import PromptFormat, decode, question_ids
from cohobate.models.loading import LoadedModel
from cohobate.models.sampling import sampler
from cohobate.sources.world.chat import obeyed
from cohobate.store.ledger import LedgerEntry, ModelCost, entry

# The suites of the table, by the kinds of their questions: instruction following is all chat but plain sums.
_SUITES = {"instruction": "instructions", "request": "instructions"}


def reply(
    model: LoadedModel,
    prompt_format: PromptFormat,
    questions: pl.DataFrame,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> tuple[pl.DataFrame, LedgerEntry]:
    """One response to each question: its columns, response, finish_reason, prompt_tokens, tokens; and what it took."""
    prompts = [question_ids(model.tokenizer, question, prompt_format) for question in questions["question"]]
    keys = questions["question_id"].to_list()
    sampled = sampler.sample(
        model.model,
        prompts,
        sampler.Decoding(max_tokens, temperature),
        sampler.uniforms(seed, keys, max_tokens) if temperature else None,
        eos_ids=model.eos_ids,
        pad_id=model.pad_id,
    )
    lengths = [len(prompt) for prompt in prompts], [len(row.response_ids) for row in sampled]
    said: dict[str, list[Any]] = {
        "response": [decode(model.tokenizer, row.response_ids) for row in sampled],
        "finish_reason": [row.finish_reason for row in sampled],
        "prompt_tokens": lengths[0],
        "tokens": lengths[1],
    }
    cost = ModelCost.of(model.model.config)
    return questions.with_columns(**{name: pl.Series(values) for name, values in said.items()}), entry(
        "recover", "student", "evaluation", cost, *lengths
    )


def grade(answered: pl.DataFrame) -> pl.DataFrame:
    """The rows of `reply` with their suite, and whether each is right."""
    columns = answered.select("kind", "meta", "gold_answer", "response")
    right = [obeyed(kind, meta, gold, text) for kind, meta, gold, text in columns.iter_rows()]
    suites = [_SUITES.get(kind, kind) for kind in answered["kind"]]
    return answered.with_columns(correct=pl.Series(right, dtype=pl.Boolean), suite=pl.Series(suites, dtype=pl.String))


def scores(graded: pl.DataFrame) -> list[dict[str, Any]]:
    """{suite, n, accuracy, low, high} of each suite, by name."""
    found = []
    for (suite,), rows in sorted(graded.group_by("suite")):
        correct, n = int(rows["correct"].sum()), len(rows)
        found.append({"suite": suite, "n": n, **wilson(correct, n).as_row("accuracy")})
    return found


def suites(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Accuracy by suite."""
    return {row["suite"]: row["accuracy"] for row in found}
