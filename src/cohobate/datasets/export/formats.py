"""The formats: what a row of each looks like, and which samples it cannot express.

A format turns a batch of triples into the rows of its file, as polars expressions: no row becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from cohobate.datasets.export import reasoning as parts

Reasoning = Literal["think", "field"]
REASONINGS: tuple[Reasoning, ...] = get_args(Reasoning)
_IDS = ("sample_id", "question_id", "verdict")


@dataclass(frozen=True)
class Style:
    """How a row is written.

    reasoning: think puts the rationale between <think> tags in the text; field gives it the message key
    `reasoning_content`. prompt: the user message, with {question}. system: a system message, if any. separator: between
    the parts of a plain text.
    """

    reasoning: Reasoning = "think"
    prompt: str = "{question}"
    system: str | None = None
    separator: str = " ### "


@dataclass(frozen=True)
class Format:
    """One file format.

    columns: what a row holds besides its ids. pairs: a row is a chosen and a rejected sample of one question.
    fields: `Style.reasoning` may be field. suffix: of the file. reader: who it is made for.
    """

    name: str
    reader: str
    columns: Callable[[Style], list[pl.Expr]]
    pairs: bool = False
    fields: bool = False
    suffix: str = "jsonl"
    reads: tuple[str, ...] = parts.COLUMNS

    @property
    def file(self) -> str:
        """Name of the file with the rows; loaders take it for the split `train`."""
        return f"train.{self.suffix}"

    def unusable(self, style: Style) -> pl.Expr:
        """Why a sample cannot be written in this format; null where it can."""
        if self.name == "parquet":
            return pl.lit(None, dtype=pl.String)
        # No format can say that a text goes on: learnt from, it would teach to stop in the middle.
        reasons = {"truncated": pl.col("truncated")}
        if self.name == "text":
            whole = pl.concat_str("question", pl.col("rationale").fill_null(""), "answer", separator="\0")
            reasons["no final answer"] = pl.col("answer").is_null()
            reasons["contains the separator"] = whole.str.contains(style.separator, literal=True)
        else:
            reasons["nothing after the rationale"] = parts.spoken() == ""
        return pl.coalesce(pl.when(found).then(pl.lit(reason)) for reason, found in reasons.items())


def _message(role: str, content: pl.Expr, style: Style, thought: pl.Expr | None = None) -> pl.Expr:
    fields = [pl.lit(role).alias("role"), content.alias("content")]
    if style.reasoning == "field":
        fields.append((pl.lit(None, dtype=pl.String) if thought is None else thought).alias("reasoning_content"))
    return pl.struct(fields)


def _asked(style: Style) -> pl.Expr:
    """The user's message, with the question in its place."""
    before, *after = style.prompt.split("{question}")
    pieces: list[pl.Expr] = [pl.lit(before)]
    for text in after:
        pieces += [pl.col("question"), pl.lit(text)]
    return pl.concat_str(pieces)


def _opening(style: Style) -> list[pl.Expr]:
    system = [_message("system", pl.lit(style.system), style)] if style.system else []
    return [*system, _message("user", _asked(style), style)]


def _reply(style: Style) -> pl.Expr:
    if style.reasoning == "field":
        return _message("assistant", parts.spoken(), style, parts.thinking())
    return _message("assistant", parts.tagged(), style)


def _messages(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style), _reply(style)).alias("messages")]


def _prompt_completion(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style)).alias("prompt"), pl.concat_list(_reply(style)).alias("completion")]


def _alpaca(style: Style) -> list[pl.Expr]:
    system = [pl.lit(style.system).alias("system")] if style.system else []
    instruction = [_asked(style).alias("instruction"), pl.lit("").alias("input")]
    return [*system, *instruction, parts.tagged().alias("output")]


def _sharegpt(style: Style) -> list[pl.Expr]:
    def turn(who: str, value: pl.Expr) -> pl.Expr:
        return pl.struct(pl.lit(who).alias("from"), value.alias("value"))

    system = [turn("system", pl.lit(style.system))] if style.system else []
    turns = [*system, turn("human", _asked(style)), turn("gpt", parts.tagged())]
    return [pl.concat_list(*turns).alias("conversations")]


def _text(style: Style) -> list[pl.Expr]:
    pieces = [pl.col("question"), pl.col("rationale").fill_null(""), pl.col("answer")]
    return [pl.concat_str(pieces, separator=style.separator).alias("text")]


# Of a pair, these are the columns that each side gives; the writer names them chosen and rejected.
def _preference(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style)).alias("prompt"), pl.concat_list(_reply(style)).alias("reply")]


def _preference_text(style: Style) -> list[pl.Expr]:
    system = [pl.lit(style.system).alias("system")] if style.system else []
    return [*system, _asked(style).alias("prompt"), parts.tagged().alias("reply")]


def _everything(style: Style) -> list[pl.Expr]:
    return []


FORMATS = {
    made.name: made
    for made in (
        Format("messages", "TRL, LLaMA-Factory, axolotl, any OpenAI-style reader", _messages, fields=True),
        Format("prompt-completion", "TRL, with loss on the completion only", _prompt_completion, fields=True),
        Format("alpaca", "LLaMA-Factory, axolotl", _alpaca),
        Format("sharegpt", "LLaMA-Factory, axolotl", _sharegpt),
        Format("text", "language modelling on question, rationale and answer", _text),
        Format("preference", "TRL's DPOTrainer", _preference, pairs=True, fields=True),
        Format("preference-text", "LLaMA-Factory, axolotl, TRL", _preference_text, pairs=True),
        Format("parquet", "every column of the triples, with the verdict", _everything, suffix="parquet", reads=()),
    )
}


def rows(made: Format, batch: pl.DataFrame, style: Style) -> pl.DataFrame:
    """The rows that a batch of triples (with their verdict) becomes; for pairs, its side of each."""
    if made.name == "parquet":
        # Where a model lies on this machine is nobody else's business.
        path = pl.col("teacher_name").str.starts_with("/")
        return batch.with_columns(
            pl.when(path).then(pl.col("teacher_name").str.split("/").list.last()).otherwise("teacher_name")
        )
    return batch.select(*made.columns(style), *_IDS)
