"""Completion as a shell does it, the version, and what quick commands load: all of it in processes of their own."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cohobate.core.shipped import shipped_recipes
from tests.support.command import cohobate, refusal

pytestmark = pytest.mark.serves

ROOT = Path(__file__).parents[2]
# Each takes a tenth of a second or more to import.
SLOW = {"torch", "transformers", "prefect", "polars", "pyarrow", "pandas", "numpy", "openai", "matplotlib", "fastapi"}


def completed(words: str, folder: Path) -> list[str]:
    """What bash completes the last word of a line to."""
    line = words.split(" ")
    script = (
        'eval "$(cohobate completion bash)"\n'
        f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}\n"
        'complete -p cohobate >/dev/null && _cohobate_completion cohobate && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COHOBATE_DATA": str(folder / "data")}
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_recipes_stages_and_artifacts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    (tmp_path / "mi$(touch bad).toml").touch()
    artifact = tmp_path / "data" / "triples" / "mine-0123abcd"
    artifact.mkdir(parents=True)
    (artifact / "manifest.json").touch()
    assert completed("cohobate es", tmp_path) == ["estimate"]
    assert completed("cohobate run mi", tmp_path) == ["mine.toml"]
    offered = completed("cohobate preflight ''", tmp_path)
    assert set(shipped_recipes()) <= set(offered)
    assert completed("cohobate run mine.toml --until eval", tmp_path) == ["evaluation"]
    assert completed("cohobate show triples/m", tmp_path) == ["triples/mine-0123abcd"]
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_cohobate(shell: str, tmp_path: Path) -> None:
    script = cohobate("completion", shell, data=tmp_path).stdout
    assert f"_COHOBATE_COMPLETE=complete_{shell}" in script and "cohobate" in script.replace("_cohobate_", "")


def test_another_shell_is_refused(tmp_path: Path) -> None:
    assert "bash, zsh, fish" in refusal("completion", "tcsh", data=tmp_path / "data")


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    namespace: dict[str, str] = {}
    exec((ROOT / "src/cohobate/__init__.py").read_text(), namespace)
    assert cohobate("--version", data=tmp_path).stdout == f"cohobate {namespace['__version__']}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["completion", "bash"], ["run", "nowhere"], ["run", "tiny", "--set", "sft.stepz=1"]],
)
def test_quick_commands_load_nothing_slow(arguments: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from cohobate.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "cohobate" in loaded and not loaded & SLOW


def test_the_package_itself_loads_nothing() -> None:
    program = "import json, sys; import cohobate; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "cohobate" in loaded and not loaded & {*SLOW, "pydantic", "typer", "rich"}
