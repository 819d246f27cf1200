"""Overlap: the next batch of rollouts is made while the student learns from this one, one step off-policy, no more."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError
from cohobate.models.loading import load
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact
from cohobate.training.loop import Run
from cohobate.training.prefetch import Prefetch
from tests.support.pipeline import SMALL, train_stages
from tests.support.training_runs import published_weights
from tests.support.wire_server import Act, Body, WireServer

STEPS, ROWS = 4, 8
SHORT = [
    *SMALL,
    *("questions.train=48", "sft.steps=6", "sft.evaluate_questions=0"),
    *(f"opd.steps={STEPS}", "opd.prompts=4", f"opd.group={ROWS // 4}", "opd.warmup=0", "opd.evaluate_questions=0"),
    *("opd.objective=sampled", "opd.overlap=true", "opd.snapshot_every=3"),
]
Weights = dict[str, torch.Tensor]
Train = Callable[..., Artifact]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("before")))
        return train_stages(load_recipe("tiny", [*SHORT, "opd.steps=0"]))


@pytest.fixture
def train(before: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Makes the opd artifact in a folder of tmp_path."""

    def run(name: str, *changes: str) -> Artifact:
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / name))
        return opd.train(load_recipe("tiny", [*SHORT, *changes]), before["sft"], before["questions"], before["triples"])

    return run


def noted(run: Run) -> Weights:
    return {name: value.detach().clone() for name, value in run.student.model.state_dict().items()}


@torch.no_grad()
def largest_difference(artifact: Artifact, weights: Weights, rows: list[dict[str, Any]]) -> float:
    """Of the log-probabilities in the log and those of a fresh forward pass with `weights`."""
    model = load(artifact.path / "model", device="cpu").model
    model.load_state_dict(weights)
    worst = 0.0
    for row in rows:
        prompt, response = row["prompt_ids"], row["response_ids"]
        logits = model(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1)[torch.arange(len(response)), torch.tensor(response)]
        worst = max(worst, float((own - torch.tensor(row["sampler_logprobs"])).abs().max()))
    return worst


