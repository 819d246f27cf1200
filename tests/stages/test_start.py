"""A run is refused before its first stage where a model that a later stage needs is not there."""

import sys

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import UserError
from cohobate.stages.preflight import require_present

ENDPOINT = ["teacher.kind='endpoint'", "teacher.base_url='http://127.0.0.1:9/v1'", "teacher.model='gpt'", "opd.steps=0"]


@pytest.mark.parametrize(
    ("overrides", "until", "sentence"),
    [
        (["student.model='nowhere'"], "report", "student.model: model 'nowhere' is neither a folder"),
        (["student.model='fetched/smollm2-135m'"], "sft", "student.model: .*cohobate fetch smollm2"),
        ([*ENDPOINT, "student.model='nowhere'"], "evaluation", "student.model: model 'nowhere'"),
        (["teacher.model='nowhere'"], "triples", "teacher.model: model 'nowhere'"),
        (["teacher.model='nowhere'", "student.model='neither'"], "report", "teacher.model: model 'nowhere'"),
        (["tracking.to=['wandb']"], "questions", "tracking.to names wandb, and wandb is not installed"),
    ],
)
def test_what_is_missing_is_named(
    overrides: list[str], until: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=sentence):
        require_present(load_recipe("tiny", overrides), until)


def test_trackers_are_refused_where_torchrun_started_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment that torchrun gives to the first of its processes.
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    tracked = load_recipe("tiny", ["tracking.to=['tensorboard', 'mlflow']"])
    with pytest.raises(UserError, match=r"tracking\.to names tensorboard and mlflow, .* torchrun's 4 processes"):
        require_present(tracked, "report")
    require_present(load_recipe("tiny"), "report")
    monkeypatch.setenv("WORLD_SIZE", "1")
    require_present(tracked, "report")


def test_a_server_of_its_own_is_refused_where_torchrun_has_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}
    for name, value in {**launched, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    scored = ["teacher.kind='vllm'", "teacher.scoring='server'", "opd.objective='sampled'"]
    with pytest.raises(UserError, match=r"serve the teacher where all of them reach it, and set teacher\.base_url"):
        require_present(load_recipe("tiny", scored), "report")
    require_present(load_recipe("tiny", [*scored, "teacher.base_url='http://teacher:8000/v1'"]), "report")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    require_present(load_recipe("tiny", scored), "report")


@pytest.mark.parametrize(
    ("overrides", "until"),
    [
        ([], "report"),
        (ENDPOINT, "report"),
        (["student.model='nowhere'"], "triples"),
        (["teacher.model='nowhere'", "student.model='nowhere'"], "questions"),
    ],
)
def test_what_no_stage_needs_may_be_missing(overrides: list[str], until: str) -> None:
    require_present(load_recipe("tiny", overrides), until)
