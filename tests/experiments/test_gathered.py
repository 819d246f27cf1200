"""One page of several experiments: which of them stand on it, and what it shows."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.atomic_files import write_json_atomic
from cohobate.core.errors import StoreError
from cohobate.experiments import gathered
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace
from tests.support.browser import ARGUMENTS, CHROMIUM, barriers

HALF, RECOVER = load_recipe("smollm2_half_small"), load_recipe("smollm2_recover_small")


def share(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def score(accuracy: float) -> dict[str, Any]:
    return {"greedy": {"n": 48, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}}


def facts() -> dict[str, Any]:
    """As `findings` writes them, of one method with two seeds."""
    spent = {"flops": 2e12, "teacher_flops": 5e11, "student_flops": 1.5e12, "step": 8}
    gain = {**share(0.1), "questions_low": 0.0, "questions_high": 0.2, "verdict": "better"}
    method = {"method": "opd", "about": "", "stage": "opd", "start": "start", "seeds": 2, "n": 48, "alarms": 0, **spent}
    distances = [
        {"model": name, "seeds": seeds, "n": 24, "reverse_kl": share(kl), "agreement": share(0.5), "accuracy": share(a)}
        for name, seeds, kl, a in (("base", 0, 9.875, 0.01), ("start", 0, 3.25, 0.2), ("opd", 2, 2.5, 0.3))
    ]
    return {
        "title": "smollm2_half_small",
        "description": "A <small> model.",
        "split": "test",
        "decodings": ["greedy"],
        "seeds": 2,
        "reference": "opd",
        "start": {"scores": score(0.2)},
        "teacher": score(0.7),
        "methods": [{**method, "scores": {"greedy": share(0.3)}, "gain": {"greedy": gain}}],
        "from_start": ["opd"],
        "from_base": [],
        "reached": [],
        "differences": [],
        "distances": distances,
        "points": [{"n": 8, "decoding": "greedy"}],
    }


def lines() -> list[dict[str, Any]]:
    suites = {"handbook-1": share(0.1), "instructions": share(0.345)}
    phases = ((0, "–", "before"), (1, "70:30", "mid-trained"), (1, "70:30", "recovered"))
    return [{"round": n, "arm": arm, "phase": phase, "seeds": 1, "suites": suites} for n, arm, phase in phases]


def made(recipe: Recipe, stage: str, metrics: dict[str, Any], number: int = 0) -> Artifact:
    """A finished experiment, without any training."""

    def build(workspace: Workspace) -> Outcome:
        write_json_atomic(workspace.path / "comparison.json", {**facts(), "seeds": number or 2})
        return Outcome(1, metrics)

    identity = {"number": number}
    return Store().produce(stage, recipe=recipe, version=1, identity=identity, parents=[], build=build)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    return tmp_path


def test_the_page_holds_the_tables_of_both_experiments_and_says_what_they_are_made_of() -> None:
    half, recovered = made(HALF, "comparison", {}), made(RECOVER, "recovery", {"lines": lines()})
    gathering = gathered.gather([HALF, RECOVER])
    page = (gathering.path / "index.html").read_text()
    assert all(each.id in page for each in (half, recovered))
    assert "A &lt;small&gt; model." in page and "<small>" not in page
    written = (gathering.path / "report.md").read_text()
    for cell in (
        "9.88 [9.82, 9.93]",
        "before training",
        "34.5% [29.5%, 39.5%]",
        "70:30",
        "mid-trained",
        "instruction following",
    ):
        assert cell in written
    assert [parent.id for parent in gathering.manifest.parents] == [half.id, recovered.id]
    assert gathered.gather([HALF, RECOVER]).cached


def test_the_newest_experiment_of_a_recipe_stands_on_it() -> None:
    made(HALF, "comparison", {}, 1)
    newest = made(HALF, "comparison", {}, 2)
    assert [parent.id for parent in gathered.gather([HALF]).manifest.parents] == [newest.id]


def test_a_recipe_without_a_finished_experiment_is_refused_with_the_command_that_makes_one() -> None:
    made(HALF, "comparison", {})
    with pytest.raises(StoreError, match="run: cohobate recover smollm2_recover_small"):
        gathered.gather([HALF, RECOVER])
    with pytest.raises(StoreError, match="run: cohobate compare tiny"):
        gathered.gather([load_recipe("tiny")])


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 400)])
def test_the_page_opens_without_a_fault_on_a_screen_and_on_a_phone(scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    made(HALF, "comparison", {})
    made(RECOVER, "recovery", {"lines": lines()})
    path = gathered.gather([HALF, RECOVER]).path / "index.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.resolve().as_uri())
        assert not problems
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(page) == []
        browser.close()
