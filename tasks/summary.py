"""Finished artifacts on the run page, as Markdown."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cohobate.core import markdown
from cohobate.core.formatting import size
from cohobate.store.artifacts import Artifact
from cohobate.store.manifest import Manifest

_SCORES = ["student", "split", "decoding", "n", "accuracy", "low", "high"]
_LEDGER = ["model", "work", "sequences", "tokens", "flops", "paid"]
_FIGURE_BYTES = 200_000


def of_artifact(artifact: Artifact) -> str:
    """Id, path, metrics and cost of `artifact`."""
    manifest = artifact.manifest
    lines = [
        f"## {artifact.id}",
        "",
        f"{_state(artifact)} · `{artifact.path}` · fingerprint `{artifact.fingerprint[:16]}`",
        "",
    ]
    if manifest.has_scores:
        lines += _scores(manifest)
    else:
        lines += table(["metric", "value"], list(manifest.named_metrics.items()))
    if manifest.ledger:
        lines += ["", *table(_LEDGER, [[row[name] for name in _LEDGER] for row in manifest.ledger])]
    return "\n".join(lines)


def of_run(artifacts: Sequence[Artifact]) -> str:
    """Scores, figures, artifacts with their paths, and the compute ledger."""
    lines = ["# What came out", ""]
    for artifact in artifacts:
        if artifact.stage == "evaluation":
            lines += [*_scores(artifact.manifest), ""]
        if artifact.stage == "report":
            lines += [f"The whole report: `{artifact.path / 'index.html'}`", "", *_figures(artifact.path / "figures")]
    lines += ["## Artifacts", "", *table(["artifact", "", "rows", "size", "path"], [_row(a) for a in artifacts])]
    entries = [{"stage": a.stage, **entry} for a in artifacts for entry in a.manifest.ledger]
    if entries:
        names = ["stage", *_LEDGER]
        lines += ["", "## Ledger", "", *table(names, [[entry[name] for name in names] for entry in entries])]
        flops = sum(entry["flops"] for entry in entries)
        here = sum(e["flops"] for a in artifacts if not a.cached for e in a.manifest.ledger if e["paid"] == "here")
        lines += ["", f"In all {flops:.3g} FLOPs, {here:.3g} of them spent by this run."]
    return "\n".join(lines)


def rows(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """One row per artifact, for a table."""
    names = ["artifact", "state", "rows", "size", "path"]
    return [dict(zip(names, [_text(value) for value in _row(artifact)], strict=True)) for artifact in artifacts]


def table(header: Sequence[str], body: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a Markdown table, with rounded numbers."""
    return markdown.table(header, [[_text(value) for value in row] for row in body])


def _scores(manifest: Manifest) -> list[str]:
    rows = [score.as_row() for score in manifest.scores]
    return table(_SCORES, [[row.get(name) for name in _SCORES] for row in rows])


def _row(artifact: Artifact) -> list[Any]:
    manifest = artifact.manifest
    count = "" if manifest.rows is None else f"{manifest.rows:,}"
    return [artifact.id, _state(artifact), count, size(sum(each.bytes for each in manifest.files)), str(artifact.path)]


def _state(artifact: Artifact) -> str:
    return "found in the store" if artifact.cached else f"made in {artifact.manifest.seconds:.1f} s"


def _figures(folder: Path) -> list[str]:
    """The report's figures, inline: a page of the server may not show a file of the worker's."""
    lines = []
    for path in sorted(folder.glob("*.svg")):
        if path.stat().st_size <= _FIGURE_BYTES:
            data = base64.b64encode(on_white(path.read_text(encoding="utf-8")).encode()).decode()
            lines += [f"![{path.stem}](data:image/svg+xml;base64,{data})", ""]
    return lines


def on_white(svg: str) -> str:
    """With a white background: the figures' text is black, and would be invisible on the UI's dark pages."""
    return re.sub(r"(<svg\b[^>]*>)", r'\1<rect width="100%" height="100%" fill="white"/>', svg, count=1)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and value >= 10**9:
        return f"{value:.3g}"
    return str(value)
