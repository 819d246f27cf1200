"""What trackers get, read back by their own readers: every step once, however often a run is cut off and goes on."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core import context, progress
from cohobate.core.errors import RecipeError
from cohobate.report import tracking
from cohobate.report.trackers import require_usable
from cohobate.store.artifacts import Artifact
from tests.support.pipeline import run_stages
from tests.support.prefect_server import small

RUN = "tiny-20260102-030405-abcd"


def tracked_recipe(*names: str) -> Recipe:
    return small(f"tracking.to={json.dumps(names)}", "opd.steps=4", "opd.snapshot_every=2")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: (step, value) as TensorBoard shows them} of all event files in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class InterruptAt:
    """A progress listener that interrupts a stage behind a step."""

    def __init__(self, label: str, step: int) -> None:
        self.at = label, step

    def start(self, label: str, total: int, unit: str) -> None: ...
    def update(self, label: str, done: int, total: int, note: str) -> None: ...
    def finish(self, label: str) -> None: ...
    def message(self, line: str) -> None: ...

    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None:
        if (label, step) == self.at:
            raise KeyboardInterrupt


def approximately(points: Iterable[tuple[int, float]], shift: int = 0) -> list[Any]:
    """What a tracker shows of (step, value): `shift` steps later, and with single precision."""
    return [(step + shift, pytest.approx(value)) for step, value in points]


def log_run(recipe: Recipe, artifacts: dict[str, Artifact], run_id: str) -> None:
    """What a run does whose artifacts are all in the store."""
    with tracking.tracked(recipe, run_id) as tracked:
        for artifact in artifacts.values():
            tracked.finished(artifact)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Artifact]]:
    """A data folder in which a run was tracked while it worked, was interrupted, and went on; and its artifacts."""
    data = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(data))
        recipe = tracked_recipe("tensorboard")
        with pytest.raises(KeyboardInterrupt), tracking.tracked(recipe, RUN), context.listening(InterruptAt("opd", 3)):
            run_stages(recipe)
        with tracking.tracked(recipe, RUN) as tracked:
            artifacts = run_stages(recipe)
            for artifact in artifacts.values():
                tracked.finished(artifact)
        log_run(recipe, artifacts, RUN)  # a second attempt, which finds all of it
        log_run(recipe, artifacts, "another")
    return data, artifacts


@pytest.mark.trains
def test_tensorboard_shows_the_tables_of_the_artifacts(live: tuple[Path, dict[str, Artifact]]) -> None:
    data, artifacts = live
    shown = scalars(data / "tracking" / "tensorboard" / RUN)
    names = {"sft": ["loss", "lr", "grad_norm"], "opd": ["loss", "reverse_kl", "mean_length", "lr", "teacher_flops"]}
    for stage, columns in names.items():
        rows = pl.read_parquet(artifacts[stage].path / "metrics.parquet")
        assert len(rows) == {"sft": 2, "opd": 4}[stage]
        for column in columns:
            assert shown[f"{stage}/{column}"] == approximately(rows.select("step", column).iter_rows(), 1)
        points = pl.read_parquet(artifacts[stage].path / "points.parquet")
        assert len(points) > 1
        assert shown[f"{stage}/accuracy"] == approximately(points.select("step", "accuracy").iter_rows())
    for score in artifacts["evaluation"].manifest.scores:
        name = f"evaluation/{score.student}/{score.split}/{score.decoding}"
        assert shown[name] == approximately([(0, score.accuracy.mean)])
    assert shown["triples/samples"] == [(0, artifacts["triples"].manifest.rows)]


@pytest.mark.trains
def test_a_run_of_stored_stages_shows_the_same_curves(live: tuple[Path, dict[str, Artifact]]) -> None:
    data, _ = live
    first, second = (
        {
            tag: sorted(points)
            for tag, points in scalars(data / "tracking" / "tensorboard" / name).items()
            if "/seconds_" not in tag  # of the step that the interrupted run took twice, those of the first time
        }
        for name in (RUN, "another")
    )
    assert len(first) > 20 and first == second


@pytest.mark.trains
def test_the_recipe_is_the_configuration(live: tuple[Path, dict[str, Artifact]]) -> None:
    import yaml

    data, _ = live
    [path] = (data / "tracking" / "tensorboard" / RUN).glob("*/hparams.yml")
    values = yaml.safe_load(path.read_text())
    assert values["opd.steps"] == 4 and values["name"] == "tiny" and values["student.model"] == "world/base"


def test_a_configuration_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    recipe = small("description='with sk-0123456789 and https://me:pass@host/x?sig=1'", "tracking.project='p'")
    values = tracking.configuration(recipe)
    assert values["description"] == "with ... and https://host/x"
    assert values["evaluation.decodings"] == '["greedy"]' and values["sft.steps"] == 2
    assert all(value is not None for value in values.values())


PROGRAM = """
import sys
from cohobate.report.tracking import tracked
from tests.support.pipeline import run_stages
from tests.report.test_tracking import RUN, tracked_recipe
recipe = tracked_recipe("tensorboard")
with tracked(recipe, RUN) as tracking:
    for artifact in run_stages(recipe).values():
        tracking.finished(artifact)
