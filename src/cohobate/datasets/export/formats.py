"""The export formats: the row of each, and the samples that it cannot express.

A format turns a batch of triples into the rows of its file by polars expressions: no row becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from cohobate.core.formatting import model_names
from cohobate.datasets.export import reasoning
from cohobate.datasets.export.prompts import Style, is_one_turn, message, opening, system_message, user_message

_SENDERS = {"system": "system", "user": "human", "assistant": "gpt"}
_IDS = ("sample_id", "question_id", "verdict")


@dataclass(frozen=True)
class Format:
    """One file format.

    columns: the content of a row besides its ids. pairs: a row is a chosen and a rejected sample of one question.
    fields: `Style.reasoning` may be field. turns: every assistant message of a row may be learnt. one_turn: a row
    has one user message. suffix: of the file. reader: the libraries that read it.
    """

    name: str
    reader: str
    columns: Callable[[Style], list[pl.Expr]]
    pairs: bool = False
    fields: bool = False
    turns: bool = False
    one_turn: bool = False
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
        if self.one_turn:
            reasons["several turns"] = ~is_one_turn()
        if self.name == "text":
            parts = pl.concat_str("question", pl.col("rationale").fill_null(""), "answer", separator="\0")
            reasons["no final answer"] = pl.col("answer").is_null()
            reasons["contains the separator"] = parts.str.contains(style.separator, literal=True)
        else:
            reasons["nothing after the rationale"] = reasoning.visible() == ""
        return pl.coalesce(pl.when(applies).then(pl.lit(reason)) for reason, applies in reasons.items())


def _reply(style: Style) -> pl.Expr:
    if style.reasoning == "field":
        return message("assistant", reasoning.visible(), style, reasoning.rationale())
    return message("assistant", reasoning.tagged(), style)


def _messages(style: Style) -> list[pl.Expr]:
    return [_whole(style).alias("messages")]


def _whole(style: Style) -> pl.Expr:
    """The prompt and the reply in one list."""
    return pl.concat_list(opening(style), pl.concat_list(_reply(style)))


def _prompt_completion(style: Style) -> list[pl.Expr]:
    return [opening(style).alias("prompt"), pl.concat_list(_reply(style)).alias("completion")]


def _alpaca(style: Style) -> list[pl.Expr]:
    instruction = [user_message(style).alias("instruction"), pl.lit("").alias("input")]
    return [*_system_column(style), *instruction, reasoning.tagged().alias("output")]


def _system_column(style: Style) -> list[pl.Expr]:
    return [system_message(style).alias("system")] if style.writes_systems else []


def _sharegpt(style: Style) -> list[pl.Expr]:
    turn = pl.element().struct
    sender = turn.field("role").replace_strict(_SENDERS, return_dtype=pl.String).alias("from")
    train = [turn.field("train")] if style.marks_turns else []
    turns = _whole(style).list.eval(pl.struct(sender, turn.field("content").alias("value"), *train))
    return [turns.alias("conversations")]


def _text(style: Style) -> list[pl.Expr]:
    pieces = [pl.col("question"), pl.col("rationale").fill_null(""), pl.col("answer")]
    return [pl.concat_str(pieces, separator=style.separator).alias("text")]


# Each side of a pair gives these columns; the writer names them chosen and rejected.
def _preference(style: Style) -> list[pl.Expr]:
    return [opening(style).alias("prompt"), pl.concat_list(_reply(style)).alias("reply")]


def _preference_text(style: Style) -> list[pl.Expr]:
    return [*_system_column(style), user_message(style).alias("prompt"), reasoning.tagged().alias("reply")]


def _everything(style: Style) -> list[pl.Expr]:
    return []


FORMATS = {
    file_format.name: file_format
    for file_format in (
        Format("messages", "TRL, LLaMA-Factory, axolotl, any OpenAI-style reader", _messages, fields=True, turns=True),
        Format("prompt-completion", "TRL, with loss on the completion only", _prompt_completion, fields=True),
        Format("alpaca", "LLaMA-Factory, axolotl", _alpaca, one_turn=True),
        Format("sharegpt", "LLaMA-Factory, axolotl", _sharegpt, turns=True),
        Format("text", "language modelling on question, rationale and answer", _text),
        Format("preference", "TRL's DPOTrainer", _preference, pairs=True, fields=True),
        Format("preference-text", "LLaMA-Factory, axolotl, TRL", _preference_text, pairs=True, one_turn=True),
        Format("parquet", "every column of the triples, with the verdict", _everything, suffix="parquet", reads=()),
    )
}


def rows(file_format: Format, batch: pl.DataFrame, style: Style) -> pl.DataFrame:
    """The rows of a batch of triples (with their verdict); of a format with pairs, one side of each row."""
    if file_format.name == "parquet":
        return batch.with_columns(model_names("teacher_name"))
    return batch.select(*file_format.columns(style), *_IDS)
