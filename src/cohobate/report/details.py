"""What the page of all runs shows of one artifact: curves, settings, scores, rollouts and samples.

Each artifact's stand in a script of their own, which the page loads when they are asked for: a page that is opened from
the disk may load scripts and nothing else. An artifact never changes, so its script is written once. All is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from cohobate.core.atomic_files import replacing
from cohobate.core.errors import CohobateError, DamagedFileError, StoreError
from cohobate.core.sanitize import without_secrets
from cohobate.report.payload import packed, rounded
from cohobate.report.render import shade
from cohobate.report.sample_rows import STAGES, sample_rows
from cohobate.report.transcripts import shaded_rollouts
from cohobate.store.artifacts import Artifact
from cohobate.store.manifest import Manifest, Metrics

CALLED = "cohobateDetails"  # the function of the page that a script calls, with nothing but base64
POINTS = 400  # of a curve: of more only every n-th is shown, and the last
CURVES, SETTINGS, SCORES = 24, 600, 64
ROLLOUTS, TOKENS = 4, 400
SAMPLES, TEXT = 8, 2_000  # rows, and characters of each text of a row
_VALUE = 300  # characters of a setting
_NO_CURVE = {"step", "teacher_flops", "student_flops"}
_SEED = 0


def details_path(artifact: Artifact) -> Path:
    """The path of the script: in pages/ beside the artifacts, which stay as they were written."""
    return artifact.path.parent / "pages" / f"{artifact.path.name}.js"


def write_details(artifact: Artifact) -> Path:
    """Write the script of `artifact`, and return its path.

    Raises DamagedFileError, which names the file, where the artifact cannot be read, and StoreError where the script
    cannot be written.
    """
    try:
        content = packed(details(artifact))
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedFileError(f"{artifact.path} cannot be read: {reason}; run its recipe again") from None
    path = details_path(artifact)
    try:
        with replacing(path) as temporary:
            temporary.write_text(f'{CALLED}("{content}");\n', encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    return path


def details(artifact: Artifact) -> dict[str, Any]:
    """{id, stage, rows, seconds, flops, tokens, metrics, scores, settings, curves, rollouts, samples}."""
    manifest = artifact.manifest
    return {
        "id": manifest.id,
        "stage": manifest.stage,
        "made": manifest.created_at,
        "fingerprint": manifest.fingerprint,
        "rows": manifest.rows,
        "seconds": manifest.seconds,
        "parents": [parent.id for parent in manifest.parents],
        "flops": sum(entry["flops"] for entry in manifest.ledger),
        "tokens": sum(entry["tokens"] for entry in manifest.ledger),
        "metrics": {} if manifest.has_scores else _numbers(manifest.named_metrics),
        "scores": _scores(manifest),
        "settings": dict(_settings(manifest.config)),
        "curves": _curves(artifact.path),
        "rollouts": _rollouts(artifact) if artifact.stage == "opd" else [],
        "samples": _samples(artifact) if artifact.stage in STAGES else [],
    }


def _numbers(metrics: Metrics) -> dict[str, Any]:
    return {
        name: rounded(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _scores(manifest: Manifest) -> list[Metrics]:
    if not manifest.has_scores:
        return []
    names = ("student", "split", "decoding", "n", "accuracy", "low", "high")
    return [{name: rounded(score.as_row()[name]) for name in names} for score in manifest.scores[:SCORES]]


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted name, value) of each setting of a recipe that is set."""
    values = list(_flat(config, ""))
    return ((name, without_secrets(str(value))[:_VALUE]) for name, value in values[:SETTINGS])


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield before + name, value


def _curves(folder: Path) -> dict[str, list[list[float]]]:
    """[steps, values] by measure: of the metrics of each step, and the accuracy at each evaluation point."""
    curves: dict[str, list[list[float]]] = {}
    if (folder / "metrics.parquet").is_file():
        frame = pl.read_parquet(folder / "metrics.parquet")
        measured = [name for name in frame.columns if frame[name].dtype.is_numeric() and name not in _NO_CURVE]
        if "step" in frame.columns:
            curves = {name: _curve(frame, name) for name in measured[:CURVES]}
    if (folder / "points.parquet").is_file():
        frame = pl.read_parquet(folder / "points.parquet")
        if {"step", "decoding", "accuracy"} <= set(frame.columns):
            for decoding in frame["decoding"].unique(maintain_order=True).to_list()[:4]:
                points = frame.filter(pl.col("decoding") == decoding)
                curves[f"accuracy, {decoding}"] = _curve(points, "accuracy")
    return {name: curve for name, curve in curves.items() if len(curve[0]) > 1}


def _curve(frame: pl.DataFrame, name: str) -> list[list[float]]:
    rows = frame.select("step", pl.col(name).cast(pl.Float64)).filter(pl.col(name).is_finite())
    every = max(1, -(-len(rows) // POINTS))
    shown = rows.with_row_index("at").filter((pl.col("at") % every == 0) | (pl.col("at") == len(rows) - 1))
    return [shown["step"].to_list(), [rounded(value) for value in shown[name].to_list()]]


def _rollouts(opd: Artifact) -> list[dict[str, Any]]:
    """Rollouts with the text, the shade and the gap of each token."""
    return [
        {
            "step": shown["step"],
            "prompt": shown["prompt"][:TEXT],
            "cut": shown["finish_reason"] == "length",
            "gap": rounded(shown["mean_gap"]),
            "tokens": [[token["text"], shade(token["gap"]), rounded(token["gap"])] for token in shown["tokens"]],
        }
        for shown in shaded_rollouts(opd, ROLLOUTS, _SEED, TOKENS)
    ]


def _samples(artifact: Artifact) -> list[dict[str, Any]]:
    """The first rows, and of each what the page shows; their texts are cut."""
    names = ("sample_id", "question", "response", "answer", "gold", "verdict", "reason", "rejected", "model", "step")
    try:
        rows = sample_rows(artifact).head(SAMPLES).select(names).collect()
    except CohobateError:  # what it was made from is not stored any more, or is damaged: the dataset page says it
        return []
    return [{name: _cut(value) for name, value in row.items() if value is not None} for row in rows.to_dicts()]


def _cut(value: Any) -> Any:
    return value[:TEXT] + (" …" if len(value) > TEXT else "") if isinstance(value, str) else value
