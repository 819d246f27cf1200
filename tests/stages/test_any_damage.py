"""Any bit flipped, any end cut off, in any file of a data folder: the same artifacts, or a sentence with its name.

COHOBATE_DAMAGES: how many places are tried.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError
from cohobate.core.fingerprint import hash_file
from cohobate.stages import opd
from cohobate.store import listing, promotion, runs
from cohobate.store.artifacts import Artifact
from cohobate.training.loop import Run
from cohobate.training.types import RunState
from tests.support.damage import flipped
from tests.support.pipeline import SMALL, train_stages

STEPS, FATAL = 4, 3
SHORT = [
    *SMALL,
    *("questions.train=24", "questions.test=4", "questions.hard=4", "sft.steps=2", "sft.evaluate_questions=2"),
    *(f"opd.steps={STEPS}", "opd.prompts=2", "opd.group=2", "opd.max_tokens=12", "opd.warmup=0"),
    *("opd.evaluate_questions=2", "opd.evaluate_every=2", "opd.snapshot_every=2", "triples.samples=1"),
]
# Columns that say when and how long, or who paid.
OF_THE_RUN = ["created_at", "latency_ms", "cached", "run_id", "attempts"]
Facts = dict[str, object]


@dataclass(frozen=True)
class Roots:
    """A recipe, the facts of its undamaged artifacts, and the files of two data folders.

    One folder is of a finished run, one of a run that was killed in its last stage and left a journal.
    """

    recipe: Recipe
    facts: Facts
    files: list[tuple[Path, Path]]


def facts_of(artifacts: dict[str, Artifact]) -> Facts:
    """What must not change: the rows of tables, the bytes of everything else that is published."""
    facts: Facts = {}
    for stage, artifact in artifacts.items():
        for entry in artifact.manifest.files:
            path = artifact.path / entry.path
            assert hash_file(path) == entry.sha256
            if path.suffix == ".parquet":
                frame = pl.read_parquet(path)
                times = [name for name in frame.columns if name in OF_THE_RUN or name.startswith("seconds_")]
                facts[f"{stage}/{entry.path}"] = (
                    frame.drop(times).sort(pl.first()).write_csv()
                    if not any(isinstance(kind, pl.List) for kind in frame.dtypes)
                    else frame.drop(times).to_dicts()
                )
            else:
                facts[f"{stage}/{entry.path}"] = entry.sha256
    return facts


def finish(recipe: Recipe) -> Facts:
    """All that looks at a data folder; the facts of the artifacts, which are made where they are not there."""
    listing.list_artifacts()
    records, pointer = runs.all_records(), promotion.promoted("tiny")
    artifacts = train_stages(recipe)
    facts = facts_of(artifacts)
    assert [record.id for record in records] in (["run"], [])
    assert pointer is not None and pointer.fingerprints["questions"] == artifacts["questions"].fingerprint
    return facts


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roots]:
    home = tmp_path_factory.mktemp("roots")
    recipe = load_recipe("tiny", SHORT)
    take_step = Run.take_step

    def fatal(run: Run, state: RunState) -> None:
        if state.step == FATAL:
            raise KeyboardInterrupt
        take_step(run, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(home / "finished"))
        made = train_stages(recipe)
        promotion.promote("tiny", [made["questions"]], "by hand")
        runs.begin(recipe, "report").model_copy(update={"id": "run"}).save()
        for path in (home / "finished" / "runs").glob("tiny-*"):
            path.unlink()
        facts = finish(recipe)
        shutil.copytree(home / "finished", home / "killed")
        shutil.rmtree(home / "killed" / "opd")
        patch.setenv("COHOBATE_DATA", str(home / "killed"))
        patch.setattr(Run, "take_step", fatal)
        with pytest.raises(KeyboardInterrupt):
            opd.train(recipe, made["sft"], made["questions"], made["triples"])
    files = [
        (root, path.relative_to(root))
        for root in (home / "finished", home / "killed")
        for path in sorted(root.rglob("*"))
        # The finished folder has each of these too.
        if path.is_file() and path.stat().st_size and (root.name == "finished" or ".partial" in str(path))
    ]
    yield Roots(recipe, facts, files)


def link(source: str, target: str) -> None:
    os.link(source, target)


def damage(path: Path, place: float, bit: int | None) -> None:
    """Flip a bit at a place, a share of the length, or cut there (bit None). The file's other link stays as it was."""
    content = path.read_bytes()
    at = int(place * len(content))
    path.unlink()
    path.write_bytes(content[:at] if bit is None else flipped(content, at, bit))


@pytest.mark.trains
@given(
    which=st.integers(0, 2**16),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.none() | st.integers(0, 7),
)
@settings(
    max_examples=int(os.environ.get("COHOBATE_DAMAGES", "8")),
    suppress_health_check=list(HealthCheck),
    derandomize="COHOBATE_DAMAGES" not in os.environ,
)
def test_no_damage_of_any_file_makes_other_data(
    roots: Roots, tmp_path_factory: pytest.TempPathFactory, which: int, place: float, bit: int | None
) -> None:
    root, name = roots.files[which % len(roots.files)]
    copy = tmp_path_factory.mktemp("copy") / "data"
    shutil.copytree(root, copy, copy_function=link)
    damage(copy / name, place, bit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(copy))
        try:
            facts = finish(roots.recipe)
        except CohobateError as error:
            assert str(error).count("\n") == 0 and (name.name in str(error) or name.stem in str(error)), (name, error)
            return
        finally:
            shutil.rmtree(copy, ignore_errors=True)
    for each, value in roots.facts.items():
        assert facts[each] == value, (name, place, bit, each)
