"""Replies of a checkpoint to chat prompts and exam questions, and their grades by suite."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Recipe, Verification
from cohobate.core import progress
from cohobate.core.answer_parsing import parse
from cohobate.core.conversation import queries
from cohobate.core.errors import QuestionsError
from cohobate.core.statistics import wilson
from cohobate.evaluation.samplers import open_sampler
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.models.chat_template import question_ids, student_format
from cohobate.models.context_room import set_aside
from cohobate.models.model_cost import cost_of
from cohobate.models.sampling.decoding import Decoding, SamplingJob
from cohobate.models.special_tokens import decode
from cohobate.models.thoughts import completed, opening_of
from cohobate.models.torch_setup import prepare_torch
from cohobate.sources.world.chat import obeyed
from cohobate.store.compute_ledger import LedgerEntry, entry

# Suites of the table by kind of question: instruction following is all chat but plain sums.
_SUITES = {"instruction": "instructions", "request": "instructions", "file": "instructions"}
_SEED = 0


def reply(
    work: str, recipe: Recipe, checkpoint: Path, questions: pl.DataFrame, max_tokens: int, temperature: float
) -> tuple[pl.DataFrame, LedgerEntry]:
    """One response to each question, greedy at temperature 0, and its cost; `work` names what is under way.

    Questions that fill the model's context are set aside. The frame has the columns of `questions` and response,
    finish_reason, prompt_tokens, tokens.
    """
    prepare_torch(recipe.runtime)
    prompt_format = student_format(recipe)
    with closing(open_sampler(recipe, checkpoint, "student")) as sampler:
        model = sampler.model
        questions = set_aside("recover", questions, [(model, prompt_format)])
        if questions.is_empty():
            raise QuestionsError("every question fills the student's context; shorten them, or choose another student")
        prompts = [question_ids(model.tokenizer, question, prompt_format) for question in queries(questions)]
        keys, decoding = questions["question_id"].to_list(), Decoding(max_tokens, temperature)
        with progress.bar(work, len(prompts), "answers") as bar:
            rollouts = sampler.sample(SamplingJob(prompts, decoding, model.eos_ids, keys, _SEED, bar.advance))
    lengths = [len(prompt) for prompt in prompts], [len(rollout.response_ids) for rollout in rollouts]
    texts = [
        completed(decode(model.tokenizer, rollout.response_ids), opening_of(model.tokenizer, prompt))
        for prompt, rollout in zip(prompts, rollouts, strict=True)
    ]
    columns = {
        "response": pl.Series(texts),
        "finish_reason": pl.Series([rollout.finish_reason for rollout in rollouts]),
        "prompt_tokens": pl.Series(lengths[0]),
        "tokens": pl.Series(lengths[1]),
    }
    cost = entry("recover", "student", "evaluation", cost_of(model.config), *lengths)
    return questions.with_columns(**columns), cost


def grade(replies: pl.DataFrame, verifier: Verification | None = None, form: str | None = None) -> pl.DataFrame:
    """The rows of `reply` with their suite, and whether each is correct.

    verifier: judges all of them; None: chat of the embedded world and its handbooks, by their own rules. form: one
    more way to state an answer to that verifier (`teacher.answer`).
    """
    if verifier is None:
        columns = replies.select("kind", "meta", "gold_answer", "response")
        correct = [obeyed(kind, meta, gold, text) for kind, meta, gold, text in columns.iter_rows()]
    else:
        correct = [verdict.label == "correct" for verdict in verdicts_of(verifier, _cases(replies, form))]
    suites = [_SUITES.get(kind, kind) for kind in replies["kind"]]
    return replies.with_columns(correct=pl.Series(correct, dtype=pl.Boolean), suite=pl.Series(suites, dtype=pl.String))


def _cases(replies: pl.DataFrame, form: str | None) -> list[Case]:
    columns = replies.select("gold_answer", "finish_reason", "question", "response")
    return [
        Case(parse(text, form=form).answer, gold, finish == "length", question, text)
        for gold, finish, question, text in columns.iter_rows()
    ]


def scores(graded: pl.DataFrame) -> list[dict[str, Any]]:
    """{suite, n, accuracy, low, high} of each suite, sorted by name; intervals are Wilson's."""
    rows = []
    for (suite,), answers in sorted(graded.group_by("suite")):
        correct, n = int(answers["correct"].sum()), len(answers)
        rows.append({"suite": suite, "n": n, **wilson(correct, n).as_row("accuracy")})
    return rows
