"""When a training run is stopped: closed cases on made-up metrics, and a real run that goes wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cohobate.config import Alarms, Training
from cohobate.core.progress import Bar
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import load
from cohobate.models.sequence import TrainingSequence
from cohobate.training.alarms import check
from cohobate.training.loop import Run
from cohobate.training.metrics import repetition
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.trainee import Trainee
from cohobate.training.triple_source import training_rows
from cohobate.training.types import Metrics, Source, StepBatch
from tests.support.training_runs import TRIPLES

SETTINGS = Alarms(entropy=0.5)
QUIET = {
    "reverse_kl": 0.4,
    "entropy": 1.0,
    "mean_length": 20.0,
    "truncated": 0.1,
    "repetition": 0.05,
    "mismatch_k3": 1e-6,
}


def history(**last: Callable[[int], float]) -> list[Metrics]:
    """Twelve steps: six quiet ones, then six in which `last` says a metric's value by its step."""
    return [
        {"step": step, **QUIET, **({name: value(step) for name, value in last.items()} if step >= 6 else {})}
        for step in range(12)
    ]


def test_a_quiet_run_rings_nothing() -> None:
    assert check(history(), SETTINGS) is None


@pytest.mark.parametrize(
    ("metric", "inside", "outside"),
    [
        ("reverse_kl", 1.39, 1.41),
        ("entropy", 0.51, 0.49),
        ("mean_length", 79.0, 81.0),
        ("truncated", 0.69, 0.71),
        ("repetition", 0.34, 0.36),
        ("mismatch_k3", 0.049, 0.051),
    ],
)
def test_each_alarm_rings_beyond_its_bound_and_not_within(metric: str, inside: float, outside: float) -> None:
    assert check(history(**{metric: lambda _: inside}), SETTINGS) is None
    alarm = check(history(**{metric: lambda _: outside}), SETTINGS)
    assert alarm is not None and alarm.first_step == 12 - SETTINGS.patience
    assert f"{outside:.3g}" in alarm.reason


def test_one_good_step_resets_the_patience() -> None:
    assert check(history(reverse_kl=lambda step: 0.4 if step == 9 else 5.0), SETTINGS) is None


def test_none_switches_an_alarm_off() -> None:
    assert check(history(reverse_kl=lambda _: 50.0), Alarms(reverse_kl=None)) is None


def test_where_the_teacher_takes_the_ends_for_none_the_alarm_of_truncation_names_them() -> None:
    cut = history(truncated=lambda _: 0.9)
    own = check([{**step, "end_logprob": -0.2} for step in cut], SETTINGS)
    other = check([{**step, **({"end_logprob": -24.7} if step["step"] < 8 else {})} for step in cut], SETTINGS)
    assert own is not None and own.advice is None
    assert other is not None and other.reason == own.reason and other.first_step == own.first_step
    assert other.advice is not None and "-24.7 nats" in other.advice and "eos_token_id" in other.advice


def test_a_run_without_these_metrics_rings_nothing() -> None:
    assert check([{"step": step, "loss": 9.0} for step in range(20)], SETTINGS) is None


@pytest.mark.parametrize(
    ("responses", "share"),
    [
        ([[1, 2, 3]], 0.0),  # no 4-gram at all
        ([[1, 2, 3, 4, 5]], 0.0),
        ([[7] * 13], 0.9),  # ten 4-grams, one of them new
        ([[1, 2] * 4], 3 / 5),  # 1212 2121 and three repeats
        ([[1, 2, 3, 4], [1, 2, 3, 4]], 0.0),  # another response may say the same
    ],
)
def test_repetition_is_the_share_of_4_grams_seen_before(responses: list[list[int]], share: float) -> None:
    assert repetition(responses) == pytest.approx(share)


class Worsening(Source):
    """The same rows at every step, whose statistics go wrong from a step on; `kill_at` a step the run is killed."""

    def __init__(self, rows: list[TrainingSequence], wrong_from: int, kill_at: int | None) -> None:
        self.rows, self.wrong_from, self.kill_at = rows, wrong_from, kill_at

    def batch(self, step: int) -> StepBatch:
        if step == self.kill_at:
            raise KeyboardInterrupt
        return StepBatch(self.rows, statistics={"truncated": float(step >= self.wrong_from)})


def run(folder: Path, wrong_from: int = 14, kill_at: int | None = None, snapshot_every: int = 4) -> Run:
    student = load("world/base", device="cpu", train=True)
    source = Worsening(training_rows(student.tokenizer, TRIPLES, PromptFormat()), wrong_from, kill_at)
    config = Training(steps=30, warmup=0, snapshot_every=snapshot_every)
    folder.mkdir(exist_ok=True)
    trainee, bar = Trainee(student, config, "base"), Bar("opd", 30, "steps")
    return Run(trainee, source, cross_entropy, folder, "opd", lambda *_: None, bar)


def weights(found: Run) -> list[torch.Tensor]:
    return [p.detach().clone() for p in found.student.model.parameters()]


def assert_equal(found: Run, expected: Run) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(found), weights(expected), strict=True))


@pytest.mark.trains
def test_an_alarm_ends_with_the_student_of_the_last_good_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ringing, reference = run(tmp_path / "a"), run(tmp_path / "b", kill_at=12)
    ended = ringing.train()
    with pytest.raises(KeyboardInterrupt):
        reference.train()  # has just done step 11
    # Wrong from step 14 on: it rings after step 18, and the newest snapshot up to step 14 is that of step 12.
    assert ended.step == 12 and len(ended.metrics) == 19
    assert ended.alarm is not None and "truncated share" in ended.alarm
    said = capsys.readouterr().err
    assert "went back to step 12" in said and "opd.lr" in said
    assert_equal(ringing, reference)


@pytest.mark.trains
def test_a_run_killed_before_its_alarm_hears_it_again(tmp_path: Path) -> None:
    whole, killed, again = run(tmp_path / "a"), run(tmp_path / "b", kill_at=17), run(tmp_path / "b")
    expected = whole.train()
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    found = again.train()
    assert (found.step, found.alarm) == (expected.step, expected.alarm)
    assert_equal(again, whole)


@pytest.mark.trains
def test_an_alarm_before_the_first_snapshot_goes_back_to_the_end_of_the_normal_steps(tmp_path: Path) -> None:
    ended = run(tmp_path / "a", wrong_from=6, snapshot_every=50).train()
    assert ended.step == 5 and len(ended.metrics) == 11


@pytest.mark.trains
def test_frequent_snapshots_do_not_outrun_the_patience(tmp_path: Path) -> None:
    assert run(tmp_path / "a", snapshot_every=1).train().step == 14
