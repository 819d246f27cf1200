"""The dataset page: a set of samples as one HTML file that needs no network and can be searched.

Counts and distributions are of all rows. The table holds as many rows as a browser handles; of a larger artifact whole
questions are drawn at random.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from cohobate.core.atomic_files import replacing
from cohobate.core.errors import StoreError
from cohobate.core.formatting import model_names
from cohobate.core.frequencies import counts
from cohobate.core.sanitize import one_line
from cohobate.core.statistics import wilson
from cohobate.datasets.teacher_names import changed_teachers
from cohobate.report.histograms import Bar, Histogram, bars, histogram
from cohobate.report.payload import blocks, labels
from cohobate.report.render import asset, environment
from cohobate.report.sample_rows import failed_requests, sample_rows
from cohobate.store.artifacts import Artifact

# Rows and bytes of text that a page holds: a browser needs a few times as much memory.
ROWS = 50_000
TEXT = 160_000_000
_SEED = 0
_FILTERS = (
    ("verdict", "verdict"),
    ("reason", "reason"),
    ("rejected", "rejected for"),
    ("finish_reason", "finish"),
    ("split", "split"),
    ("source", "source"),
    ("teacher", "teacher"),
    ("model", "model"),
    ("decoding", "decoding"),
)


def default_path(artifact: Artifact) -> Path:
    """The page's path without --page: in pages/ beside the artifacts, which stay as they were written."""
    return artifact.path.parent / "pages" / f"{artifact.path.name}.html"


def write_page(artifact: Artifact, path: Path, limit: int = ROWS) -> tuple[int, int]:
    """Write the page of `artifact`; returns the number of rows on the page, and of all rows.

    Raises SelectionError for an artifact without samples and StoreError where the page cannot be written.
    """
    rows = sample_rows(artifact).with_columns(model_names("model"))
    if path.resolve().is_relative_to(artifact.path.resolve()):
        raise StoreError(f"{path} lies inside {artifact.id}, which a page must not change; give another place")
    outline = _outline(rows)
    shown = _draw(rows, outline, limit)
    values = labels(shown)
    script = asset("list.js") + asset("dataset.js")
    template = environment().get_template("dataset.html.j2")
    page = template.stream(
        **_facts(artifact, outline),
        shown=len(shown),
        filters=_filters(shown, values),
        labels=values,
        blocks=blocks(shown, values),
        style=Markup(asset("base.css") + asset("dataset.css")),
        script=Markup(script),
        # The browser then runs no other script and loads nothing, whatever the text of a row.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        ranged=shown["pass_rate"].drop_nulls().n_unique() > 1,
    )
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(page)
    except OSError as error:
        raise StoreError(f"the page {path} cannot be written: {error.strerror}") from None
    return len(shown), len(outline)


def _outline(rows: pl.LazyFrame) -> pl.DataFrame:
    """Every row without its texts, and the size of its texts in bytes."""
    texts = ("question", "response", "answer")
    size = pl.sum_horizontal(pl.col(name).str.len_bytes() for name in texts).alias("bytes")
    chosen = pl.exclude("sample_id", "rationale", "gold", "reject_detail", *texts)
    return rows.select(chosen, size).collect(engine="streaming")


def _draw(rows: pl.LazyFrame, outline: pl.DataFrame, limit: int) -> pl.DataFrame:
    """As many rows as the limits allow, in order: all, or all those of questions drawn at random."""
    if len(outline) <= limit and outline["bytes"].sum() <= TEXT:
        return rows.collect()
    questions = outline.group_by("question_id", maintain_order=True).agg(n=pl.len(), size=pl.col("bytes").sum())
    drawn = questions.sample(fraction=1.0, shuffle=True, seed=_SEED)
    fits = (pl.col("n").cum_sum() <= limit) & (pl.col("size").cum_sum() <= TEXT)
    chosen = drawn.filter(fits)
    if chosen.is_empty():  # one question alone is too large
        return rows.head(max(1, min(limit, int(TEXT / max(1.0, float(outline["bytes"].mean() or 1)))))).collect()  # type: ignore[arg-type]
    return rows.filter(pl.col("question_id").is_in(chosen["question_id"].to_list())).collect()


def _facts(artifact: Artifact, outline: pl.DataFrame) -> dict[str, Any]:
    """The content of the page above its table; of a curated artifact, of the samples that stay."""
    samples = outline.filter(pl.col("rejected").is_null())
    verdicts = counts(samples["verdict"])
    decided = verdicts.get("correct", 0) + verdicts.get("incorrect", 0)
    rate = wilson(verdicts.get("correct", 0), decided)
    failed = counts(failed_requests(artifact)["error_class"]) if artifact.stage == "triples" else {}
    return {
        "artifact": artifact,
        "manifest": artifact.manifest,
        "stage": artifact.stage,
        "total": len(outline),
        "samples": len(samples),
        "questions": samples["question_id"].n_unique(),
        "rate": rate.as_row("accuracy") if decided else None,
        "decided": decided,
        "prompt_tokens": samples["prompt_tokens"].sum(),
        "completion_tokens": samples["completion_tokens"].sum(),
        "cost": samples["cost_usd"].sum() if samples["cost_usd"].count() else None,
        "failed": sum(failed.values()),
        "changed_teachers": changed_teachers(artifact.path) if artifact.stage == "triples" else [],
        "models": [one_line(name) for name in counts(samples["model"])],
        "lists": _lists(samples, {"Why rejected": counts(outline["rejected"]), "Failed requests": failed}),
        "histograms": _histograms(samples),
    }


def _lists(samples: pl.DataFrame, more: dict[str, dict[str, int]]) -> dict[str, list[Bar]]:
    """Counted labels by headline; lists without an entry are left out, and of origins those with one entry."""
    lists = {
        "Verdicts": counts(samples["verdict"]),
        "Why not correct": counts(samples["reason"]),
        "How responses end": counts(samples["finish_reason"]),
        **more,
    }
    origins = {
        "Sources": counts(samples["source"]),
        "Splits": counts(samples["split"]),
        "Teachers": counts(samples["teacher"]),
        "Models": counts(samples["model"]),
    }
    lists |= {title: counted for title, counted in origins.items() if len(counted) > 1}
    return {
        title: bars([(one_line(label), count) for label, count in counted.items()])
        for title, counted in lists.items()
        if counted
    }


def _histograms(samples: pl.DataFrame) -> list[Histogram]:
    questions = samples.group_by("question_id").agg(n=pl.len(), rate=pl.col("pass_rate").first())
    drawn = (
        histogram("Response", "tokens", samples["completion_tokens"]),
        histogram("Prompt", "tokens", samples["prompt_tokens"]),
        histogram("Pass rate of a question", "share correct", questions["rate"], width=0.05),
        histogram("Samples of a question", "samples", questions["n"]),
        histogram("Cost of a response", "USD", samples["cost_usd"]),
        histogram("Latency of a response", "ms", samples["latency_ms"]),
        histogram("Student above teacher", "nats per token", samples["gap"]),
    )
    # A single value is shown by the tiles.
    return [each for each in drawn if each is not None and sum(1 for one in each.bins if one.count) > 1]


def _filters(shown: pl.DataFrame, values: dict[str, list[str]]) -> list[dict[str, Any]]:
    """A menu for each label with several values: its values with their code and count."""
    menus = []
    for name, title in _FILTERS:
        counted = counts(shown[name])
        missing = shown[name].null_count()
        if len(counted) + bool(missing) > 1:
            options = [(code, one_line(value), counted[value]) for code, value in enumerate(values[name])]
            menus.append({"name": name, "title": title, "options": options, "missing": missing})
    return menus
