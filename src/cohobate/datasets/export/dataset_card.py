"""The dataset card: README.md of an export, with the front matter that the Hugging Face Hub and `datasets` read.

Its content comes from the rows, the verdicts and the manifests; a template puts it into words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.core.formatting import model_name
from cohobate.core.frequencies import counts
from cohobate.core.markdown import Yaml, front_matter, quoted
from cohobate.datasets.export.card_template import environment, lineage
from cohobate.datasets.export.formats import Format
from cohobate.datasets.export.prompts import Style
from cohobate.datasets.export.writer import Written
from cohobate.datasets.selection import Selection
from cohobate.datasets.teacher_names import changed_teachers
from cohobate.store.artifacts import Artifact

_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
_SAMPLES, _SAMPLE_LENGTH = 3, 1500
_TEACHER = ["teacher_name", "teacher_revision", "provider", "engine_version"]
_SAMPLING = ["temperature", "top_p", "top_k", "max_tokens", "seed"]


@dataclass(frozen=True)
class Export:
    """An export: its source, format and selection, the rows written, and the samples left out by reason."""

    name: str
    artifact: Artifact
    format: Format
    style: Style
    selection: Selection
    written: Written
    samples: pl.DataFrame
    left_out: dict[str, int]


def dataset_card(export: Export, file: Path, llama_factory: dict[str, Any] | None, axolotl: str | None) -> str:
    """README.md for the rows in `file`."""
    scan = pl.scan_parquet(export.artifact.path / "triples.parquet")
    licences = scan.select(pl.col("licence").unique()).collect()["licence"]
    config = export.artifact.manifest.config
    return (
        environment()
        .get_template("card.md.j2")
        .render(
            front=_front_matter(export, licences.drop_nulls().sort().to_list()),
            export=export,
            licences=licences.drop_nulls().sort().to_list(),
            unknown_licence=licences.null_count() > 0,
            verdicts=counts(export.samples["verdict"]),
            questions=export.samples["question_id"].n_unique(),
            rates=_rates(export.samples),
            teachers=_distinct(scan, _TEACHER, {"teacher_name": model_name}),
            changed_teachers=changed_teachers(export.artifact.path),
            samplings=_distinct(scan, _SAMPLING),
            sources=_distinct(scan, ["source_name", "revision", "split"]),
            asked=config.get("teachers") or [config["teacher"]],
            tokens=_tokens(scan),
            cost=scan.select(pl.col("cost_usd").sum(), (pl.col("cost_usd").count() > 0).alias("known"))
            .collect()
            .row(0),
            lineage=lineage(export.artifact),
            manifest=export.artifact.manifest,
            examples=_examples(file),
            llama_factory=llama_factory and json.dumps({export.name: llama_factory}, indent=2),
            axolotl=axolotl,
        )
    )


def _front_matter(export: Export, licences: list[str]) -> str:
    size = next((name for limit, name in _SIZES if export.written.rows < limit), "n>10M")
    values: dict[str, Yaml] = {"pretty_name": quoted(export.name)}
    if licences:
        values["license"] = [quoted(licence.lower()) for licence in licences]
    pairs = ["dpo"] if export.format.pairs else []
    values |= {
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "distillation", "reasoning", *pairs],
        "size_categories": [size],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": export.format.file}]},
        ],
    }
    if export.format.suffix == "jsonl" and export.written.schema:
        # Without it `datasets` guesses types from the first rows, and a column that is null there breaks later.
        values["dataset_info"] = {"features": _features(export.written.schema)}
    return front_matter(values)


def _features(schema: pl.Schema) -> list[Yaml]:
    """The columns as `datasets` writes them: strings and booleans, and lists and structs of them."""
    features: list[Yaml] = []
    for name, kind in schema.items():
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if isinstance(inner, pl.Struct):
            word = "list" if isinstance(kind, pl.List) else "struct"
            features.append({"name": name, word: _features(pl.Schema(inner.to_schema()))})
        else:
            features.append({"name": name, "dtype": "bool" if kind == pl.Boolean else "string"})
    return features


def _distinct(scan: pl.LazyFrame, columns: list[str], shown: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The different values that these columns take together, without those that are null."""
    rows = scan.select(columns).unique().sort(columns).collect().to_dicts()
    shown = shown or {}
    return [{k: shown.get(k, str)(v) for k, v in row.items() if v is not None} for row in rows]


def _rates(samples: pl.DataFrame) -> dict[str, int]:
    """Questions by their pass rate."""
    rate = samples.unique("question_id")["pass_rate"]
    decided = rate.drop_nulls()
    return {
        "never right": int((decided == 0).sum()),
        "sometimes right": int(((decided > 0) & (decided < 1)).sum()),
        "always right": int((decided == 1).sum()),
        "undecided": rate.null_count(),
    }


def _tokens(scan: pl.LazyFrame) -> dict[str, float]:
    tokens = pl.col("completion_tokens")
    row = scan.select(
        tokens.sum().alias("total"),
        tokens.mean().alias("mean"),
        tokens.median().alias("median"),
        tokens.quantile(0.95, "nearest").alias("95th percentile"),
        tokens.max().alias("longest"),
    )
    return row.collect().row(0, named=True)


def _examples(file: Path) -> list[str]:
    """The first rows, indented, the longest of them cut."""
    if file.suffix == ".parquet":
        rows = pl.scan_parquet(file).head(_SAMPLES).select("question", "rationale", "answer", "verdict").collect()
        values = rows.to_dicts()
    else:
        with file.open(encoding="utf-8") as lines:
            values = [json.loads(line) for line in islice(lines, _SAMPLES)]
    texts = [json.dumps(value, indent=1, ensure_ascii=False) for value in values]
    return [text if len(text) <= _SAMPLE_LENGTH else f"{text[:_SAMPLE_LENGTH]} ..." for text in texts]
