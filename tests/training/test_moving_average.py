"""A teacher that is a moving average of the student: its weights against sums written out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact
from cohobate.training.moving_average import MovingAverage
from tests.support.method_runs import SMALL
from tests.support.processes_together import assert_same_training, train
from tests.support.training_runs import published_weights, run_interrupted_at
from tests.support.tree import close, logits_of

SHARE = 0.05


def layer(seed: int) -> torch.nn.Linear:
    made = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(logits_of(*parameter.shape, seed=seed))
    return made


def test_after_some_updates_it_is_the_sum_of_all_weights_each_with_its_share() -> None:
    average, students = layer(0), [layer(seed) for seed in range(1, 8)]
    moving = MovingAverage(average, SHARE)
    for student in students:
        moving.follow(student)
    for name, found in average.named_parameters():
        aged = [
            SHARE * (1 - SHARE) ** (len(students) - k) * dict(student.named_parameters())[name]
            for k, student in enumerate(students, 1)
        ]
        start = dict(layer(0).named_parameters())[name]
        close(found, (1 - SHARE) ** len(students) * start + torch.stack(aged).sum(0), 1e-6)


@pytest.mark.parametrize(("share", "seed"), [(0.0, 0), (1.0, 1)], ids=["stays", "is the student"])
def test_the_ends_of_the_share_are_exact_and_the_student_is_left_as_it_is(share: float, seed: int) -> None:
    average, student = layer(0), layer(1)
    MovingAverage(average, share).follow(student)
    assert average.weight.equal(layer(seed).weight) and student.weight.equal(layer(1).weight)


def test_weights_that_would_round_or_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        MovingAverage(layer(0).bfloat16(), SHARE)
    with pytest.raises(ValueError, match="same weights"):
        MovingAverage(layer(0), SHARE).follow(torch.nn.Sequential(layer(1)))


@contextmanager
def averages() -> Iterator[list[MovingAverage]]:
    """The moving averages that are made within it."""
    made: list[MovingAverage] = []
    begin = MovingAverage.__init__

    def note(self: MovingAverage, *rest: Any) -> None:
        begin(self, *rest)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "__init__", note)
        yield made


@pytest.mark.trains
def test_on_policy_it_begins_as_the_student_and_ends_as_the_sum_of_its_students(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two updates with f = 0.5: a quarter of the start, a quarter of the first student, half of the last."""
    shown = ["teacher.privileged.prompt='{question} It is {gold_answer}.'", "teacher.follow=0.5", "opd.lr=1e-2"]
    start = published_weights(start_artifacts[1][0])

    def train(name: str, steps: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / name))
        recipe = load_recipe("tiny", [*SMALL, *shown, f"opd.steps={steps}", "opd.schedule=constant"])
        with averages() as made:
            student = published_weights(opd.train(recipe, *start_artifacts[1]))
        return student, made[0].state()

    (first, _), (last, average) = train("one", 1), train("two", 2)
    for name, weight in average.items():
        close(weight, start[name] / 4 + first[name] / 4 + last[name] / 2, 1e-5)
    assert any(not first[name].equal(start[name]) for name in average)


@pytest.mark.trains
def test_with_a_share_of_nothing_the_start_scores_whatever_the_student_becomes(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same as naming the start's folder as the teacher, asked as the student is."""
    start = start_artifacts[1][0]
    settings = ["teacher.privileged.prompt='{question} = {gold_answer}'"]
    ways = {"follows": ["teacher.follow=0.0"], "folder": [f"teacher.model={start.path / 'model'}"]}
    found = {}
    for name, way in ways.items():
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / name))
        found[name] = published_weights(opd.train(load_recipe("tiny", [*SMALL, *settings, *way]), *start_artifacts[1]))
    assert found["follows"].keys() == found["folder"].keys()
    assert all(weight.equal(found["folder"][name]) for name, weight in found["follows"].items())
    assert any(not weight.equal(published_weights(start)[name]) for name, weight in found["follows"].items())


