"""The rooms of src/cohobate stand in one line, and each reaches only the doors of rooms before it."""

import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cohobate.store.artifacts import STAGES
from tests.support.source_tree import Module, modules

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
HEAVY = ("torch", "transformers", "prefect")


def _door(room: str, name: str) -> str:
    return f"cohobate.{room}" if name == f"({room})" else f"cohobate.{room}.{name}"


# The line of rooms: floor, room, and the modules through which later rooms reach it ((room): the package itself). Two
# rooms of one floor do not import each other. docs/architecture.md and CONTRIBUTING.md show the same line.
ROOMS = """
 0 core:        answer_boxes answer_forms answer_parsing answer_text answer_value atomic_files block_checksums
                context conversation errors fingerprint formatting frequencies interrupts launch locks markdown memory
                model_shape normal_form parquet plug_ins processes progress reasoning sample_id sanitize schema
                sealed_files sealed_json server_address settings shipped statistics templates user_code
 1 config:      (config) load
 2 store:       artifacts compute_ledger folders gc listing manifest origins promotion runs
 3 sources:     documents files generated guess read readers route table world.arithmetic world.chat world.handbook
                world.instructions world.splits
 3 models:      allocation batching chat_template context_room continuation decoder_module end_of_response
                fetched.fetch loading logprobs memory_room model_cost output_layer own_forward precision
                privileged published_configs rendering sampling.decoding sampling.sampler sampling.slot_sampler sequence
                special_tokens template_revision thoughts token_loss torch_setup
 4 teachers:    base endpoint.batch_routes endpoint.client endpoint.prompt_logprobs endpoint.scoring_checks
                endpoint.server_defaults generate kinds probes response_store vllm.install vllm.sampler
                vllm.server vllm.trial
 5 evaluation:  accuracy lm_eval pass_at_k samplers verifiers.judge verifiers.labels verifiers.verdict
                verifiers.verify
 6 datasets:    curation.filters curation.language_id curation.write diff export.export export.gguf
                export.model_card gate gate_checks parsed_ahead selection teacher_names triples
 7 report:      console dataset details diff experiment facts figures render runs sample_rows trackers tracking
 8 training:    distributed epochs launched loop lora metrics objectives.base objectives.distributions
                objectives.judge objectives.length objectives.preference preference_source rollout_log
                rollout_source samplers
                scored_source scoring.base scoring.factory trainee triple_source types validation
 9 stages:      curation doctor dry_run estimate estimate_words evaluation follow labels night opd preflight proposal
                questions regeneration report sft suites triples
10 experiments: comparison.distance comparison.page comparison.parallel_runs comparison.plan comparison.runner
                comparison.stage gathered recovery.arms recovery.stages single_prompt.arms
                single_prompt.stages tiny_policy.stages
11 cli:         main
"""
_LINES = re.findall(r"^ *(\d+) (\w+): ([^:]*)$", ROOMS, re.MULTILINE)
FLOORS = {room: int(floor) for floor, room, _ in _LINES}
DOORS = {room: {_door(room, name) for name in doors.split()} for _, room, doors in _LINES}


def room_of(name: str) -> str:
    """`cohobate.store.runs` -> `store`; "" for the package's own two modules, and outside of it."""
    parts = name.split(".")
    return parts[1] if parts[0] == "cohobate" and len(parts) > 1 and parts[1] in FLOORS else ""


def offences(tree: dict[str, Module]) -> list[str]:
    """What the modules below cohobate import, or name in a string, and may not."""
    return [
        f"{name} {how} {other}"
        for name, module in tree.items()
        for how, others in (("imports", module.imports), ("names", module.named))
        for other in sorted(others)
        if not allowed(name, other, how)
    ]


def allowed(name: str, other: str, how: str) -> bool:
    """Whether the module `name` of cohobate may use the module `other`; how: it imports or it names it."""
    here, there = room_of(name), room_of(other)
    if other.split(".", maxsplit=1)[0] in ("prefect", "tasks", "flows"):
        return how == "names" and here == "cli" and not other.startswith("prefect")  # which becomes their program
    if not other.startswith("cohobate.") or here == there or not here:
        return True
    return bool(there) and FLOORS[there] < FLOORS[here] and other in DOORS[there]


