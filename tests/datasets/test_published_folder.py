"""The folder of a published model: it replaces what was published there, and never anything else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cohobate.core.errors import ExportError
from cohobate.datasets.export import gguf
from cohobate.datasets.export.model_card import write_model
from cohobate.models.loading import model_path
from cohobate.store.artifacts import Artifact
from tests.support.students import student

CONVERTER = """
import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--outfile") + 1]).write_bytes(b"GGUF of " + sys.argv[-1].encode())
"""
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from cohobate.datasets.export.model_card import write_model
from cohobate.store.artifacts import Store

copy = shutil.copytree
shutil.copytree = lambda *args, **options: (copy(*args, **options), os.kill(os.getpid(), signal.SIGKILL))
write_model(Store(Path(sys.argv[1])).open(sys.argv[2]), "second", Path(sys.argv[3]))
"""


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return student(tmp_path / "data", model_path("world/base"))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "convert_hf_to_gguf.py").write_text(CONVERTER)
    monkeypatch.setenv(gguf.LLAMA_CPP, str(tmp_path))


def publish(artifact: Artifact, folder: Path, kind: str) -> None:
    if kind == "model":
        write_model(artifact, "made", folder)
    else:
        gguf.write_gguf(artifact, "made", folder, "f16")


@pytest.mark.parametrize("kind", ["model", "gguf"])
@pytest.mark.parametrize(
    "files",
    [
        {"README.md": "# My project", "src/main.py": "print()", ".git/HEAD": "ref: refs/heads/main"},
        {"README.md": "# My project"},
        {"README.md": "", "config.json": "{}"},
        {"README.md": "mine", "Modelfile": "FROM ./model.gguf"},
        {"README.md": "mine", "Modelfile": "FROM ./model.gguf", "model.gguf": "of another"},
        {"model.gguf": "of another"},
        {"README.md/inner": "a folder of this name"},
        {".model.gguf.note.tmp": "mine"},
    ],
)
def test_a_folder_of_somebodys_own_stays_as_it_is(
    artifact: Artifact, converted: None, tmp_path: Path, files: dict[str, str], kind: str
) -> None:
    folder = tmp_path / "mine"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(ExportError, match="holds something else"):
        publish(artifact, folder, kind)
    assert tree(folder) == {name: text.encode() for name, text in files.items()}


@pytest.mark.parametrize("added", ["notes.txt", ".git/HEAD", "checkpoints/model.safetensors"])
def test_a_published_folder_with_something_beside_is_kept(artifact: Artifact, tmp_path: Path, added: str) -> None:
    folder = write_model(artifact, "made", tmp_path / "out").folder
    (folder / added).parent.mkdir(exist_ok=True)
    (folder / added).write_text("mine")
    before = tree(folder)
    with pytest.raises(ExportError, match="holds something else"):
        write_model(artifact, "made", folder)
    assert tree(folder) == before


def test_a_model_is_not_written_into_the_artifact(artifact: Artifact) -> None:
    before = tree(artifact.path)
    for folder in (artifact.path / "model" / "out", artifact.path / "out"):
        with pytest.raises(ExportError, match="lies in the artifact"):
            write_model(artifact, "made", folder)
    assert tree(artifact.path) == before


def test_a_link_and_the_working_folder_are_replaced_as_folders(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    for folder in (tmp_path / "link", Path()):
        write_model(artifact, "made", folder)
        assert (tmp_path / "link").is_symlink() and "config.json" in tree(tmp_path / "real")
        monkeypatch.chdir(tmp_path / "real")


@pytest.mark.kill
def test_a_kill_keeps_the_old_folder_and_the_next_try_works(artifact: Artifact, tmp_path: Path) -> None:
    folder = write_model(artifact, "first", tmp_path / "out").folder
    before = tree(folder)
    command = [sys.executable, "-c", KILLED, str(artifact.path.parents[1]), artifact.id, str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert tree(folder) == before and len(list(tmp_path.iterdir())) == 3
    write_model(artifact, "second", folder)
    assert b"# second" in tree(folder)["README.md"]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


@pytest.mark.serves
def test_what_a_killed_conversion_left_is_no_obstacle(artifact: Artifact, converted: None, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / "out"
    folder.mkdir()
    for _ in range(2):  # into an empty folder, and over what was published
        (folder / f".model.gguf.{gone.pid}.tmp").write_text("half")
        gguf.write_gguf(artifact, "made", folder, "f16")
        assert set(tree(folder)) == {"README.md", "Modelfile", "model.gguf"}
    (folder / f".model.gguf.{os.getpid()}.tmp").write_text("under way")
    with pytest.raises(ExportError, match="holds something else"):
        gguf.write_gguf(artifact, "made", folder, "f16")
