"""The source and the tests keep the rules that CONTRIBUTING.md states of names, sizes and tests."""

import ast
from pathlib import Path

import pytest

from tests.support.hollow_tests import hollow_tests
from tests.support.source_tree import modules

ROOT = Path(__file__).parents[1]
SOURCES = [*modules({ROOT / "src" / "cohobate": ROOT / "src", ROOT / "tasks": ROOT, ROOT / "flows": ROOT}).values()]
TESTS = [*modules({ROOT / "tests": ROOT}).values()]
BENCHMARKS = [*modules({ROOT / "benchmarks": ROOT}).values()]
# They say that something was done to a thing, not what it is.
PARTICIPLES = {"found", "known", "kept", "asked", "told", "held", "said", "mine", "whole"}
LONGEST = 350
# Seconds of import each, or imports of what takes them: for the tests that need them, not for collecting the others.
HEAVY = {"datasets", "flows", "lm_eval", "peft", "playwright", "prefect", "ray", "tasks", "trl"}


def test_a_variable_names_the_thing() -> None:
    vague = [f"{m.name}:{line} {name}" for m in SOURCES for name, line in m.variables if name in PARTICIPLES]
    assert vague == []


def test_no_file_is_longer_than_a_reader_takes_in() -> None:
    lengths = {m.name: len(m.path.read_text().splitlines()) for m in (*SOURCES, *TESTS, *BENCHMARKS)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_tests_share_through_support_only() -> None:
    shared = {m.name: [name for name in m.imports if ".test_" in name] for m in TESTS}
    assert {name: others for name, others in shared.items() if others} == {}


def test_heavy_packages_are_imported_by_the_tests_that_need_them() -> None:
    heavy = {module.name: module.packages_at_import & HEAVY for module in TESTS}
    assert {name: packages for name, packages in heavy.items() if packages} == {}


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


def test_tests_use_no_private_name() -> None:
    private = {name for module in (*SOURCES, *BENCHMARKS) for name in module.private_names}
    foreign = {module.name: private - module.private_names for module in TESTS}
    uses = [f"{m.name}:{line} {name}" for m in TESTS for name, line in m.private_uses if name in foreign[m.name]]
    assert uses == []


@pytest.mark.parametrize(
    ("body", "hollow"),
    [
        ("for row in read():\n        assert row", True),
        ("for row in read():\n        with raises(ValueError):\n            row()", True),
        ("for n in range(3):\n        for row in read(n):\n            assert row", True),
        ("for one, other in zip([1, 2], read()):\n        assert one == other", True),
        ("for one, other in zip([1, 2], read(), strict=True):\n        assert one == other", False),
        ("rows = read()\n    assert len(rows) == 2\n    for row in rows:\n        assert row", False),
        ("rows = [1, 2]\n    for row in rows:\n        assert row", False),
        ("for row in ROWS:\n        assert row", False),
        ("for name in parts:\n        assert name", False),
    ],
)
def test_a_test_is_hollow_whose_only_loop_may_be_empty(body: str, hollow: bool) -> None:
    given = "@pytest.mark.parametrize('parts', [['a']])"
    source = f"ROWS = [n for n in range(4)]\n\n{given}\ndef test_it(parts):\n    {body}\n"
    assert hollow_tests(ast.parse(source)) == (["test_it"] if hollow else [])


def test_no_test_is_hollow() -> None:
    hollow = {module.name: hollow_tests(module.tree) for module in TESTS}
    assert {name: tests for name, tests in hollow.items() if tests} == {}
