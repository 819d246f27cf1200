"""Imports point one way: flows -> tasks -> src; inside src from the stages down to schema and errors."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cohobate.store.artifacts import STAGES

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
HEAVY = ("torch", "transformers", "prefect")


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, *, package: bool = False) -> set[str]:
    """Full names of all that `source` imports anywhere, in functions and TYPE_CHECKING blocks too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = module.split(".")
            base = up[: len(up) - node.level + package] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {start} | {f"{start}.{alias.name}" for alias in node.names}
    return names


def graph(folder: Path, root: Path) -> dict[str, set[str]]:
    """What each module below `folder` imports."""
    return {
        name_of(path, root): imported(
            path.read_text(encoding="utf-8"), name_of(path, root), package=path.name == "__init__.py"
        )
        for path in sorted(folder.rglob("*.py"))
    }


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


COHOBATE = graph(SRC / "cohobate", SRC)
TASKS = graph(ROOT / "tasks", ROOT)
FLOWS = graph(ROOT / "flows", ROOT)


def offenders(modules: dict[str, set[str]], forbidden: Iterable[str]) -> list[str]:
    forbidden = tuple(forbidden)
    return [f"{a} imports {b}" for a, found in modules.items() for b in sorted(found) if within(b, forbidden)]


def test_every_form_of_import_is_seen() -> None:
    source = (
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\n"
        "def h():\n    import i\n    from j.k import l as m\n"
    )
    seen = {"a.b", "c", "c.d", "p.q", "p.q.e", "p.f", "p.f.g", "i", "j.k", "j.k.l"}
    assert imported(source, "p.q.r") == seen
    assert imported("from . import e", "p.q", package=True) == {"p.q", "p.q.e"}


def test_the_modules_are_all_read() -> None:
    assert {"cohobate", "cohobate.store.artifacts", "cohobate.stages.opd", "cohobate.sources.world.splits"} <= set(
        COHOBATE
    )
    assert "cohobate.core.errors" in COHOBATE["cohobate.store.artifacts"]
    assert {"tasks.stage", "flows.distill"} <= set(TASKS) | set(FLOWS)
    assert "cohobate.stages.opd" in TASKS["tasks.opd"] and "tasks.opd" in FLOWS["flows.distill"]


def test_src_knows_neither_prefect_nor_tasks_nor_flows() -> None:
    assert offenders(COHOBATE, ["prefect", "flows", "tasks"]) == []


def test_tasks_know_no_flow() -> None:
    assert offenders(TASKS, ["flows"]) == []


def test_flows_reach_the_stages_through_tasks_only() -> None:
    assert offenders(FLOWS, ["cohobate.stages"]) == []


def test_schema_errors_and_statistics_stand_on_nothing() -> None:
    lowest = {name: COHOBATE[f"cohobate.{name}"] for name in ("schema", "errors", "statistics")}
    assert offenders(lowest, ["cohobate"]) == []


def test_config_stands_on_errors_and_schema_only() -> None:
    config = {name: found for name, found in COHOBATE.items() if within(name, ["cohobate.config"])}
    found = {other for names in config.values() for other in names if within(other, ["cohobate"])}
    above = {
        name for name in found if not within(name, ["cohobate.config", "cohobate.core.errors", "cohobate.core.schema"])
    }
    assert above <= {"cohobate"}


def test_the_store_knows_no_model_and_no_teacher() -> None:
    above = ["chat", "responses", "teachers", "students", "rollouts", "training", "stages", "report", "cli"]
    below = ("store", "manifest", "files", "locks", "fingerprint", "config", "recipes", "errors", "schema")
    modules = {f"cohobate.{name}": COHOBATE[f"cohobate.{name}"] for name in below}
    assert offenders(modules, [f"cohobate.{name}" for name in above]) == []


def test_only_a_stage_may_import_from_the_stages() -> None:
    lower = {name: found for name, found in COHOBATE.items() if not within(name, ["cohobate.stages"])}
    assert offenders(lower, ["cohobate.stages"]) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_no_other_stage(stage: str) -> None:
    others = [f"cohobate.stages.{other}" for other in STAGES if other != stage]
    assert offenders({stage: COHOBATE[f"cohobate.stages.{stage}"]}, others) == []


def test_no_two_modules_need_each_other() -> None:
    needs = {a: (found & set(COHOBATE)) - {a, "cohobate"} for a, found in COHOBATE.items()}
    packages = {a for a in COHOBATE if any(b.startswith(f"{a}.") for b in COHOBATE)}
    list(TopologicalSorter({a: found - packages for a, found in needs.items()}).static_order())


def test_a_mistake_is_answered_before_anything_heavy_is_loaded() -> None:
    light = ["config", "errors", "recipes", "store", "listing", "runs", "preflight", "cli"]
    modules = [f"cohobate.{name}" for name in light] + [f"cohobate.stages.{name}" for name in STAGES]
    program = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded[name] = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {name: [] for name in modules}