"""


@pytest.mark.kill
@pytest.mark.long  # the interrupted run of the fixture shows the same in CI
def test_a_killed_run_that_goes_on_logs_no_step_twice(live: tuple[Path, dict[str, Artifact]], tmp_path: Path) -> None:
    for stage in ("questions", "triples", "sft", "responses"):
        shutil.copytree(live[0] / stage, tmp_path / stage)
    environment = {**os.environ, "COHOBATE_DATA": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    journal = tmp_path / "tracking" / f"{RUN}.tensorboard.jsonl"
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (journal.is_file() and '"opd step 3"' in journal.read_text()):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run(command, env=environment, check=True, timeout=120, stderr=subprocess.DEVNULL)
    shown = scalars(tmp_path / "tracking" / "tensorboard" / RUN)
    repeated = {tag: points for tag, points in shown.items() if max(Counter(step for step, _ in points).values()) > 1}
    assert repeated == {}
    steps = [step for step, _ in shown["opd/reverse_kl"]]
    # A step that was noted just before the kill may be missing, and no other.
    assert set(steps) in ({1, 2, 3, 4}, {1, 2, 4})
    assert [step for step, _ in shown["sft/loss"]] == [1, 2]


@pytest.mark.trains
def test_mlflow_has_the_same_and_goes_on_with_its_run(
    live: tuple[Path, dict[str, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _, artifacts = live
    recipe = small('tracking.to=["mlflow"]', "tracking.project='nights'")
    log_run(recipe, {name: artifacts[name] for name in ("triples", "sft")}, RUN)
    log_run(recipe, artifacts, RUN)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("nights")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == RUN and run.data.tags["recipe"] == "tiny"
    assert run.data.params["sft.steps"] == "2"
    for stage, column in (("sft", "loss"), ("opd", "reverse_kl")):
        rows = pl.read_parquet(artifacts[stage].path / "metrics.parquet").select("step", column)
        history = client.get_metric_history(run.info.run_id, f"{stage}/{column}")
        expected = approximately(rows.iter_rows(), 1)
        assert len(history) == len(expected) and [(each.step, each.value) for each in history] == expected


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of wandb's file, in the format of LevelDB's logs: blocks of 32 KiB behind a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield parts
            parts = b""


def wandb_steps(path: Path, name: str) -> list[tuple[int, float]]:
    """The values of a metric in wandb's file, with the steps of its stage."""
    from wandb.proto import wandb_internal_pb2

    points = []
    for data in wandb_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        values = {"/".join(each.nested_key) or each.key: each.value_json for each in record.history.item}
        if name in values:
            step = values[f"{name.split('/', maxsplit=1)[0]}/step"]
            points.append((int(step), float(values[name])))
    return points


@pytest.mark.trains
def test_wandb_writes_its_file_offline(
    live: tuple[Path, dict[str, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, artifacts = live
    log_run(small('tracking.to=["wandb"]'), artifacts, RUN)
    [path] = (tmp_path / "tracking" / "wandb").glob("offline-run-*/*.wandb")
    rows = pl.read_parquet(artifacts["opd"].path / "metrics.parquet").select("step", "reverse_kl").iter_rows()
    expected = approximately(rows, 1)
    deadline = time.monotonic() + 30  # the file is written by a process of wandb's
    while time.monotonic() < deadline and len(shown := wandb_steps(path, "opd/reverse_kl")) < len(expected):
        time.sleep(0.2)
    assert shown == expected


@pytest.mark.serves
@pytest.mark.parametrize("answers", ["refuses", "hangs"])
def test_a_tracker_without_its_server_costs_one_sentence(
    answers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(tracking, "END_SECONDS", 2.0)
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        if answers == "hangs":
            server.listen()
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:T0PSECRET@127.0.0.1:{port}")
        began = time.monotonic()
        with tracking.tracked(small('tracking.to=["mlflow"]'), RUN):
            for step in range(1, 2000):
                progress.measured("opd", step, {"step": step - 1, "loss": 1.0})
            time.sleep(0.1)
        assert time.monotonic() - began < 20
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tracking:")]
    assert len(said) == 1 and said[0].endswith("the run goes on without it") and "T0PSECRET" not in said[0]


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(RecipeError, match=r"tracking.to names trackio, and trackio is not installed: pip install"):
        require_usable(small('tracking.to=["trackio"]'))
    require_usable(small())


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ('tracking.to=["comet"]', "tracking.to"),
        ('tracking.to=["wandb", "wandb"]', "each tracker is named once"),
        ("tracking.to='wandb'", "should be a list"),
        ("tracking.project='a/b'", "tracking.project"),
        ("tracking.key='x'", "unknown key 'tracking.key'"),
    ],
)
def test_wrong_settings_are_refused(setting: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        small(setting)
