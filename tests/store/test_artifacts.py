"""The artifact store: hits, damage, kills between any two steps, and several processes at one artifact."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.core.atomic_files import read_json, replacing, write_json_atomic
from cohobate.core.errors import CohobateError, StoreError
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace, verify
from cohobate.store.compute_ledger import LedgerEntry

RECIPE = Recipe(name="demo")
SPAWN = multiprocessing.get_context("spawn")


def build_counted(workspace: Workspace) -> Outcome:
    """Appends a line outside the workspace each time it runs."""
    counter = workspace.path.parents[1] / "builds.txt"
    with counter.open("a") as file:
        file.write("x")
    (workspace.path / "sub").mkdir(exist_ok=True)
    (workspace.path / "sub" / "rows.txt").write_text("rows")
    (workspace.scratch / "work.txt").write_text("scratch")
    entry = LedgerEntry("triples", "teacher", "generation", 1, 2, 3, 4, 5)
    return Outcome(rows=7, metrics={"a": 1.5}, ledger=[entry])


def build_slowly(workspace: Workspace) -> Outcome:
    outcome = build_counted(workspace)
    time.sleep(1)
    return outcome


def build_and_hang(workspace: Workspace) -> Outcome:
    with replacing(workspace.path / "rows.txt") as temporary:
        temporary.write_text("begun")
        (workspace.scratch / "half.txt").write_text("half")
        time.sleep(60)
    return Outcome()


def make(root: Path, build: Any = build_counted, **identity: Any) -> Artifact:
    return Store(root).produce("triples", recipe=RECIPE, version=1, identity=identity, parents=[], build=build)


def builds(root: Path) -> int:
    return len((root / "builds.txt").read_text())


def test_a_second_request_is_a_hit_and_builds_nothing(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    assert (first.cached, second.cached) == (False, True)
    assert builds(tmp_path) == 1
    made = second.manifest
    assert made.rows == 7 and made.metrics == {"a": 1.5} and made.ledger[0]["flops"] == 5
    assert [entry.path for entry in made.files] == ["sub/rows.txt"]
    assert first.path.name == f"demo-{first.fingerprint[:8]}"


def test_nothing_but_the_artifact_remains(tmp_path: Path) -> None:
    artifact = make(tmp_path)
    names = {path.name for path in (tmp_path / "triples").iterdir() if not path.name.endswith(".lock")}
    assert names == {artifact.path.name}


def test_another_identity_is_another_artifact_and_the_old_one_stays(tmp_path: Path) -> None:
    a, b = make(tmp_path, temperature=1.0), make(tmp_path, temperature=0.5)
    assert a.path != b.path
    verify(a)
    verify(b)


def test_a_hit_is_found_under_another_recipes_name(tmp_path: Path) -> None:
    made = make(tmp_path)
    other = Store(tmp_path).produce(
        "triples", recipe=Recipe(name="other"), version=1, identity={}, parents=[], build=build_counted
    )
    assert other.cached and other.path == made.path


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_damage_is_named_and_rebuilt_never_a_silent_hit(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make(tmp_path)
    path = artifact.path / "sub" / "rows.txt"
    if damage == "flip":
        path.write_text("rowz")
    elif damage == "truncate":
        path.write_text("row")
    else:
        path.unlink()
    again = make(tmp_path)
    assert "rows.txt" in capsys.readouterr().err
    assert not again.cached and builds(tmp_path) == 2
    verify(again)
    assert list((tmp_path / "triples").glob("*.damaged-1"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"schema_version": 1}', '{"schema_version": 1, "seal": "0"}', "\xff"]
)
def test_an_unreadable_manifest_is_named_and_rebuilt(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make(tmp_path).path / "manifest.json"
    manifest.write_bytes(text.encode("latin-1"))
    assert Store(tmp_path).all() == []
    assert "manifest.json" in capsys.readouterr().err
    assert not make(tmp_path).cached and builds(tmp_path) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert make(tmp_path).cached


@pytest.mark.parametrize(
    "old, new", [('"rows": 7', '"rows": 8'), ('"a": 1.5', '"a": 2.5'), ('"flops": 5', '"flops": 6')]
)
def test_a_number_altered_in_the_manifest_is_no_hit(old: str, new: str, tmp_path: Path) -> None:
    manifest = make(tmp_path).path / "manifest.json"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    again = make(tmp_path)
    assert not again.cached and again.manifest.rows == 7


def test_killed_between_rename_and_manifest_the_build_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make(tmp_path)
    (artifact.path / "manifest.json").unlink()
    assert not make(tmp_path).cached
    assert f"{artifact.path / 'manifest.json'} is missing" in capsys.readouterr().err
    assert builds(tmp_path) == 2


def test_a_build_killed_in_the_middle_finds_its_scratch_again(tmp_path: Path) -> None:
    child = SPAWN.Process(target=make, args=(tmp_path, build_and_hang))
    child.start()
    while not list(tmp_path.glob("triples/*.partial/scratch/half.txt")):
        time.sleep(0.05)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join()

    def resume(workspace: Workspace) -> Outcome:
        assert (workspace.scratch / "half.txt").read_text() == "half"
        return build_counted(workspace)

    made = make(tmp_path, resume)
    assert not made.cached and make(tmp_path).cached
    assert not list(made.path.glob(".*"))


def test_killed_after_the_scratch_was_taken_out_it_comes_back(tmp_path: Path) -> None:
    artifact = make(tmp_path)
    partial = artifact.path.with_name(f"{artifact.path.name}.partial")
    artifact.path.rename(partial)
    (partial / "manifest.json").unlink()
    kept = artifact.path.with_name(f".{artifact.path.name}.scratch")
    kept.mkdir()
    (kept / "snapshot.txt").write_text("5")

    def resume(workspace: Workspace) -> Outcome:
        assert (workspace.scratch / "snapshot.txt").read_text() == "5"
        return Outcome()

    make(tmp_path, resume)


def test_two_processes_build_once(tmp_path: Path) -> None:
    children = [SPAWN.Process(target=make, args=(tmp_path, build_slowly)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert builds(tmp_path) == 1


def test_who_waits_is_told_who_builds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    child = SPAWN.Process(target=make, args=(tmp_path, build_slowly))
    child.start()
    while not (tmp_path / "builds.txt").exists():
        time.sleep(0.02)
    assert make(tmp_path).cached
    child.join()
    assert f"process {child.pid}" in capfd.readouterr().err


def test_a_failed_build_leaves_no_artifact(tmp_path: Path) -> None:
    def fail(workspace: Workspace) -> Outcome:
        raise CohobateError("no")

    with pytest.raises(CohobateError):
        make(tmp_path, fail)
    assert Store(tmp_path).all() == []
    assert not make(tmp_path).cached


def test_a_data_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is not a folder"):
        make(tmp_path / "file")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    def fill(workspace: Workspace) -> Outcome:
        # /dev/full is a real device that answers every write with "no space left".
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)
        return Outcome()

    with pytest.raises(StoreError, match="is full"):
        make(tmp_path, fill)


def test_artifacts_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    artifact = make(tmp_path)
    store = Store(tmp_path)
    for name in (artifact.id, artifact.fingerprint[:6], artifact.path.name, "triples/demo"):
        assert store.find(name).id == artifact.id
    with pytest.raises(StoreError, match="no artifact 'xyz'"):
        store.find("xyz")


def test_an_unknown_schema_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    artifact = make(tmp_path)
    path = artifact.path / "manifest.json"
    write_json_atomic(path, {**read_json(path), "schema_version": 99})
    with pytest.raises(CohobateError, match="schema version 99"):
        make(tmp_path)


def test_a_read_only_file_system_is_one_sentence(tmp_path: Path) -> None:
    # Root may write anywhere, but not even root below /proc.
    with pytest.raises(StoreError, match="COHOBATE_DATA"):
        make(Path("/proc/cohobate"))
    shutil.rmtree(tmp_path)
