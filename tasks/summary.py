"""What the run page says of a finished artifact, as Markdown."""

from typing import Any

from cohobate.store import Artifact


def summary(artifact: Artifact) -> str:
    """Id, place, size, metrics and cost of `artifact`."""
    made = artifact.manifest
    state = "found in the store" if artifact.cached else f"made in {made.seconds:.0f} s"
    lines = [
        f"## {artifact.id}",
        "",
        f"{state} · `{artifact.path}` · fingerprint `{artifact.fingerprint[:16]}`",
        "",
    ]
    if isinstance(made.metrics, dict):
        lines += _table(["metric", "value"], [[name, value] for name, value in made.metrics.items()])
    else:
        columns = ["student", "split", "decoding", "n", "accuracy", "low", "high"]
        lines += _table(columns, [[row.get(name) for name in columns] for row in made.metrics])
    if made.ledger:
        columns = ["model", "work", "sequences", "tokens", "flops", "paid"]
        lines += ["", *_table(columns, [[row[name] for name in columns] for row in made.ledger])]
    return "\n".join(lines)


def _table(header: list[str], rows: list[list[Any]]) -> list[str]:
    body = [" | ".join(_text(value) for value in row) for row in rows]
    return [" | ".join(header), " | ".join("---" for _ in header), *body]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and value >= 10**9:
        return f"{value:.3g}"
    return str(value).replace("|", "\\|")
