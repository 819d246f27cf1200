"""Study of noisy judges: one policy from several seeds, for several shares of flipped verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import polars as pl

from cohobate.config import TinyPolicySettings
from cohobate.config.load import changed
from cohobate.core.statistics import Interval, over_seeds
from cohobate.experiments.grouping import group_by
from cohobate.experiments.tiny_policy.reinforce import answer_greedily, score, train
from cohobate.experiments.tiny_policy.verdicts import judge_all

RIGHT, SAME_PAIRS, EACH_TIME = "right", "the same pairs each time", "anew each time"
"""Kinds of errors: none, always on the same pairs of question and answer, or drawn at each judgement."""


class NoiseRun(TypedDict):
    """A policy of the study: greedy accuracy on its own and on unseen questions, and its last running reward."""

    noise: float
    errors: str
    seed: int
    own: float | None
    unseen: float | None
    running: float
    saved_at: int


@dataclass(frozen=True)
class Condition:
    """A share of flipped verdicts and a kind of errors, over seeds; None where nothing was measured."""

    noise: float
    errors: str
    seeds: int
    own: Interval | None
    unseen: Interval | None
    running: Interval | None

    def as_row(self) -> dict[str, Any]:
        """JSON values, as the manifest holds them."""
        return {name: each.as_row() if isinstance(each, Interval) else each for name, each in vars(self).items()}


def runs(
    config: TinyPolicySettings, own: pl.DataFrame, unseen: pl.DataFrame, answers: tuple[str, ...]
) -> Iterator[NoiseRun]:
    """Train and examine one policy per condition and seed.

    The exact verifier judges, so that the share of wrong verdicts is the share of flipped ones.
    """
    exact = changed(config, {"judge": None}, "the study of noise")
    rewards = judge_all(exact, own, answers, "study").rewards()
    for noise, errors in conditions(config):
        for seed in range(config.study_seeds):
            noisy = {"seed": seed, "noise": noise, "noise_each_time": errors == EACH_TIME}
            of_run = changed(config, noisy, "the study of noise")
            trained = train(of_run, own["question"].to_list(), answers, rewards)
            yield {
                "noise": noise,
                "errors": errors,
                "seed": seed,
                "own": score(answer_greedily(trained.policy, own))["accuracy"],
                "unseen": score(answer_greedily(trained.policy, unseen))["accuracy"] if len(unseen) else None,
                "running": trained.metrics[-1]["running"],
                "saved_at": trained.saved_at,
            }


def conditions(config: TinyPolicySettings) -> list[tuple[float, str]]:
    """Noise and the kind of errors; without noise there is one kind."""
    return [(noise, kind) for noise in config.study_noise for kind in ((SAME_PAIRS, EACH_TIME) if noise else (RIGHT,))]


def summarise(rows: Sequence[NoiseRun]) -> list[Condition]:
    """The runs of each condition over their seeds."""
    return [
        Condition(
            noise,
            errors,
            len(of_condition),
            _spread([row["own"] for row in of_condition]),
            _spread([row["unseen"] for row in of_condition]),
            _spread([row["running"] for row in of_condition]),
        )
        for (noise, errors), of_condition in group_by(rows, lambda row: (row["noise"], row["errors"])).items()
    ]


def _spread(values: Sequence[float | None]) -> Interval | None:
    measured = [value for value in values if value is not None]
    return over_seeds(measured) if measured else None
