"""Alarms: signs, in the metrics of the last steps, that a run has gone wrong.

Each metric is compared with its mean over the first steps. Alarms depend on the metrics alone, so a resumed run has the
same alarm at the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cohobate.config import Alarms
from cohobate.training.types import Metrics

FIRST = 5  # steps whose means are the normal values, so that no alarm goes back to before them
# Nats of the teacher, in the mean over a step's responses: ends that it often takes, however early, are above.
_NO_END = -8.0


@dataclass(frozen=True)
class Alarm:
    """The reason, in a sentence, and the first of the steps that crossed the limit.

    advice: what to do about it, where it is known; None: what helps against most alarms.
    """

    reason: str
    first_step: int
    advice: str | None = None


@dataclass(frozen=True)
class _Limit:
    metric: str
    words: str
    bound: float
    below: bool = False

    def crossed(self, value: float) -> bool:
        return value < self.bound if self.below else value > self.bound


def check(metrics: Sequence[Metrics], settings: Alarms) -> Alarm | None:
    """The alarm that the newest step completes, or None; `metrics` has those of all steps from 0 on."""
    recent = metrics[-settings.patience :]
    if len(metrics) < FIRST + settings.patience:
        return None
    for limit in _limits(metrics[:FIRST], settings):
        values = [step.get(limit.metric) for step in recent]
        if all(value is not None and limit.crossed(value) for value in values):
            side = "below" if limit.below else "above"
            reason = f"{limit.words} has been {side} {limit.bound:.3g} for {len(recent)} steps (now {values[-1]:.3g})"
            advice = _on_ends(metrics) if limit.metric == "truncated" else None
            return Alarm(reason, int(recent[0]["step"]), advice)
    return None


def _on_ends(metrics: Sequence[Metrics]) -> str | None:
    """The advice where the teacher takes the student's ends for something else; None where it does not."""
    given = [float(step["end_logprob"]) for step in metrics if step.get("end_logprob") is not None]
    if not given or min(given) > _NO_END:
        return None
    return (
        f"the teacher gives the student's ends of responses {min(given):.3g} nats, so the two end with other tokens: "
        "see sft.end and eos_token_id in both generation_config.json; a lower learning rate does not help"
    )


def _limits(first: Sequence[Metrics], settings: Alarms) -> Iterator[_Limit]:
    def normal(metric: str) -> float | None:
        values = [step[metric] for step in first if step.get(metric) is not None]
        return sum(values) / len(values) if values else None

    if settings.reverse_kl is not None and (kl := normal("reverse_kl")) is not None:
        yield _Limit("reverse_kl", "the reverse KL", kl + settings.reverse_kl)
    if settings.entropy is not None and (entropy := normal("entropy")) is not None:
        yield _Limit("entropy", "the student's entropy", entropy * settings.entropy, below=True)
    if settings.length is not None and (length := normal("mean_length")) is not None:
        yield _Limit("mean_length", "the mean length of rollouts", length * settings.length)
    if settings.truncated is not None and (truncated := normal("truncated")) is not None:
        yield _Limit("truncated", "the truncated share of rollouts", truncated + settings.truncated)
    if settings.repetition is not None and (repetition := normal("repetition")) is not None:
        yield _Limit("repetition", "the repeated share of rollouts", repetition + settings.repetition)
    if settings.mismatch is not None:
        yield _Limit("mismatch_k3", "the KL between sampler and trainer", settings.mismatch)
