"""Samples: what a teacher is asked, and the rows of triples.parquet that its responses become.

Both come in pieces: a million requests, or rows, are never in memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

import polars as pl

from cohobate import __version__
from cohobate.config import Recipe
from cohobate.core import context
from cohobate.core.answer_parsing import parse
from cohobate.core.answer_text import normalise
from cohobate.core.fingerprint import hash_value
from cohobate.models.chat_template import messages
from cohobate.sources.generated import with_written_questions
from cohobate.store.manifest import code_version
from cohobate.teachers.base import Request
from cohobate.teachers.response_store import Found

# Rows of a piece: of responses of 8,000 tokens, about half a gigabyte.
PIECE = 1 << 14


class Requests(Sequence[Request]):
    """One request for each sample of each question, in the questions' order; each is made when it is looked at.

    questions: columns question_id, question. places: those of all requests that belong to this sequence; None: all.
    """

    def __init__(
        self, recipe: Recipe, questions: pl.DataFrame, teacher: str, places: Sequence[int] | pl.Series | None = None
    ) -> None:
        self.recipe, self.questions, self.teacher = recipe, questions, teacher
        self.places = range(len(questions) * recipe.triples.samples) if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> Requests: ...
    def __getitem__(self, place: int | slice) -> Request | Requests:
        if isinstance(place, slice):
            return Requests(self.recipe, self.questions, self.teacher, self.places[place])
        at, index = divmod(self.places[place], self.recipe.triples.samples)
        return self._request(self.questions["question_id"][at], self.questions["question"][at], index)

    def __iter__(self) -> Iterator[Request]:
        return map(self.__getitem__, range(len(self)))

    def keys(self) -> pl.Series:
        """The key of each request."""
        pieces = [pl.Series("key", dtype=pl.String)]
        for start in range(0, len(self), PIECE):
            pieces.append(pl.Series("key", [request.key for request in self[start : start + PIECE]]))
        return pl.concat(pieces)

    def at(self, places: pl.Series) -> Requests:
        """Those at these places."""
        return Requests(self.recipe, self.questions, self.teacher, places)

    def _request(self, question_id: str, question: str, index: int) -> Request:
        sampling, teacher = self.recipe.triples, self.recipe.teacher
        return Request(
            question_id=question_id,
            messages=messages(question, teacher.prompt, teacher.system),
            model=self.teacher,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            sample_index=index,
            extra=teacher.extra,
        )


class Rows:
    """The rows of triples.parquet: what was asked, joined with what came back. `mark` is the artifact's fingerprint."""

    def __init__(self, recipe: Recipe, requests: Requests, keys: pl.Series, found: Found, mark: str) -> None:
        self.recipe, self.keys, self.found, self.mark = recipe, keys, found, mark
        self.questions, self.samples = requests.questions, recipe.triples.samples
        self.same_for_all = {name: pl.lit(value) for name, value in _same_for_all(recipe, requests.teacher).items()}
        self.requests, self.teacher = requests, requests.teacher
        # Of documents: replies that hold no question are no rows, but these.
        self.lost: list[tuple[Request, str]] = []

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Some thousand rows at a time; all samples of a question are in one piece."""
        # Two documents may give rise to the same question: all samples of it are in one piece if there is only one.
        documents = self.recipe.questions.source == "documents"
        step = max(1, len(self.questions) if documents else PIECE // self.samples)
        for start in range(0, len(self.questions), step):
            piece = self._piece(start, step)
            if len(piece):
                yield piece

    def _piece(self, start: int, step: int) -> pl.DataFrame:
        asked = self._asked(start, step)
        first, length = start * self.samples, len(asked)
        there = self.found.rows.slice(first, length).is_not_null()
        frame = pl.concat([asked.filter(there), self.found.read(first, length).drop("key")], how="horizontal")
        frame = frame.with_columns(pl.col("question_id").alias("row_id"))
        if self.recipe.questions.source == "documents":
            frame = self._with_written_questions(frame)
        parsed = [parse(text, reasoning) for text, reasoning in frame.select("text", "reasoning").iter_rows()]
        return frame.with_columns(
            pl.col("request_key").str.slice(0, 20).alias("sample_id"),
            pl.Series("rationale", [p.rationale for p in parsed], dtype=pl.String),
            _whole("text", "reasoning").alias("response"),
            pl.col("served_model").fill_null(self.teacher).alias("teacher_model"),
            _cost(self.recipe).alias("cost_usd"),
            _provider(self.recipe).alias("provider"),
            pl.Series("answer", [p.answer for p in parsed], dtype=pl.String),
            pl.Series("answer_extracted", [p.answer and normalise(p.answer) for p in parsed], dtype=pl.String),
            pl.Series("rationale_source", [p.rationale_source for p in parsed], dtype=pl.String),
            pl.when(pl.col("gold_answer").is_not_null()).then(pl.lit("questions")).alias("gold_source"),
            (pl.col("finish_reason") == "length").alias("truncated"),
            (pl.col("paid_by") != self.mark).alias("cached"),
            **self.same_for_all,
        )

    def _with_written_questions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows whose question the teacher has written; the others are `lost`."""
        written = with_written_questions(frame)
        there = written["question"].is_not_null()
        for place, text in frame.filter(~there).select("place", "text").iter_rows():
            self.lost.append((self.requests[place], text))
        return written.filter(there)

    def _asked(self, start: int, step: int) -> pl.DataFrame:
        """A row for each request of `step` questions from `start`."""
        template, system = self.recipe.teacher.prompt, self.recipe.teacher.system
        columns = ["question_id", "question", "gold_answer", "split", pl.col("meta").alias("question_meta")]
        chosen = self.questions.slice(start, step).select(columns)
        asked = [json.dumps(messages(each, template, system), ensure_ascii=False) for each in chosen["question"]]
        count = len(chosen) * self.samples
        repeated = chosen.with_columns(pl.Series("messages", asked, dtype=pl.String))
        if self.samples > 1:
            repeated = repeated[(pl.int_range(count, eager=True) // self.samples)]
        return repeated.with_columns(
            self.keys.slice(start * self.samples, count).alias("request_key"),
            (pl.int_range(count, eager=True) % self.samples).alias("sample_index"),
            (pl.int_range(count, eager=True) + start * self.samples).alias("place"),
        )


def _same_for_all(recipe: Recipe, teacher: str) -> dict[str, Any]:
    sampling, settings, prompt = recipe.triples, recipe.teacher, recipe.teacher.prompt
    return {
        "source_name": recipe.questions.source,
        "revision": recipe.questions.hf.revision,
        "licence": recipe.questions.licence,
        "teacher_name": settings.model,
        "teacher_revision": teacher[:16] if settings.is_folder else settings.revision,
        "prompt_template_id": hash_value([prompt, settings.system])[:8],
        "prompt_template_sha256": hash_value([prompt, settings.system]),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "extra": json.dumps(settings.extra, ensure_ascii=False) if settings.extra else None,
        "run_id": context.current().run_id,
        "flow_run_id": context.current().flow_run_id,
        "code_version": code_version()["git"] or __version__,
        "config_sha256": hash_value(recipe.model_dump(mode="json")),
        "schema_version": 1,
    }


def _whole(text: str, reasoning: str) -> pl.Expr:
    """All that the teacher wrote: a reasoning that came in a field of its own stands inline before the text."""
    inline = pl.format("<think>\n{}\n</think>\n\n{}", pl.col(reasoning).str.strip_chars(), pl.col(text))
    return pl.when(pl.col(reasoning).str.strip_chars() != "").then(inline).otherwise(pl.col(text))


def _provider(recipe: Recipe) -> pl.Expr:
    """Who computed each row: a server, or an engine of ours, which for an earlier artifact may have been another."""
    if not recipe.teacher.is_folder:
        return pl.lit(recipe.teacher.provider or "endpoint")
    by_vllm = pl.col("engine_version").str.starts_with("vllm")
    return pl.when(by_vllm).then(pl.lit("vllm")).otherwise(pl.lit("transformers"))


def _cost(recipe: Recipe) -> pl.Expr:
    """USD of each row; null without a price."""
    cost = recipe.teacher.cost_usd(pl.col("prompt_tokens"), pl.col("completion_tokens"))
    return pl.lit(None, dtype=pl.Float64) if cost is None else cost