@pytest.mark.trains
def test_each_step_learns_from_the_policy_of_exactly_one_step_before_whatever_is_killed(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two snapshots, when a batch is sampled that no step has asked for."""
    step, weights, fatal = Run.take_step, list[Weights](), [STEPS]

    def watched(run: Run, done: Any) -> None:
        if done.step == fatal[0]:
            raise KeyboardInterrupt
        weights.append(noted(run))
        step(run, done)

    monkeypatch.setattr(Run, "take_step", watched)
    whole = train("whole")
    log = pl.read_parquet(whole.path / "rollouts.parquet").partition_by("step")
    assert [len(rows) for rows in log] == [ROWS] * STEPS
    for place, rows in enumerate(log):
        assert largest_difference(whole, weights[max(0, place - 1)], rows.to_dicts()) < 1e-4
        if place:  # the first batch is on-policy
            assert largest_difference(whole, weights[place], rows.to_dicts()) > 1e-2

    for fatal[0] in (2, 3):  # before the first snapshot, and at it
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    fatal[0] = STEPS
    resumed = train("killed")
    assert pl.read_parquet(resumed.path / "rollouts.parquet").equals(pl.concat(log))
    assert resumed.manifest.ledger == whole.manifest.ledger
    ours, theirs = (published_weights(artifact) for artifact in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    first, *later = pl.read_parquet(resumed.path / "metrics.parquet")["mismatch_max"].to_list()
    assert first < 1e-4 and min(later) > 1e-2


@pytest.mark.trains
def test_adapters_are_sampled_from_one_step_late_too(train: Train) -> None:
    made = train("lora", "opd.lora.rank=4", "opd.steps=3")
    first, *later = pl.read_parquet(made.path / "metrics.parquet")["mismatch_max"].to_list()
    assert first < 1e-4 and min(later) > 1e-5


def served(server: WireServer) -> list[str]:
    address = ["teacher.kind=endpoint", "teacher.model=m", f"teacher.base_url={server.url}"]
    return [*address, "opd.objective=topk", "opd.topk.k=2", "opd.tokens_per_batch=200", "triples.timeout=60"]


def scored_rows(server: WireServer) -> int:
    return sum(len(seen.body["prompt"]) for seen in server.seen if "prompt_logprobs" in seen.body)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight asks for scores too, and would be counted."""
    monkeypatch.setattr("cohobate.training.scoring.factory.require_scores", lambda recipe, student: None)


@pytest.mark.trains
@pytest.mark.usefixtures("unchecked")
def test_the_next_batch_is_scored_by_the_server_while_the_student_learns(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient, learnt = Run.accumulate_gradient, [0]

    def waiting(run: Run, *arguments: Any) -> Any:
        """An update that does not end before the requests for the next batch have come."""
        learnt[0] += 1
        deadline, expected = time.monotonic() + 30, min(learnt[0] + 1, STEPS) * ROWS
        while scored_rows(server) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert scored_rows(server) == expected
        return gradient(run, *arguments)

    monkeypatch.setattr(Run, "accumulate_gradient", waiting)
    with WireServer().running() as server:
        made = train("served", *served(server))
    assert learnt == [STEPS] and pl.read_parquet(made.path / "metrics.parquet")["seconds_wait"].null_count() == 0


@pytest.mark.trains
@pytest.mark.usefixtures("unchecked")
def test_an_interrupt_does_not_wait_for_a_server_that_hangs(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Run.take_step

    def interrupted(run: Run, done: Any) -> None:
        if done.step == 1:
            while scored_rows(server) <= ROWS:  # until the next batch is asked for
                time.sleep(0.01)
            raise KeyboardInterrupt
        step(run, done)

    def plan(body: Body, time: int) -> Act:
        return Act(hang=scored_rows(server) > ROWS)

    monkeypatch.setattr(Run, "take_step", interrupted)
    with WireServer(plan).running() as server:
        with pytest.raises(KeyboardInterrupt):
            train("hanging", *served(server))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_work_that_failed_ahead_raises_when_it_is_taken() -> None:
    def fail() -> int:
        raise ValueError("no such thing")

    prefetch: Prefetch[int] = Prefetch(lambda: None)
    prefetch.start(3, lambda: 7)
    assert prefetch.take(2) is None and prefetch.take(3) == 7 and prefetch.take(3) is None
    prefetch.start(4, fail)
    with pytest.raises(ValueError, match="no such thing"):
        prefetch.wait()
    with pytest.raises(ValueError, match="no such thing"):
        prefetch.take(4)
    prefetch.wait()
    prefetch.close()


@pytest.mark.trains
def test_it_learns_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same start, the same questions: the intervals of their accuracies meet."""
    steps = 12
    learns = [
        *SMALL,
        *("questions.validation=60", "sft.steps=80", "sft.evaluate_questions=0"),
        *("opd.objective=topk", "opd.lr=1e-3", f"opd.steps={steps}", "opd.prompts=12", "opd.warmup=2"),
        *(f"opd.evaluate_every={steps}", "opd.evaluate_questions=60"),
    ]
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    found = []
    for overlap in ("false", "true"):
        made = train_stages(load_recipe("tiny", [*learns, f"opd.overlap={overlap}"]))["opd"]
        kl = pl.read_parquet(made.path / "metrics.parquet")["reverse_kl"].to_list()
        assert sum(kl[-4:]) / 4 < 0.85 * sum(kl[:2]) / 2
        found.append((kl, pl.read_parquet(made.path / "points.parquet").row(-1, named=True)))
    (kl, without), (late, ahead) = found
    assert abs(sum(kl[-6:]) - sum(late[-6:])) / 6 < 0.25
    assert without["low"] <= ahead["high"] and ahead["low"] <= without["high"]


@pytest.mark.parametrize(
    "changes",
    [
        ["opd.objective=grpo", "opd.updates=2"],
        ["opd.objective=sampled", "opd.sampled.discount=0.5"],
        ["opd.objective=gkd", "opd.gkd.on_policy=0.5"],
        ["opd.sampler=vllm", "opd.vllm.sleep=true"],
    ],
)
def test_what_one_step_off_policy_would_make_wrong_is_refused(changes: list[str]) -> None:
    name = changes[-1].removeprefix("opd.").partition("=")[0]
    with pytest.raises(RecipeError, match=rf"overlap does not go with this {name}: .*set it to .*or overlap to false"):
        load_recipe("tiny", ["opd.overlap=true", *changes])
    load_recipe("tiny", changes)
