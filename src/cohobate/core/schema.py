"""The tables that cohobate writes, declared once; polars and Arrow get their types from here.

Neither is loaded before its types are needed: Arrow alone is 45 MB in a process that may not need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_str, _i32, _i64, _f64, _bool, _time = "text", "int32", "int64", "float64", "bool", "time"
_f32, _ids, _logprobs = "float32", "int32s", "float32s"


@dataclass(frozen=True)
class Table:
    """columns: the kind of each, by name. required: the columns without nulls, which the writer checks.

    `time` is in milliseconds, UTC.
    """

    columns: dict[str, str]
    required: frozenset[str]

    @property
    def names(self) -> list[str]:
        """The columns in order."""
        return list(self.columns)

    @cached_property
    def polars(self) -> pl.Schema:
        """The types in memory."""
        import polars as pl

        kinds: dict[str, pl.DataType] = {
            _str: pl.String(),
            _i32: pl.Int32(),
            _i64: pl.Int64(),
            _f32: pl.Float32(),
            _f64: pl.Float64(),
            _bool: pl.Boolean(),
            _time: pl.Datetime("ms", "UTC"),
            _ids: pl.List(pl.Int32()),
            _logprobs: pl.List(pl.Float32()),
        }
        return pl.Schema({name: kinds[kind] for name, kind in self.columns.items()})

    @cached_property
    def arrow(self) -> pa.Schema:
        """The types in files: those that polars writes, whose strings have offsets of 64 bits."""
        import pyarrow as pa

        # Arrow's own allocator keeps freed memory: 20 MB in a process that only writes a table.
        pa.set_memory_pool(pa.system_memory_pool())
        kinds = {
            _str: pa.large_string(),
            _i32: pa.int32(),
            _i64: pa.int64(),
            _f32: pa.float32(),
            _f64: pa.float64(),
            _bool: pa.bool_(),
            _time: pa.timestamp("ms", tz="UTC"),
            _ids: pa.list_(pa.int32()),
            _logprobs: pa.list_(pa.float32()),
        }
        return pa.schema([(name, kinds[kind]) for name, kind in self.columns.items()])


def _table(*columns: tuple[str, str], nullable: str = "") -> Table:
    named = dict(columns)
    return Table(named, frozenset(named) - set(nullable.split()))


QUESTIONS = _table(
    ("question_id", _str),
    ("question", _str),
    ("gold_answer", _str),
    ("gold_response", _str),
    ("split", _str),
    ("kind", _str),
    ("depth", _i32),
    ("meta", _str),
    ("conversation", _str),
    nullable="gold_answer gold_response depth meta conversation",
)

TRIPLES = _table(
    # identity
    ("sample_id", _str),
    ("question_id", _str),
    ("sample_index", _i32),
    ("request_key", _str),
    # triple
    ("question", _str),
    ("response", _str),
    ("rationale", _str),
    ("answer", _str),
    ("answer_extracted", _str),
    ("gold_answer", _str),
    ("gold_source", _str),
    # source
    ("source_name", _str),
    ("split", _str),
    ("row_id", _str),
    ("revision", _str),
    ("licence", _str),
    ("question_meta", _str),
    # teacher
    ("teacher_name", _str),
    ("teacher_model", _str),
    ("teacher_revision", _str),
    ("provider", _str),
    ("engine_version", _str),
    ("prompt_template_id", _str),
    ("prompt_template_sha256", _str),
    ("messages", _str),
    # sampling
    ("temperature", _f64),
    ("top_p", _f64),
    ("top_k", _i32),
    ("max_tokens", _i32),
    ("seed", _i64),
    ("extra", _str),
    # outcome
    ("finish_reason", _str),
    ("truncated", _bool),
    ("rationale_source", _str),
    ("prompt_tokens", _i32),
    ("completion_tokens", _i32),
    ("reasoning_tokens", _i32),
    ("cost_usd", _f64),
    ("latency_ms", _f64),
    ("attempts", _i32),
    ("cached", _bool),
    ("created_at", _time),
    # run
    ("run_id", _str),
    ("flow_run_id", _str),
    ("code_version", _str),
    ("config_sha256", _str),
    ("schema_version", _i32),
    ("conversation", _str),
    # the recipe's name of it, of several teachers
    ("teacher", _str),
    nullable=(
        "rationale answer answer_extracted gold_answer gold_source row_id revision licence question_meta "
        "teacher_revision engine_version extra rationale_source reasoning_tokens cost_usd latency_ms "
        "run_id flow_run_id conversation teacher"
    ),
)

VERDICTS = _table(
    ("sample_id", _str),
    ("verifier", _str),
    ("verifier_version", _i32),
    ("verdict", _str),
    ("reason", _str),
    # the answer's reference: the question's gold answer, or the majority's
    ("gold", _str),
    ("gold_from", _str),
    nullable="reason gold gold_from",
)

# Samples that curation removed: the sample, its verdict, and the reason.
REJECTS = Table(
    {**TRIPLES.columns, "verdict": _str, "reject_reason": _str, "reject_detail": _str},
    TRIPLES.required | {"reject_reason"},
)

RESPONSES = _table(
    ("key", _str),
    ("text", _str),
    ("reasoning", _str),
    ("finish_reason", _str),
    ("prompt_tokens", _i32),
    ("completion_tokens", _i32),
    ("latency_ms", _f64),
    ("attempts", _i32),
    ("reasoning_tokens", _i32),
    ("served_model", _str),
    ("max_tokens", _i32),
    ("paid_by", _str),
    ("engine_version", _str),
    ("created_at", _time),
    nullable="reasoning reasoning_tokens served_model",
)

FAILURES = _table(
    ("request_key", _str),
    ("question_id", _str),
    ("sample_index", _i32),
    ("error_class", _str),
    ("status", _i32),
    ("message", _str),
    ("attempts", _i32),
    ("last_at", _time),
    nullable="status",
)

AGGREGATES = _table(
    ("question_id", _str),
    ("n", _i32),
    ("n_correct", _i32),
    ("pass_rate", _f64),
    ("majority", _str),
    nullable="majority pass_rate",
)

ROLLOUTS = _table(
    ("step", _i32),
    ("row", _i32),
    ("question_id", _str),
    ("sample_index", _i32),
    ("prompt_ids", _ids),
    ("teacher_prompt_tokens", _i32),
    ("response_ids", _ids),
    ("text", _str),
    ("sampler_logprobs", _logprobs),
    ("teacher_logprobs", _logprobs),
    ("teacher_spans", _ids),
    ("reward", _f32),
    ("feedback", _str),
    ("ghost_ids", _ids),
    ("finish_reason", _str),
    ("teacher", _str),
    nullable="reward feedback teacher_logprobs teacher_spans teacher_prompt_tokens ghost_ids teacher",
)

ANSWERS = _table(
    ("student", _str),
    ("split", _str),
    ("decoding", _str),
    ("question_id", _str),
    ("sample_index", _i32),
    ("kind", _str),
    ("depth", _i32),
    ("response", _str),
    ("answer_extracted", _str),
    ("gold_answer", _str),
    ("verdict", _str),
    ("reason", _str),
    ("finish_reason", _str),
    ("prompt_tokens", _i32),
    ("tokens", _i32),
    nullable="depth answer_extracted gold_answer reason",
)
