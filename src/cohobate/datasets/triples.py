"""Requests to the teacher, and the rows of triples.parquet that its responses become.

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
from cohobate.core.answer_parsing import THINK_CLOSE, THINK_OPEN
from cohobate.core.answer_text import normalise
from cohobate.core.conversation import Query, queries, query
from cohobate.core.fingerprint import hash_value
from cohobate.core.parquet import completed
from cohobate.core.sample_id import triple_id
from cohobate.core.schema import QUESTIONS
from cohobate.datasets.parsed_ahead import ParsedAhead
from cohobate.models.chat_template import messages
from cohobate.sources.generated import with_written_questions
from cohobate.store.manifest import code_version
from cohobate.teachers.base import BATCHED, NATURAL_ENDS, Request, request_rendering
from cohobate.teachers.response_store import StoredResponses

# Rows of a piece: of responses of 8,000 tokens, about half a gigabyte.
PIECE = 1 << 14


class Requests(Sequence[Request]):
    """One request for each sample of each question, in the questions' order; each is built when it is accessed.

    questions: columns question_id, question, conversation. teacher: the model's fingerprint. indices: of the requests
    that belong to this sequence; None: all. name: the teacher's, where the recipe has several.
    """

    def __init__(
        self,
        recipe: Recipe,
        questions: pl.DataFrame,
        teacher: str,
        indices: Sequence[int] | pl.Series | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.recipe, self.questions, self.teacher, self.name = recipe, questions, teacher, name
        self.rendering = request_rendering(recipe.teacher)
        self.conversations = questions["conversation"] if "conversation" in questions.columns else None
        self.indices = range(len(questions) * recipe.triples.samples) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> Requests: ...
    def __getitem__(self, index: int | slice) -> Request | Requests:
        if isinstance(index, slice):
            return self.at(self.indices[index])
        question, sample = divmod(self.indices[index], self.recipe.triples.samples)
        return self._request(self.questions["question_id"][question], self.query(question), sample)

    def __iter__(self) -> Iterator[Request]:
        return map(self.__getitem__, range(len(self)))

    def keys(self) -> pl.Series:
        """The key of each request."""
        pieces = [pl.Series("key", dtype=pl.String)]
        for start in range(0, len(self), PIECE):
            pieces.append(pl.Series("key", [request.key for request in self[start : start + PIECE]]))
        return pl.concat(pieces)

    def at(self, indices: Sequence[int] | pl.Series) -> Requests:
        """The requests at these indices."""
        return Requests(self.recipe, self.questions, self.teacher, indices, name=self.name)

    def query(self, row: int) -> Query:
        """What is asked by the question of this number."""
        return query(self.questions["question"][row], None if self.conversations is None else self.conversations[row])

    def messages(self, question: Query) -> list[dict[str, str]]:
        """The conversation of each request about `question`."""
        teacher = self.recipe.teacher
        return messages(question, teacher.prompt, teacher.system, fold=teacher.fold_system)

    def _request(self, question_id: str, question: Query, sample_index: int) -> Request:
        sampling = self.recipe.triples
        return Request(
            question_id=question_id,
            messages=self.messages(question),
            model=self.teacher,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            sample_index=sample_index,
            extra=self.recipe.teacher.extra,
            omit=tuple(self.recipe.teacher.omit),
            rendering=self.rendering,
        )


class TripleRows:
    """The rows of triples.parquet: requests joined with their responses.

    keys: of `requests`. payer: the artifact's fingerprint, which tells its own responses from earlier ones. ahead: the
    responses that were taken apart while others were asked for.
    without_question: after `pieces`, the requests about documents whose response holds no question, with its text.
    """

    def __init__(
        self,
        recipe: Recipe,
        requests: Requests,
        keys: pl.Series,
        responses: StoredResponses,
        payer: str,
        ahead: ParsedAhead,
    ) -> None:
        self.recipe, self.requests, self.keys, self.responses, self.payer = recipe, requests, keys, responses, payer
        self.ahead = ahead
        self.questions, self.samples = requests.questions, recipe.triples.samples
        self.same_for_all = {name: pl.lit(value) for name, value in _same_for_all(recipe, requests).items()}
        self.without_question: list[tuple[Request, str]] = []

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
        requests = self._request_rows(start, step)
        first, length = start * self.samples, len(requests)
        has_response = self.responses.positions.slice(first, length).is_not_null()
        responses = self.responses.read(first, length).drop("key")
        frame = pl.concat([requests.filter(has_response), responses], how="horizontal")
        frame = frame.with_columns(pl.col("question_id").alias("row_id"))
        if self.recipe.questions.source == "documents":
            frame = self._with_written_questions(frame)
        parsed = [self.ahead.parse(*row) for row in frame.select("request_key", "text", "reasoning").iter_rows()]
        return frame.with_columns(
            triple_id().alias("sample_id"),
            pl.Series("rationale", [p.rationale for p in parsed], dtype=pl.String),
            _full_text("text", "reasoning").alias("response"),
            pl.col("served_model").fill_null(self.requests.teacher).alias("teacher_model"),
            _cost(self.recipe).alias("cost_usd"),
            _provider(self.recipe).alias("provider"),
            pl.Series("answer", [p.answer for p in parsed], dtype=pl.String),
            pl.Series("answer_extracted", [p.answer and normalise(p.answer) for p in parsed], dtype=pl.String),
            pl.Series("rationale_source", [p.rationale_source for p in parsed], dtype=pl.String),
            pl.when(pl.col("gold_answer").is_not_null()).then(pl.lit("questions")).alias("gold_source"),
            (~pl.col("finish_reason").str.to_lowercase().is_in(NATURAL_ENDS)).alias("truncated"),
            (pl.col("paid_by") != self.payer).alias("cached"),
            **self.same_for_all,
        )

    def _with_written_questions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows whose question the teacher has written; the others are noted in `without_question`."""
        written = with_written_questions(frame)
        has_question = written["question"].is_not_null()
        for index, text in frame.filter(~has_question).select("request_index", "text").iter_rows():
            self.without_question.append((self.requests[index], text))
        return written.filter(has_question)

    def _request_rows(self, start: int, step: int) -> pl.DataFrame:
        """One row for each request about `step` questions from `start`."""
        columns = ["question_id", "question", "conversation", "gold_answer", "split"]
        rows = completed(self.questions.slice(start, step), QUESTIONS)
        questions = rows.select(*columns, pl.col("meta").alias("question_meta"))
        conversations = [json.dumps(self.requests.messages(each), ensure_ascii=False) for each in queries(questions)]
        count = len(questions) * self.samples
        rows = questions.with_columns(pl.Series("messages", conversations, dtype=pl.String))
        if self.samples > 1:
            rows = rows[(pl.int_range(count, eager=True) // self.samples)]
        return rows.with_columns(
            self.keys.slice(start * self.samples, count).alias("request_key"),
            (pl.int_range(count, eager=True) % self.samples).alias("sample_index"),
            (pl.int_range(count, eager=True) + start * self.samples).alias("request_index"),
        )


def _same_for_all(recipe: Recipe, requests: Requests) -> dict[str, Any]:
    """The columns whose value every row shares."""
    sampling, teacher = recipe.triples, recipe.teacher
    template = hash_value([teacher.prompt, teacher.system])
    settings = {"omit": sorted(teacher.omit), "template_args": teacher.template_args}
    further = {**teacher.extra, **{name: value for name, value in settings.items() if value}}
    return {
        "source_name": recipe.questions.source,
        "revision": recipe.questions.hf.revision,
        "licence": recipe.questions.licence,
        "teacher": requests.name,
        "teacher_name": teacher.model,
        "teacher_revision": requests.teacher[:16] if teacher.is_folder else teacher.revision,
        "prompt_template_id": template[:8],
        "prompt_template_sha256": template,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "extra": json.dumps(further, ensure_ascii=False) if further else None,
        "run_id": context.current().run_id,
        "flow_run_id": context.current().flow_run_id,
        "code_version": code_version()["git"] or __version__,
        "config_sha256": hash_value(recipe.model_dump(mode="json")),
        "schema_version": 1,
    }


def _full_text(text: str, reasoning: str) -> pl.Expr:
    """The teacher's full text: a reasoning in a field of its own stands inline before the rest."""
    thought = pl.col(reasoning).str.strip_chars()
    inline = pl.format(f"{THINK_OPEN}\n{{}}\n{THINK_CLOSE}\n\n{{}}", thought, pl.col(text))
    return pl.when(thought != "").then(inline).otherwise(pl.col(text))


def _provider(recipe: Recipe) -> pl.Expr:
    """The provider of each row: a server, or the engine on this side, which an earlier artifact may have chosen."""
    if recipe.teacher.is_endpoint:
        return pl.lit(recipe.teacher.provider or "endpoint")
    by_vllm = pl.col("engine_version").str.starts_with("vllm")
    return pl.when(by_vllm).then(pl.lit("vllm")).otherwise(pl.lit("transformers"))


def _cost(recipe: Recipe) -> pl.Expr:
    """USD of each row, less for one that came of a batch, whatever the recipe says now; null without a price."""
    cost = recipe.teacher.list_price_usd(pl.col("prompt_tokens"), pl.col("completion_tokens"))
    if cost is None:
        return pl.lit(None, dtype=pl.Float64)
    by_batch = pl.col("engine_version").str.starts_with(BATCHED)
    return cost * pl.when(by_batch).then(recipe.teacher.batch_price).otherwise(1.0)
