"""Numbers in a form for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from cohobate.core.statistics import Interval


def size(count: float) -> str:
    """A count of bytes with its unit: 12345678 is 12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """45 s, 12 min, 2.5 h or 11.6 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * 86400 else f"{seconds / 86400:.3g} days"


def percent(share: float | None) -> str:
    """0.4213 -> 42.1%; None -> –."""
    return "–" if share is None else f"{share:.1%}"


def percent_interval(share: Interval | None) -> str:
    """`91.0% [88.2%, 93.8%]`, with bounds within 0 to 100%; the mean alone where there are no bounds."""
    if share is None:
        return percent(None)
    if not share.bounded:
        return percent(share.mean)
    return f"{share.mean:.1%} [{max(0.0, share.low):.1%}, {min(1.0, share.high):.1%}]"


def model_name(model: str) -> str:
    """A model's name; of a path only the last part, since paths of a machine stay private."""
    return Path(model).name if Path(model).is_absolute() else model


def model_names(column: str) -> pl.Expr:
    """The same of a column of models."""
    import polars as pl

    models = pl.col(column)
    return pl.when(models.str.starts_with("/")).then(models.str.split("/").list.last()).otherwise(models).alias(column)
