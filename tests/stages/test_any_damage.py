"""Any bit flipped, any end cut off, in any file of a data folder: the same artifacts, or a sentence with its name.

COHOBATE_DAMAGES: how many places are tried (COHOBATE_DAMAGES_SEED: which ones), in the folders of runs that were killed
at seven moments instead of three. Their counts by kind of file and outcome are printed (`-s`).
"""

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError
from cohobate.core.fingerprint import hash_file
from cohobate.datasets.export import export
from cohobate.report.sample_rows import sample_rows
from cohobate.store import gc, listing, promotion, runs
from cohobate.store.artifacts import Artifact, Store, verify
from tests.support.damage import flipped
from tests.support.killed_runs import MOMENTS, make_everything, recipe_in

SHORT = ["answered", "answering", "rollouts", "evaluating"]
PLACES, SEED = int(os.environ.get("COHOBATE_DAMAGES", "24")), int(os.environ.get("COHOBATE_DAMAGES_SEED", "0"))
# Columns that say when and how long, or who paid.
OF_THE_RUN = ["created_at", "latency_ms", "cached", "run_id", "attempts", "cost_usd"]
Facts = dict[str, object]
is_long = "COHOBATE_DAMAGES" in os.environ


@dataclass(frozen=True)
class Roots:
    """Data folders of a recipe, what is the same in all of them, and the files of each kind."""

    recipe: Recipe
    artifacts: Facts
    views: Facts
    files: dict[str, list[tuple[Path, Path]]]


@dataclass(frozen=True)
class Damage:
    """A bit flipped at a place, a share of the length, or a cut there (bit None)."""

    kind: str
    root: Path
    file: Path
    place: float
    bit: int | None

    def inflict(self, copy: Path) -> None:
        """Damage the file of `copy`; its other hard links stay as they were."""
        path = copy / self.file
        content = path.read_bytes()
        at = int(self.place * len(content))
        path.unlink()
        path.write_bytes(content[:at] if self.bit is None else flipped(content, at, self.bit))


def kind_of(root: Path, file: Path) -> str:
    """The file's path without hashes and numbers, and whether it is a killed run's."""
    name = re.sub(r"tiny(\.curated)?-[0-9a-f]{8}", r"*\1", file.as_posix())
    return re.sub(r"(claims-\d+-)?[0-9a-f]{16}|\d{6}(-0)?(-\d{5})?", "*", name)


def artifacts_of(made: dict[str, Artifact]) -> Facts:
    """What must not change of artifacts: the rows of tables, the bytes of everything else that is published."""
    facts: Facts = {}
    for stage, artifact in made.items():
        for entry in artifact.manifest.files:
            path = artifact.path / entry.path
            assert hash_file(path) == entry.sha256
            facts[f"{stage}/{entry.path}"] = rows(pl.read_parquet(path)) if path.suffix == ".parquet" else entry.sha256
    return facts


def rows(frame: pl.DataFrame) -> object:
    times = [name for name in frame.columns if name in OF_THE_RUN or name.startswith("seconds_")]
    return frame.drop(times).to_dicts()


def look(out: Path) -> tuple[Facts, list[CohobateError]]:
    """What the commands show of a data folder, and what they refuse."""
    views, refusals = Facts(), list[CohobateError]()
    assert listing.list_artifacts()
    assert [record.id for record in runs.all_records()] in (["run"], [])
    try:
        gc.plan(keep=1)
        views["promoted"] = {each.recipe: each.artifacts for each in promotion.all_promotions()}
    except CohobateError as error:
        refusals.append(error)
    for artifact in Store().all():
        try:
            verify(artifact)
            if artifact.stage in ("triples", "labels", "opd", "evaluation"):
                views[f"rows of {artifact.id}"] = rows(sample_rows(artifact).collect())
            if artifact.id.startswith("triples/tiny-"):
                export.export(artifact, export.Request("messages"), out)
                views["export"] = hash_file(next(out.glob("*.jsonl")))
        except CohobateError as error:
            refusals.append(error)
    return views, refusals


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roots]:
    home = tmp_path_factory.mktemp("roots")
    moments = list(MOMENTS) if is_long else SHORT
    subprocess.run(
        [sys.executable, "-m", "tests.support.killed_runs", str(home), *moments],
        check=True,
        timeout=None if is_long else 280,
    )
    recipe = recipe_in(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(home / "finished"))
        artifacts = artifacts_of(make_everything(recipe))
        views, refusals = look(home / "exports")
    assert not refusals and len(views) == 7
    files: dict[str, list[tuple[Path, Path]]] = {}
    for root in (home / "finished", *(home / moment for moment in moments)):
        for path in sorted(root.rglob("*")):
            is_read = root.name == "finished" or ".partial" in str(path) or path.parent.name == "responses"
            if path.is_file() and path.stat().st_size and is_read and path.suffix != ".lock":
                file = path.relative_to(root)
                files.setdefault(kind_of(root, file), []).append((root, file))
    yield Roots(recipe, artifacts, views, files)


def damages(files: dict[str, list[tuple[Path, Path]]], count: int, seed: int) -> Iterator[Damage]:
    """Each kind of file in turn, at its ends first."""
    draw = random.Random(seed)
    kinds = sorted(files)
    draw.shuffle(kinds)
    for number, kind in enumerate(islice(cycle(kinds), count)):
        lap = number // len(kinds)
        root, file = files[kind][lap % len(files[kind])]
        place = [draw.random(), 0.0, 1 - 1e-9][lap if 0 < lap < 3 else 0]
        yield Damage(kind, root, file, place, draw.choice([None, *range(8), *range(8)]))


def outcome_of(damage: Damage, roots: Roots, folder: Path, said: pytest.CaptureFixture[str]) -> str:
    """In a word or two what comes of it; AssertionError for anything that must not."""
    copy = folder / "data"
    shutil.copytree(damage.root, copy, copy_function=os.link)
    damage.inflict(copy)
    said.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(copy))
        views, refusals = look(folder / "exports")
        for name, value in views.items():
            assert roots.views[name] == value, name
        try:
            made = artifacts_of(make_everything(roots.recipe))
        except CohobateError as error:
            refusals.append(error)
            made = {}
        for sentence in map(str, refusals):
            assert "\n" not in sentence and str(damage.file.parent) in sentence, sentence
        assert made.items() <= roots.artifacts.items()
        if not made:
            return "refused"
        assert {each.status for each in listing.list_artifacts()} == {"done"}
    return "named, made again" if str(damage.file.parent) in said.readouterr().err else "without effect"


@pytest.mark.trains
@pytest.mark.kill
@pytest.mark.timeout(0 if is_long else 300)
def test_no_damage_of_any_file_makes_other_data(
    roots: Roots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes, wrong = Counter[tuple[str, str]](), list[tuple[Damage, str]]()
    for number, damage in enumerate(damages(roots.files, PLACES, SEED)):
        folder = tmp_path / str(number)
        try:
            outcome = outcome_of(damage, roots, folder, capsys)
        except Exception as error:  # of any kind: each is a damage that is not borne
            outcome = "wrong"
            wrong.append((damage, f"{type(error).__name__}: {str(error)[:2000]}"))
        outcomes[damage.kind, outcome] += 1
        if is_long:
            with capsys.disabled():
                print(f"{number:5} {outcome:18} {damage.kind} {damage.place:.4f} {damage.bit}", flush=True)
        shutil.rmtree(folder)
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"{count:5} {outcome:18} {kind}")
    assert not wrong, "\n\n".join(f"{damage}\n{error}" for damage, error in wrong)
    assert outcomes.total() == PLACES