ALL = modules({SRC / "cohobate": SRC, ROOT / "tasks": ROOT, ROOT / "flows": ROOT})
COHOBATE, TASKS, FLOWS = (
    {name: module for name, module in ALL.items() if name.split(".")[0] == package}
    for package in ("cohobate", "tasks", "flows")
)


def test_each_room_reaches_only_the_doors_of_rooms_before_it() -> None:
    assert offences(COHOBATE) == []


def test_every_door_is_a_module_that_a_later_room_uses() -> None:
    used = {other for name, module in ALL.items() for other in module.imports if room_of(other) != room_of(name)}
    assert {door for doors in DOORS.values() for door in doors} <= used & set(COHOBATE)


@pytest.mark.parametrize(
    ("path", "source", "offence"),
    [
        ("store/runs.py", "from cohobate.core import atomic_files", None),
        ("store/bypass.py", "from cohobate.sources.read import read_questions", "imports cohobate.sources.read"),
        (
            "teachers/bypass.py",
            "def f():\n    from cohobate.models.decoder import fused",
            "imports cohobate.models.decoder.fused",
        ),
        ("models/beside.py", "from cohobate.sources import read", "imports cohobate.sources.read"),
        ("training/named.py", 'COMMAND = ["-m", "cohobate.stages.rank"]', "names cohobate.stages.rank"),
        ("stages/flow.py", 'MODULE = f"flows.{name}"', "names flows"),
        ("core/server.py", "import prefect", "imports prefect"),
        ("cli/becoming.py", 'PROGRAM = "flows.distill"', None),
        ("cli/upward.py", "def f():\n    from tasks.server import up", "imports tasks.server"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, path: str, source: str, offence: str | None) -> None:
    stand_ins = ("core/atomic_files", "sources/read", "models/decoder/fused", "stages/rank")
    for name in (*(f"{each}.py" for each in stand_ins), path):
        file = tmp_path / "cohobate" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in (file.parent, *file.parent.parents):
            if folder.is_relative_to(tmp_path / "cohobate"):
                (folder / "__init__.py").touch()
        file.write_text(source if name == path else "")
    seen = offences(modules({tmp_path / "cohobate": tmp_path}))
    name = "cohobate." + path.removesuffix(".py").replace("/", ".")
    assert seen == ([] if offence is None else [f"{name} {offence}"])


def test_every_module_stands_in_a_room() -> None:
    assert {path.name for path in (SRC / "cohobate").iterdir() if path.is_file()} == {
        "__init__.py",
        "__main__.py",
        "py.typed",
    }
    rooms = {path.name for path in (SRC / "cohobate").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(FLOORS)


def test_tasks_import_no_flow_and_flows_reach_the_stages_through_tasks() -> None:
    assert [name for name, module in TASKS.items() for other in module.imports if other.startswith("flows")] == []
    assert [
        (name, other)
        for name, module in FLOWS.items()
        for other in module.imports
        if room_of(other) in ("training", "teachers", "models")
    ] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    others = {f"cohobate.stages.{other}" for other in STAGES if other != stage}
    assert COHOBATE[f"cohobate.stages.{stage}"].imports & others == set()


def test_no_two_modules_import_each_other() -> None:
    # The package itself imports nothing when it is imported (tests/cli/test_completion.py): it gives names on demand.
    inner = {name: module for name, module in COHOBATE.items() if name != "cohobate"}
    list(TopologicalSorter({name: module.imports & set(inner) for name, module in inner.items()}).static_order())


@pytest.mark.serves
def test_a_mistake_is_answered_before_anything_heavy_is_loaded() -> None:
    light = ["config", "config.load", "core.errors", "store.artifacts", "store.runs", "cli.main", "cli.artifact_view"]
    names = [f"cohobate.{name}" for name in [*light, "stages.preflight", *(f"stages.{name}" for name in STAGES)]]
    program = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded[name] = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {name: [] for name in names}
