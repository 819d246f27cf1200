"""The samples that sft learns, in the units by which a night draws them: a sample, or a question of a preference.

A preference objective compares the right and the wrong responses to a question, so these are drawn together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe

if TYPE_CHECKING:
    import polars as pl

    from cohobate.training.objectives.preference import GivenPreference


@dataclass(frozen=True)
class Units:
    """What sft learns. samples: the ids of each unit's samples; before: units of which no sample is new."""

    samples: dict[str, list[str]]
    before: set[str]


def preference_of(recipe: Recipe) -> GivenPreference[Any] | None:
    """The objective of sft where it learns from right and wrong responses, else None."""
    from cohobate.training.objectives.base import off_policy
    from cohobate.training.objectives.preference import GivenPreference

    objective = off_policy(recipe.sft)
    return objective if isinstance(objective, GivenPreference) else None


def units_to_learn(recipe: Recipe, triples: Path, earlier: Path) -> Units:
    """The units of an artifact's folder; `earlier` is that of the triples which the promoted student has learnt.

    Those of a preference are the questions that it can learn, with every judged sample. A sample whose verdict was
    another is new too.
    """
    from cohobate.datasets.export.export import judged_samples
    from cohobate.datasets.selection import Selection, choose, outline, pair

    rule, preference = Selection(recipe.sft.select), preference_of(recipe)
    if preference is None:
        chosen = choose(outline(triples), rule)["sample_id"].to_list()
        return Units({name: [name] for name in chosen}, set(choose(outline(earlier), rule)["sample_id"]))
    judged = _judged(judged_samples(triples))
    if preference.comparison.in_pairs:
        judged = judged.join(pair(judged, rule), on="question_id", how="semi", maintain_order="left")
    new = judged.join(_judged(judged_samples(earlier)), on=["sample_id", "verdict"], how="anti")
    grouped = judged.group_by("question_id", maintain_order=True).agg("sample_id")
    units: dict[str, list[str]] = dict(grouped.iter_rows())
    return Units(units, set(units) - set(new["question_id"]))


def _judged(samples: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return samples.filter(pl.col("verdict").is_in(["correct", "incorrect"]))
