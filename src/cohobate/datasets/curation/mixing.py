"""Sources at a ratio: as much of each as the scarcest allows, drawn by a seed, none twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cohobate.config import Mix, Part
from cohobate.core.errors import CurationError


def mixed(samples: pl.DataFrame, mix: Mix, artifacts: Sequence[int]) -> pl.DataFrame:
    """One column, reason, for `samples` in their order: null for those that the mix takes.

    samples: columns artifact (number), source_name, completion_tokens. artifacts: the number of the artifact of each
    part. The largest total is taken at which every part has its share: by rows rounded down, by tokens up to the last
    sample that fits. Raises CurationError when a part has no sample.
    """
    parts = _parts(samples, mix, artifacts)
    size = samples["completion_tokens"].to_numpy() if mix.by == "tokens" else np.ones(len(samples), dtype=np.int64)
    members = [np.flatnonzero(parts == number) for number in range(len(mix.parts))]
    for part, rows in zip(mix.parts, members, strict=True):
        if not size[rows].sum():
            raise CurationError(f"no sample is left for {name(part)} of the mix; loosen the limits, or drop that part")
    weights = [part.weight for part in mix.parts]
    total = min(float(size[rows].sum()) / weight for rows, weight in zip(members, weights, strict=True))
    reasons = np.where(parts < 0, "no part of the mix", "beyond its share of the mix").astype(object)
    for number, (rows, weight) in enumerate(zip(members, weights, strict=True)):
        order = rows[np.random.default_rng([mix.seed, number]).permutation(len(rows))]
        # The scarcest part must not lose its last sample to a rounding error.
        reasons[order[np.cumsum(size[order]) <= weight * total * (1 + 1e-12)]] = None
    return pl.DataFrame({"reason": reasons.tolist()}, schema={"reason": pl.String})


def name(part: Part) -> str:
    """The part in words."""
    source = f"source '{part.source}'" if part.source is not None else "the rest" if part.triples is None else "all"
    return f"{source} of {part.triples or 'the triples'}"


def _parts(samples: pl.DataFrame, mix: Mix, artifacts: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of each sample's part; -1 for none. A part with a source takes precedence over one of the rest."""
    chosen = pl.lit(-1)
    ordered = sorted(enumerate(mix.parts), key=lambda pair: pair[1].source is not None)
    for number, part in ordered:
        fits = pl.col("artifact") == artifacts[number]
        if part.source is not None:
            fits &= pl.col("source_name") == part.source
        chosen = pl.when(fits).then(pl.lit(number)).otherwise(chosen)
    return samples.select(chosen.cast(pl.Int64).alias("part"))["part"].to_numpy()