@pytest.mark.trains
def test_an_interrupted_run_goes_on_with_the_average_of_its_snapshot(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("tiny", [*SMALL, "teacher.follow=0.5", "teacher.privileged.system='{gold_answer}'"])
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "alone"))
    alone = published_weights(opd.train(recipe, *start_artifacts[1]))
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "interrupted"))
    with run_interrupted_at(2):
        opd.train(recipe, *start_artifacts[1])
    again = published_weights(opd.train(recipe, *start_artifacts[1]))
    assert all(weight.equal(again[name]) for name, weight in alone.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["opd.updates=2"], r"set opd\.updates = 1, or teacher\.follow = 0"),
        (["opd.overlap=true"], r"set opd\.overlap = false, or teacher\.follow = 0"),
        (["opd.lora.rank=4"], r"drop \[opd\.lora\], or set teacher\.follow = 0"),
        (["sft.objective=logit_kd", "sft.lora.rank=4"], r"drop \[sft\.lora\]"),
        (["teacher.scoring=server"], "drop it, or scoring"),
    ],
)
def test_what_an_average_cannot_do_is_refused_and_the_start_can(changes: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe("tiny", ["teacher.follow=0.1", *changes])
    if "teacher.scoring=server" not in changes:
        assert load_recipe("tiny", ["teacher.follow=0", *changes]).teacher.follow == 0


def test_an_objective_that_asks_no_teacher_is_left_alone() -> None:
    alone = ["opd.objective=grpo", "opd.updates=2", "opd.lora.rank=4"]
    assert load_recipe("tiny", ["teacher.follow=0.1", *alone]).opd.updates == 2


@pytest.mark.trains
def test_in_sharded_processes_it_is_the_average_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of 1 shows most: from the second step on the teacher is the student as both processes have made it."""
    short = {"sft.steps": 2, "opd.steps": 3, "teacher.follow": 1.0, "opd.objective": "sampled"}
    context = {"teacher.privileged.prompt": "'{question} {gold_answer}'"}
    runs = []
    for processes in (1, 2):
        more = {"shard": True} if processes == 2 else {}
        runs.append(train(processes, tmp_path / str(processes), monkeypatch, **more, **short, **context))
    assert_same_training(runs[1], runs[0])
    logs = [pl.read_parquet(run["opd"] / "rollouts.parquet").sort("step", "row") for run in runs]
    scores = [torch.cat([torch.tensor(row) for row in log["teacher_logprobs"].to_list()]) for log in logs]
    close(scores[1], scores[0], 2e-2)


@pytest.mark.trains
def test_with_a_share_of_one_the_teacher_scores_with_the_students_newest_weights(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves by the price on length alone, since it agrees with itself at every step."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    priced = ["opd.objective=sampled", "opd.length.target=4", "opd.length.price=5", "opd.lr=1e-2", "opd.steps=3"]
    made = opd.train(load_recipe("tiny", [*SMALL, "teacher.follow=1.0", *priced]), *start_artifacts[1])
    log = pl.read_parquet(made.path / "rollouts.parquet")
    assert log["step"].unique().sort().to_list() == [0, 1, 2]
    scored, sampled = (torch.tensor(log[f"{who}_logprobs"].explode().to_list()) for who in ("teacher", "sampler"))
    close(scored, sampled, 1e-3)
    moved = published_weights(made)
    assert any(not moved[name].equal(weight) for name, weight in published_weights(start_artifacts[1][0]).items())


@pytest.mark.trains
def test_a_teacher_behind_an_endpoint_writes_and_the_student_scores(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at its address: a request would end the stage."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    server = ["teacher.kind=endpoint", "teacher.model=m", "teacher.base_url=http://127.0.0.1:9/v1"]
    shown = ["teacher.follow=0.0", "teacher.privileged.system='It is {gold_answer}.'", "opd.steps=1"]
    made = opd.train(load_recipe("tiny", [*SMALL, *server, *shown]), *start_artifacts[1])
    assert pl.read_parquet(made.path / "metrics.parquet")["reverse_kl"][0] > 0
