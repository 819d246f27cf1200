"""A run of which a file was altered or lost ends with the same weights, rollouts and points, or names the file."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch

from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError, DamagedFileError
from cohobate.core.sealed_files import is_whole, replacing_sealed
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact
from cohobate.training import snapshots
from cohobate.training.loop import Run
from cohobate.training.snapshots import Snapshot
from cohobate.training.types import RunState
from tests.support.damage import damages, flipped
from tests.support.pipeline import SMALL, train_stages
from tests.support.training_runs import published_weights, run_interrupted_at

STEPS = 6
SHORT = [
    *SMALL,
    *("questions.train=48", "sft.steps=4", "sft.evaluate_questions=0"),
    *(f"opd.steps={STEPS}", "opd.prompts=2", "opd.group=2", "opd.max_tokens=16", "opd.warmup=0"),
    *("opd.evaluate_questions=4", "opd.evaluate_every=2", "opd.snapshot_every=2", "opd.keep_scores=true"),
]
KINDS = {"in turn": [], "overlap": ["opd.objective=sampled", "opd.overlap=true"]}


@dataclass(frozen=True)
class Killed:
    """An opd run without an interruption, and the data folder of one that was killed before its last step."""

    whole: Artifact
    root: Path
    train: Callable[[], Artifact]


@pytest.fixture(scope="module", params=KINDS)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    root = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(root / "whole"))
        recipe = load_recipe("tiny", [*SHORT, *KINDS[request.param]])
        made = train_stages(recipe)

        def train() -> Artifact:
            return opd.train(recipe, made["sft"], made["questions"], made["triples"])

        patch.setenv("COHOBATE_DATA", str(root / "killed"))
        with run_interrupted_at(STEPS - 1):
            train()
        yield Killed(made["opd"], root / "killed", train)


@pytest.fixture
def scratch(killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scratch folder of a copy of the killed run, which `killed.train` goes on with."""
    shutil.copytree(killed.root, tmp_path / "data")
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    [partial] = (tmp_path / "data").glob("opd/*.partial")
    return partial / "scratch"


def assert_same(ours: Artifact, theirs: Artifact) -> None:
    mine, other = (published_weights(each) for each in (ours, theirs))
    assert all(torch.equal(mine[name], other[name]) for name in other)
    for table in ("rollouts", "points"):
        assert pl.read_parquet(ours.path / f"{table}.parquet").equals(pl.read_parquet(theirs.path / f"{table}.parquet"))
    assert ours.manifest.ledger == theirs.manifest.ledger


def flip_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) // 2, 3))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    ("snapshots/step-000004/state.pt", flip_middle),
    ("snapshots/step-000004/state.json", cut),
    ("snapshots/step-00000*/state.pt", flip_middle),
    ("rollouts/step-000000.parquet", Path.unlink),
    ("rollouts/step-000003.parquet", flip_middle),
    ("rollouts/step-000004.parquet", cut),
    ("points/step-000002.json", flip_middle),
    ("points/step-000000.json", Path.unlink),
    ("scores/step-000004-*.safetensors", flip_middle),
]


@pytest.mark.trains
@pytest.mark.parametrize(("pattern", "damage"), DAMAGES, ids=[f"{damage.__name__} {name}" for name, damage in DAMAGES])
def test_a_run_that_was_damaged_ends_as_if_it_had_not(
    pattern: str, damage: Callable[[Path], object], killed: Killed, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = list(scratch.glob(pattern))
    assert files
    for path in files:
        damage(path)
    assert_same(killed.train(), killed.whole)
    said = capsys.readouterr().err
    assert all(path.name in said for path in files) or ("is gone" in said and "once more" in said)


@pytest.mark.trains
def test_a_run_that_was_only_killed_says_nothing_of_damage(
    killed: Killed, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_same(killed.train(), killed.whole)
    said = capsys.readouterr().err
    assert "altered" not in said and "gone" not in said and "aside" not in said


@pytest.mark.trains
def test_what_an_earlier_version_left_is_gone_on_with(killed: Killed, scratch: Path) -> None:
    """Without any checksum, and rollouts without the columns that are empty."""
    for path in scratch.glob("rollouts/*.parquet"):
        rows = pl.read_parquet(path)
        rows.drop(name for name in rows.columns if rows[name].null_count() == len(rows)).write_parquet(path)
    for path in scratch.rglob("*.sha256"):
        path.unlink()
    for path in [*scratch.glob("points/*.json"), *scratch.glob("snapshots/*/state.json")]:
        values = json.loads(path.read_text())
        path.write_text(json.dumps({name: values[name] for name in values if name not in ("seal", "sha256")}))
    (scratch / "threads.json").write_text("1\n")
    assert_same(killed.train(), killed.whole)


@pytest.mark.trains
def test_rollouts_that_vanish_while_the_run_lasts_are_not_published_without(
    killed: Killed, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Run.take_step

    def lose(run: Run, state: RunState) -> None:
        take_step(run, state)
        (scratch / "rollouts" / "step-000002.parquet").unlink(missing_ok=True)

    monkeypatch.setattr(Run, "take_step", lose)
    with pytest.raises(CohobateError, match=r"what step [12] made is gone or altered; run again"):
        killed.train()
    monkeypatch.setattr(Run, "take_step", take_step)
    assert_same(killed.train(), killed.whole)


def snapshot(step: int) -> Snapshot:
    return Snapshot(step, [{"loss": 1.5}] * step, [], {"model": {"w": torch.arange(200.0) + step}})


@pytest.mark.parametrize("name", ["state.pt", "state.json"])
def test_of_several_snapshots_the_latest_undamaged_one_is_taken(name: str, tmp_path: Path) -> None:
    for step in (3, 6):
        snapshots.save(tmp_path, snapshot(step))
    path = tmp_path / "snapshots" / "step-000006" / name
    content, steps = path.read_bytes(), []
    for altered in damages(content, 60, 2):
        path.write_bytes(altered)
        snapshots.set_damaged_aside(tmp_path)
        latest = snapshots.load_latest(tmp_path)
        assert latest is not None and torch.equal(latest.tensors["model"]["w"], torch.arange(200.0) + latest.step)
        assert latest.metrics == [{"loss": 1.5}] * latest.step
        steps.append(latest.step)
        for aside in (tmp_path / "snapshots").glob("*.damaged-*"):
            aside.rename(path.parent)
        path.write_bytes(content)
    assert len(steps) == 120 and steps.count(6) <= (0 if name == "state.pt" else 12)  # such as a blank of the JSON


def test_another_thread_count_is_not_guessed(tmp_path: Path) -> None:
    snapshots.save_thread_count(tmp_path)
    path = tmp_path / "threads.json"
    content, named = path.read_bytes(), 0
    for altered in damages(content, len(content), 3):
        path.write_bytes(altered)
        try:
            assert snapshots.load_thread_count(tmp_path) == torch.get_num_threads()
        except DamagedFileError as error:
            named += str(path) in str(error) and "delete it" in str(error)
    assert named > len(content)


def test_a_file_is_whole_or_moved_aside_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "part.bin"
    assert not is_whole(path)
    for content in damages(bytes(range(100)), 20, 4):
        with replacing_sealed(path) as temporary:
            temporary.write_bytes(bytes(range(100)))
        assert is_whole(path)
        path.write_bytes(content)
        assert not is_whole(path) and not path.exists() and not path.with_name("part.bin.sha256").exists()
    assert len(list(tmp_path.glob("part.bin.damaged-*"))) == 40
