"""A comparison from end to end on the tiny recipe: numbers that trace to artifacts, nothing made twice, kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.experiments.comparison import parallel_runs, stage
from cohobate.experiments.comparison.facts import Facts
from cohobate.experiments.comparison.runner import ComparisonRunner, TrainedStudent
from cohobate.report.render import pieces
from cohobate.stages import questions
from cohobate.store.artifacts import Artifact, Store
from tests.support.browser import ARGUMENTS, CHROMIUM, barriers
from tests.support.pipeline import SMALL

pytestmark = pytest.mark.trains

SMALLER = [
    *SMALL,
    *("sft.steps=4", "sft.evaluate_every=2", "sft.evaluate_questions=8"),
    *("opd.steps=2", "opd.warmup=0", "opd.evaluate_every=1", "opd.evaluate_questions=8"),
    *("evaluation.splits=['test']", "evaluation.limit=16", "compare.parallel=1", "compare.distance=6"),
]
CHOSEN = "compare.only=['opd', 'sft_fresh', 'lora_opd']"


@dataclass(frozen=True)
class Compared:
    """A comparison, and everything that it was made from."""

    root: Path
    runner: ComparisonRunner
    artifact: Artifact

    @property
    def facts(self) -> Facts:
        facts: Facts = json.loads((self.artifact.path / "comparison.json").read_text())
        return facts

    def trained(self, method: str, seed: int) -> TrainedStudent:
        return next(one for one in self.runner.trained() if (one.run.method, one.run.seed) == (method, seed))


def compare(recipe: Recipe) -> tuple[ComparisonRunner, Artifact]:
    runner = ComparisonRunner(recipe, questions.write(recipe), parallel_runs.STAGES)
    return runner, stage.compare(runner)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("compared")
    patch = pytest.MonkeyPatch()
    patch.setenv("COHOBATE_DATA", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def compared(root: Path) -> Compared:
    runner, artifact = compare(load_recipe("tiny", [*SMALLER, CHOSEN]))
    return Compared(root, runner, artifact)


def test_each_student_is_an_ordinary_artifact_with_its_start_as_parent(compared: Compared) -> None:
    start = compared.runner.start()
    for one in compared.runner.trained():
        parents = {parent.id for parent in one.student.manifest.parents}
        if one.run.start == "start":
            assert start.id in parents
        elif one.run.method == "lora_opd":
            assert compared.trained("lora_sft", one.run.seed).student.id in parents
        assert {parent.id for parent in one.scores.manifest.parents} == {compared.runner.questions.id, one.student.id}
    parents = {parent.id for parent in compared.artifact.manifest.parents}
    assert {one.student.id for one in compared.runner.trained()} | {start.id} < parents


def test_the_fresh_triples_are_of_the_questions_that_opd_rolls_out_on(compared: Compared) -> None:
    triples = pl.read_parquet(compared.trained("sft_fresh", 0).triples.path / "triples.parquet")
    rollouts = pl.read_parquet(compared.trained("opd", 0).student.path / "rollouts.parquet")
    assert set(triples["split"]) == {"fresh"}
    assert set(rollouts["question_id"]) <= set(triples["question_id"])


def test_the_accuracies_are_the_evaluations(compared: Compared) -> None:
    assert len(compared.facts["runs"]) > 1
    for run in compared.facts["runs"]:
        scores = Store(compared.root).find(run["evaluation"]).manifest.metrics
        assert isinstance(scores, list) and scores and {row["student"] for row in scores} <= {"sft", "opd"}
        for row in scores:
            assert run["scores"][row["decoding"]] == {name: row[name] for name in ("n", "accuracy", "low", "high")}


def test_the_compute_is_the_ledgers(compared: Compared) -> None:
    """At a method's last point stands what its artifacts' ledgers say, with the triples that it learnt."""

    def spent(artifact: Artifact, model: str, *works: str) -> int:
        return sum(e["flops"] for e in artifact.manifest.ledger if e["model"] == model and e["work"] in works)

    runs = {(run["method"], run["seed"]): run for run in compared.facts["runs"]}
    opd, fresh, chain = (compared.trained(name, 1) for name in ("opd", "sft_fresh", "lora_opd"))
    assert runs["opd", 1]["teacher_flops"] == spent(opd.student, "teacher", "scoring")
    assert runs["opd", 1]["student_flops"] == spent(opd.student, "student", "rollout", "update")
    # 4 steps of 16 of the 64 answers (less those that were wrong): each is paid once.
    learnt = min(1.0, 4 * 16 / len(pl.read_parquet(fresh.triples.path / "verdicts.parquet").filter(verdict="correct")))
    written = spent(fresh.triples, "teacher", "generation")
    assert runs["sft_fresh", 1]["teacher_flops"] == pytest.approx(written * learnt, rel=1e-9)
    before = compared.trained("lora_sft", 1)
    student = spent(before.student, "student", "adapter update")
    student += spent(chain.student, "student", "rollout", "adapter update")
    assert runs["lora_opd", 1]["student_flops"] == student
    assert runs["lora_opd", 1]["step"] == 4 + 2


def test_the_distances_are_those_of_every_student_to_the_teacher(compared: Compared) -> None:
    rows = {row["model"]: row for row in compared.facts["distances"]}
    assert list(rows)[:2] == ["base", "start"]
    assert set(rows) == {"base", "start", *(run["method"] for run in compared.facts["runs"])}
    assert {(row["n"], row["seeds"]) for row in rows.values()} == {(6, 0), (6, 2)}
    by_name: dict[str, list[Artifact]] = {}
    for name, measured in compared.runner.distances():
        by_name.setdefault(name, []).append(measured)
    for name, artifacts in by_name.items():
        tables = [pl.read_parquet(each.path / "distances.parquet") for each in artifacts]
        means = [sum(table["reverse_kl"].to_list()) / sum(table["tokens"].to_list()) for table in tables]
        assert rows[name]["reverse_kl"]["mean"] == pytest.approx(sum(means) / len(means))
        assert rows[name]["reverse_kl"]["mean"] > 0 and 0 <= rows[name]["agreement"]["mean"] <= 1
    assert rows["start"]["accuracy"] is not None
    assert "table-distance" in (compared.artifact.path / "index.html").read_text()


def test_a_second_comparison_finds_everything(compared: Compared) -> None:
    before = {artifact.id for artifact in Store(compared.root).all()}
    runner, again = compare(load_recipe("tiny", [*SMALLER, CHOSEN]))
    assert again.cached and all(one.student.cached and one.scores.cached for one in runner.trained())
    assert {artifact.id for artifact in Store(compared.root).all()} == before


def test_another_method_costs_that_method(compared: Compared) -> None:
    before = {artifact.id for artifact in Store(compared.root).all()}
    added = "compare.methods.sampled={opd={objective='sampled', steps=1, warmup=0}}"
    compare(load_recipe("tiny", [*SMALLER, added, "compare.only=['opd', 'sft_fresh', 'sampled']"]))
    made = {artifact.id for artifact in Store(compared.root).all()} - before
    assert sorted(name.split("/")[0] for name in made) == [
        *("comparison", "evaluation", "evaluation", "exam", "exam", "opd", "opd")
    ]
    assert all("sampled" in name for name in made if not name.startswith(("comparison", "exam")))


def test_the_page_shows_every_student_and_needs_nothing_from_elsewhere(compared: Compared) -> None:
    page = (compared.artifact.path / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import|<script', page)
    for run in compared.facts["runs"]:
        line = re.search(f'data-run="{run["method"]}/{run["seed"]}".*?</tr>', page, re.DOTALL)
        assert line is not None and run["student"] in line.group() and run["evaluation"] in line.group()
    assert {"table-accuracy", "table-base", "figure-accuracy"} <= set(re.findall('id="([^"]*)"', page))


@pytest.mark.parametrize(
    ("cell", "lines"),
    [
        ("416 G [100 G, 1.73 T], 2.8x [0.71, 11]", ["416 G", "[100 G, 1.73 T],", "2.8x [0.71, 11]"]),
        ("0 of 3 seeds in 2.64 T, ≥ 2.2x", ["0 of 3 seeds in 2.64 T,", "≥ 2.2x"]),
        ("+15.6 [+13.4, +17.8] better", ["+15.6", "[+13.4, +17.8] better"]),
        ("opd_topk", ["opd_topk"]),
    ],
)
def test_a_cell_is_broken_between_its_figures_only(cell: str, lines: list[str]) -> None:
    assert re.findall(">([^<]+)</span>", pieces(cell)) == lines


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_the_page_opens_without_a_fault_on_a_screen_and_on_a_phone(compared: Compared, scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}).new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((compared.artifact.path / "index.html").resolve().as_uri())
        assert not problems
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(page) == []
        browser.close()


# Two students of like length, so that two workers are busy from the interrupt until the kill.
TWO = [*SMALLER, "opd.steps=8", "opd.evaluate_every=4", "compare.only=['opd']", "compare.seeds=2", "compare.parallel=2"]


@pytest.mark.kill
@pytest.mark.prefect
def test_neither_ctrl_c_nor_a_kill_leaves_a_worker_or_loses_anything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    environment |= {"COHOBATE_DATA": str(data), "PREFECT_HOME": str(tmp_path / "prefect")}

    def start(*what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cohobate", *what]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def meet(process: subprocess.Popen[str], moment: str) -> None:
        """Returns while workers are there and something that the pattern `moment` names."""
        deadline = time.monotonic() + 120
        while not (workers(data) and any(True for _ in data.glob(moment))):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1][-2000:]
            time.sleep(0.02)

    process = start("compare", "tiny", *(part for change in TWO for part in ("--set", change)))
    meet(process, "opd/*.partial/scratch/rollouts/step-000000.parquet")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert not workers(data)
    process = start("resume")
    meet(process, "opd/*.partial/scratch/rollouts/step-000003.parquet")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while workers(data):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kept = {artifact.id: artifact.manifest.created_at for artifact in Store(data).all()}
    again = start("resume")
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0
    now = {artifact.id: artifact.manifest.created_at for artifact in Store(data).all()}
    assert kept.items() < now.items()
    assert len(list(data.glob("comparison/*/index.html"))) == 1 and "Accuracy on 16 test questions" in said


def workers(data: Path) -> list[int]:
    """Processes that work ahead in this data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:  # it has ended meanwhile
            continue
        if (
            b"cohobate.experiments.comparison.parallel_runs" in command
            and f"COHOBATE_DATA={data}".encode() in environment
        ):
            found.append(int(path.name))
    return found
