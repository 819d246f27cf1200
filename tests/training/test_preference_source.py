"""Preference training as stages: what it learns from, that it resumes to the bit, in one process or two."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError, SelectionError
from cohobate.core.shipped import shipped_path
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import load
from cohobate.stages import opd, questions, sft
from cohobate.store.artifacts import Artifact
from cohobate.training.loop import Run
from cohobate.training.triple_source import judged_responses
from cohobate.training.types import RunState
from tests.support.made_triples import Row, sample, triples
from tests.support.method_runs import SMALL
from tests.support.training_runs import published_weights, run_interrupted_at

SUMS = [(a, b) for a in range(2, 8) for b in (2, 3)]
ROWS = [
    row
    for a, b in SUMS
    for row in (
        sample(f"What is {a} + {b}?", f"{a} + {b} = {a + b}.\nAnswer: {a + b}", index=0),
        sample(f"What is {a} + {b}?", f"{a} + {b} = {a * b + 1}.\nAnswer: {a * b + 1}", index=1, verdict="incorrect"),
        sample(f"What is {a} + {b}?", f"{a} + {b} = {a}", index=2, verdict="incorrect", truncated=True),
    )
]
DPO = [
    "triples.samples=2",
    "sft.objective=dpo",
    "sft.batch=8",
    "sft.steps=4",
    "sft.snapshot_every=2",
    "sft.evaluate_questions=0",
    "sft.warmup=0",
]


def metrics(artifact: Artifact) -> pl.DataFrame:
    return pl.read_parquet(artifact.path / "metrics.parquet")


def same(one: Artifact, other: Artifact) -> bool:
    ours, theirs = published_weights(one), published_weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.slow
def test_the_pairs_are_those_of_the_export(tmp_path: Path) -> None:
    artifact = triples(tmp_path, ROWS)
    export(artifact, Request("preference", Selection("correct")), tmp_path / "out")
    exported = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    tokenizer = load(str(shipped_path("world/base"))).tokenizer
    judged = judged_responses(artifact.path, "correct", tokenizer, PromptFormat(), in_pairs=True)
    texts = [tokenizer.decode(item.sequence.response, skip_special_tokens=True) for item in judged]
    assert [item.good for item in judged] == [True, False] * len(SUMS)
    for side, offset in (("chosen", 0), ("rejected", 1)):
        assert [row[side][0]["content"].split("</think>")[-1].strip() for row in exported] == [
            text.partition("\n")[2].strip() for text in texts[offset::2]
        ]
    assert all(item.sequence.response[-1] == tokenizer.eos_token_id for item in judged)
    each_by_itself = judged_responses(artifact.path, "all", tokenizer, PromptFormat(), in_pairs=False)
    assert [item.good for item in each_by_itself] == [True, False] * len(SUMS)  # a text that was cut is in no export


def given_stage(
    root: Path, patch: pytest.MonkeyPatch, overrides: Sequence[str] = (), rows: Sequence[Row] = ROWS
) -> Artifact:
    patch.setenv("COHOBATE_DATA", str(root))
    recipe = load_recipe("tiny", [*SMALL, *DPO, *overrides])
    return sft.train(recipe, triples(root, rows, recipe), questions.write(recipe))


@pytest.mark.trains
@pytest.mark.parametrize("more", [[], ["sft.lora={rank=2}"], ["sft.objective=simpo"]], ids=["dpo", "lora", "simpo"])
def test_pairs_are_learnt_and_a_run_that_was_interrupted_ends_with_the_same_weights(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = given_stage(tmp_path / "whole", monkeypatch, more)
    measured = metrics(whole)
    margins = (measured["chosen_reward"] - measured["rejected_reward"]).to_list()
    assert margins[-1] > margins[0] and measured["loss"][-1] < measured["loss"][0]
    assert measured["rejected_length"][0] == pytest.approx(measured["chosen_length"][0], abs=3)
    if "sft.objective=simpo" not in more:
        assert margins[0] == pytest.approx(0, abs=1e-5)  # the start is the reference
    with run_interrupted_at(3):
        given_stage(tmp_path / "killed", monkeypatch, more)
    resumed = given_stage(tmp_path / "killed", monkeypatch, more)
    assert same(resumed, whole) and resumed.manifest.ledger == whole.manifest.ledger


@pytest.mark.trains
def test_triples_without_a_pair_are_refused_and_learnt_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = [row for row in ROWS if row["verdict"] == "correct"]
    with pytest.raises(SelectionError, match=r"no.*right and a wrong response.*raise triples.samples"):
        given_stage(tmp_path, monkeypatch, rows=right)
    made = given_stage(tmp_path, monkeypatch, ["sft.objective=kto"], rows=right)
    assert "rejected_reward" not in metrics(made).columns and metrics(made)["divergence"][0] == 0


ROUNDS = ["opd.objective=kto", "opd.updates=2", "opd.steps=4", "opd.group=1", "opd.prompts=5"]


@pytest.mark.trains
def test_two_processes_learn_what_one_learns(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for processes in (1, 2):
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / str(processes)))
        recipe = load_recipe("tiny", [*SMALL, *ROUNDS, f"runtime.processes={processes}"])
        made.append(metrics(opd.train(recipe, *start_artifacts[1])))
    one, two = made
    for name in ("loss", "divergence", "chosen_reward", "rejected_length", "grad_norm"):
        torch.testing.assert_close(two[name].to_torch(), one[name].to_torch(), rtol=1e-3, atol=1e-4)
    assert one["divergence"][1] > 0


@pytest.mark.trains
def test_a_teacher_that_only_writes_teaches_in_rounds_and_is_asked_for_nothing_more(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text lies in the triples; nothing listens at its address, so that a request would end the stage."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    server = ["teacher.kind=endpoint", "teacher.model=m", "teacher.base_url=http://127.0.0.1:9/v1"]
    made = opd.train(load_recipe("tiny", [*SMALL, *server, "opd.objective=dpo", "opd.updates=3"]), *start_artifacts[1])
    assert metrics(made)["preference_accuracy"].to_list()[0] == 0.5
    assert metrics(made)["loss"][2] < metrics(made)["loss"][0]
    log = pl.read_parquet(made.path / "rollouts.parquet")
    taught = pl.read_parquet(start_artifacts[1][2].path / "triples.parquet")
    tokenizer = load(made.path / "model").tokenizer
    texts = {tokenizer.decode(ids, skip_special_tokens=True) for ids in log["ghost_ids"].to_list()}
    assert texts and all(any(row["answer"] in text for row in taught.to_dicts()) for text in texts)
    assert {entry["model"] for entry in made.manifest.ledger} == {"student"}


@pytest.mark.trains
@pytest.mark.parametrize("damage", ["lost", "altered"])
def test_a_reference_that_was_damaged_is_made_again_by_the_student_of_its_round(
    damage: str, start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(root: str) -> Artifact:
        monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / root))
        return opd.train(load_recipe("tiny", [*SMALL, *ROUNDS]), *start_artifacts[1])

    whole, take_step = train("whole"), Run.take_step

    def harmed(run: Run, state: RunState) -> None:
        if state.step == 3:  # the second update of the second round
            [path] = run.folder.glob("reference/reference-000001.safetensors")
            if damage == "lost":
                path.unlink()
            else:
                values = load_file(path)
                save_file({name: value - 1 for name, value in values.items()}, path)
                raise KeyboardInterrupt
        take_step(run, state)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "take_step", harmed)
        with pytest.raises((KeyboardInterrupt, CohobateError)):
            train("harmed")
    assert same(train("harmed"), whole)
