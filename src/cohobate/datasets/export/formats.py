"""The export formats: the row of each, and the samples that it cannot express.

A format turns a batch of triples into the rows of its file by polars expressions: no row becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from cohobate.core.formatting import model_names
from cohobate.datasets.export import reasoning

Reasoning = Literal["think", "field"]
REASONINGS: tuple[Reasoning, ...] = get_args(Reasoning)
_IDS = ("sample_id", "question_id", "verdict")


@dataclass(frozen=True)
class Style:
    """How a row is written.

    reasoning: think puts the rationale between <think> tags in the text; field puts it under the message key
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

    columns: the content of a row besides its ids. pairs: a row is a chosen and a rejected sample of one question.
    fields: `Style.reasoning` may be field. suffix: of the file. reader: the libraries that read it.
    """

    name: str
    reader: str
    columns: Callable[[Style], list[pl.Expr]]
    pairs: bool = False
    fields: bool = False
    suffix: str = "jsonl"
    reads: tuple[str, ...] = reasoning.COLUMNS

    @property
    def file(self) -> str:
        """Name of the file with the rows; loaders take it for the split `train`."""
        return f"train.{self.suffix}"

    def unusable(self, style: Style) -> pl.Expr:
        """Why a sample cannot be written in this format; null where it can."""
        if self.name == "parquet":
            return pl.lit(None, dtype=pl.String)
        # No format can mark a text as cut: a model trained on it would learn to stop in the middle.
        reasons = {"truncated": pl.col("truncated")}
        if self.name == "text":
            parts = pl.concat_str("question", pl.col("rationale").fill_null(""), "answer", separator="\0")
            reasons["no final answer"] = pl.col("answer").is_null()
            reasons["contains the separator"] = parts.str.contains(style.separator, literal=True)
        else:
            reasons["nothing after the rationale"] = reasoning.visible() == ""
        return pl.coalesce(pl.when(applies).then(pl.lit(reason)) for reason, applies in reasons.items())


def _message(role: str, content: pl.Expr, style: Style, rationale: pl.Expr | None = None) -> pl.Expr:
    fields = [pl.lit(role).alias("role"), content.alias("content")]
    if style.reasoning == "field":
        fields.append((pl.lit(None, dtype=pl.String) if rationale is None else rationale).alias("reasoning_content"))
    return pl.struct(fields)


def _user_message(style: Style) -> pl.Expr:
    """The user's message, with {question} replaced."""
    before, *after = style.prompt.split("{question}")
    pieces: list[pl.Expr] = [pl.lit(before)]
    for text in after:
        pieces += [pl.col("question"), pl.lit(text)]
    return pl.concat_str(pieces)


def _opening(style: Style) -> list[pl.Expr]:
    system = [_message("system", pl.lit(style.system), style)] if style.system else []
    return [*system, _message("user", _user_message(style), style)]


def _reply(style: Style) -> pl.Expr:
    if style.reasoning == "field":
        return _message("assistant", reasoning.visible(), style, reasoning.rationale())
    return _message("assistant", reasoning.tagged(), style)


def _messages(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style), _reply(style)).alias("messages")]


def _prompt_completion(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style)).alias("prompt"), pl.concat_list(_reply(style)).alias("completion")]


def _alpaca(style: Style) -> list[pl.Expr]:
    system = [pl.lit(style.system).alias("system")] if style.system else []
    instruction = [_user_message(style).alias("instruction"), pl.lit("").alias("input")]
    return [*system, *instruction, reasoning.tagged().alias("output")]


def _sharegpt(style: Style) -> list[pl.Expr]:
    def turn(sender: str, value: pl.Expr) -> pl.Expr:
        return pl.struct(pl.lit(sender).alias("from"), value.alias("value"))

    system = [turn("system", pl.lit(style.system))] if style.system else []
    turns = [*system, turn("human", _user_message(style)), turn("gpt", reasoning.tagged())]
    return [pl.concat_list(*turns).alias("conversations")]


def _text(style: Style) -> list[pl.Expr]:
    pieces = [pl.col("question"), pl.col("rationale").fill_null(""), pl.col("answer")]
    return [pl.concat_str(pieces, separator=style.separator).alias("text")]


# Each side of a pair gives these columns; the writer names them chosen and rejected.
def _preference(style: Style) -> list[pl.Expr]:
    return [pl.concat_list(*_opening(style)).alias("prompt"), pl.concat_list(_reply(style)).alias("reply")]


def _preference_text(style: Style) -> list[pl.Expr]:
    system = [pl.lit(style.system).alias("system")] if style.system else []
    return [*system, _user_message(style).alias("prompt"), reasoning.tagged().alias("reply")]


def _everything(style: Style) -> list[pl.Expr]:
    return []


FORMATS = {
    file_format.name: file_format
    for file_format in (
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


def rows(file_format: Format, batch: pl.DataFrame, style: Style) -> pl.DataFrame:
    """The rows of a batch of triples (with their verdict); of a format with pairs, one side of each row."""
    if file_format.name == "parquet":
        return batch.with_columns(model_names("teacher_name"))
    return batch.select(*file_format.columns(style), *_IDS)
