"""What a noisy judge does: the same policy from several seeds, with shares of the verdicts turned round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from cohobate.config import TinyPolicySettings
from cohobate.config.load import changed
from cohobate.core.statistics import Interval, over_seeds
from cohobate.experiments.tiny_policy.reinforce import greedy, learn, score
from cohobate.experiments.tiny_policy.verdicts import judge_all

RIGHT, SAME, ANEW = "right", "the same pairs each time", "anew each time"


def runs(
    config: TinyPolicySettings, learnt: pl.DataFrame, unseen: pl.DataFrame, answers: tuple[str, ...]
) -> Iterator[Any]:
    """A row a run: noise, errors, seed, own and unseen accuracy, running reward, the step it was saved after.

    The exact verifier judges, so that the share of wrong verdicts is known.
    """
    rewards = judge_all(changed(config, {"judge": None}, "the study of noise"), learnt, answers, "study").rewards()
    for noise, errors in conditions(config):
        for seed in range(config.study_seeds):
            settings = {"seed": seed, "noise": noise, "noise_each_time": errors == ANEW}
            found = learn(
                changed(config, settings, "the study of noise"), learnt["question"].to_list(), answers, rewards
            )
            yield {
                "noise": noise,
                "errors": errors,
                "seed": seed,
                "own": score(greedy(found.policy, learnt))["accuracy"],
                "unseen": score(greedy(found.policy, unseen))["accuracy"],
                "running": found.metrics[-1]["running"],
                "saved_at": found.saved_at,
            }


def conditions(config: TinyPolicySettings) -> list[tuple[float, str]]:
    """Noise and the kind of errors; without noise there is one kind."""
    return [(noise, kind) for noise in config.study_noise for kind in ((SAME, ANEW) if noise else (RIGHT,))]


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per condition: noise, errors, seeds, and the interval over seeds of own, unseen and running."""

    def spread(found: list[dict[str, Any]], name: str) -> Interval | None:
        values = [row[name] for row in found if row[name] is not None]
        return over_seeds(values) if values else None

    places = list(dict.fromkeys((row["noise"], row["errors"]) for row in rows))
    chosen: Callable[[tuple[float, str]], list[dict[str, Any]]] = lambda place: [  # noqa: E731
        row for row in rows if (row["noise"], row["errors"]) == place
    ]
    return [
        {
            "noise": place[0],
            "errors": place[1],
            "seeds": len(chosen(place)),
            **{name: spread(chosen(place), name) for name in ("own", "unseen", "running")},
        }
        for place in places
    ]
