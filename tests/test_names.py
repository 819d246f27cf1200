"""The source keeps the rules that CONTRIBUTING.md states of names and sizes."""

from pathlib import Path

import pytest

from tests.support.source_tree import Module, modules

ROOT = Path(__file__).parents[1]
SOURCES = [*modules({ROOT / "src" / "cohobate": ROOT / "src", ROOT / "tasks": ROOT, ROOT / "flows": ROOT}).values()]
TESTS = [*modules({ROOT / "tests": ROOT}).values()]
BENCHMARKS = [*modules({ROOT / "benchmarks": ROOT}).values()]
# They say that something was done to a thing, not what it is.
PARTICIPLES = {"found", "known", "kept", "asked", "told", "held", "said", "mine", "whole"}
LONGEST = 350


def test_a_variable_names_the_thing() -> None:
    vague = [f"{m.name}:{line} {name}" for m in SOURCES for name, line in m.variables if name in PARTICIPLES]
    assert vague == []


def test_no_file_is_longer_than_a_reader_takes_in() -> None:
    lengths = {m.name: len(m.path.read_text().splitlines()) for m in (*SOURCES, *TESTS, *BENCHMARKS)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("module", TESTS, ids=lambda module: module.name)
def test_tests_share_through_support_only(module: Module) -> None:
    assert [name for name in module.imports if ".test_" in name] == []


PRIVATE = {name for module in (*SOURCES, *BENCHMARKS) for name in module.private_names}


@pytest.mark.parametrize(
    "line",
    [
        "from cohobate.core.locks import _held",
        "engine._worker.kill()",
        "monkeypatch.setattr(labels, '_CHUNK', 4)",
        "patch.setattr('cohobate.training.loop.Run._step', killed)",
    ],
)
def test_the_use_of_a_private_name_is_seen(line: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(f"_own = 1\n{line}\n")
    [module] = modules({tmp_path: tmp_path}).values()
    assert [place for _, place in module.private_uses] == [2]


@pytest.mark.parametrize("module", TESTS, ids=lambda module: module.name)
def test_tests_use_no_private_name(module: Module) -> None:
    foreign = PRIVATE - module.private_names
    assert [f"{name} in line {line}" for name, line in module.private_uses if name in foreign] == []
