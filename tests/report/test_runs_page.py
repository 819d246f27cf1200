"""The page of all runs: its rows against the records, hostile texts, and a real browser with ten thousand of them."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.report import details, runs
from cohobate.report.run_rows import RunRow
from cohobate.store import runs as records
from tests.support.browser import CHROMIUM, barriers, quiet_tab
from tests.support.command import cohobate
from tests.support.dataset_pages import HOSTILE
from tests.support.made_triples import sample, triples
from tests.support.pipeline import Finished
from tests.support.runs_page import RUNS_ACTS, made_rows, unpacked_details, unpacked_page

browser_test = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")


@pytest.fixture(scope="module")
def data(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a finished pipeline, with the records of two runs of it and of one that was killed."""
    root = tmp_path_factory.mktemp("runs") / "data"
    shutil.copytree(finished.artifacts["report"].path.parents[1], root, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(root))
        for name in ("one", "two"):
            record = records.begin(Recipe(name=name), "report")
            for artifact in finished.artifacts.values():
                records.add_artifact(record.id, artifact.id)
            records.end(record, "done")
        killed = records.begin(Recipe(name="one"), "report")
        killed.model_copy(update={"pid": 2**22 - 1, "artifacts": ["../outside", "sft/gone-01234567"]}).save()
        runs.write_all()
    return root


def test_the_rows_are_the_records_and_their_numbers_the_manifests(data: Path, finished: Finished) -> None:
    page = unpacked_page(data / "pages" / "runs.html")
    assert page["recipe"] == ["one", "two", "one"] and page["status"] == ["killed", "done", "done"]
    evaluation = finished.artifacts["evaluation"].manifest.scores
    greedy = [each for each in evaluation if (each.split, each.decoding) == (evaluation[0].split, "greedy")]
    accuracy = {each.student: each.accuracy.mean for each in greedy}
    assert page["accuracy"][1] == pytest.approx(accuracy["opd"]) and page["teacher"][1] == pytest.approx(
        accuracy["teacher"]
    )
    spent = sum(entry["flops"] for each in finished.artifacts.values() for entry in each.manifest.ledger)
    assert page["flops"][1] == pytest.approx(spent, rel=1e-5) and page["accuracy"][0] is None
    assert {page["names"][at] for at in page["artifacts"][1]} == {each.id for each in finished.artifacts.values()}


def test_the_details_hold_the_curves_the_settings_and_the_rollouts(data: Path, finished: Finished) -> None:
    opd = finished.artifacts["opd"]
    shown = unpacked_details(data / "opd" / "pages" / f"{opd.path.name}.js")
    frame = pl.read_parquet(opd.path / "metrics.parquet")
    assert shown["curves"]["loss"] == [frame["step"].to_list(), pytest.approx(frame["loss"].to_list(), rel=1e-5)]
    assert shown["settings"]["opd.steps"] == str(opd.manifest.config["opd"]["steps"])
    texts = pl.read_parquet(opd.path / "rollouts.parquet")["text"].to_list()
    assert shown["rollouts"] and shown["samples"]
    for rollout in shown["rollouts"]:
        text = re.sub(r"<\|[^|]*\|>$", "", "".join(token for token, _, _ in rollout["tokens"]))
        assert text in texts and all(0 <= shade <= 90 for _, shade, _ in rollout["tokens"])


def test_long_curves_texts_and_rollouts_are_bounded(tmp_path: Path, finished: Finished) -> None:
    long = triples(
        tmp_path, [sample(f"question {at} {'word ' * 9000}", f"{'x' * 90_000}\nAnswer: 1") for at in range(40)]
    )
    steps = 3 * details.POINTS + 7
    frame = pl.DataFrame({"step": range(steps), **{f"measure_{at}": [float(at)] * steps for at in range(99)}})
    frame.with_columns(pl.lit(float("nan")).alias("loss")).write_parquet(long.path / "metrics.parquet")
    shown = unpacked_details(details.write_details(long))
    assert len(shown["samples"]) == details.SAMPLES and len(shown["curves"]) <= details.CURVES
    assert (
        max(len(text) for row in shown["samples"] for text in row.values() if isinstance(text, str)) < details.TEXT + 9
    )
    xs, ys = shown["curves"]["measure_1"]
    assert len(xs) == len(ys) <= details.POINTS + 1 and (xs[0], xs[-1]) == (0, steps - 1)
    assert json.dumps(shown) and "loss" not in shown["curves"]


def test_nothing_of_a_run_is_markup_or_a_program(tmp_path: Path) -> None:
    rows = [RunRow(id=f"{text} {at}", recipe=text, flow=text, status=text, started=None, error=text,
                        artifacts=[f"triples/{text}"]) for at, text in enumerate(HOSTILE)]  # fmt: skip
    runs.write_page(rows, tmp_path / "runs.html")
    text = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<img" not in text and "49" not in re.findall(r"\{\{(.*?)\}\}", text)
    assert unpacked_page(tmp_path / "runs.html")["error"] == [
        text.encode("utf-8", "replace").decode() for text in HOSTILE
    ]
    artifact = triples(tmp_path, [sample(text, f"{text}\nAnswer: 1", reason=text) for text in HOSTILE])
    script = details.write_details(artifact).read_text()
    assert re.fullmatch(r'cohobateDetails\("[A-Za-z0-9+/=]+"\);\n', script)


@pytest.mark.serves
def test_the_command_writes_the_page_or_says_where_a_report_lies(data: Path, finished: Finished) -> None:
    written = cohobate("report", "--all", "--detailed", "0", data=data)
    assert written.returncode == 0 and f"{data / 'pages' / 'runs.html'}: 3 runs" in written.stdout
    named = cohobate("report", "two", data=data)
    assert Path(named.stdout.strip()) == data / finished.artifacts["report"].id / "index.html"
    for arguments, reason in (
        (["--detailed", "3"], "give --all too"),
        ([], "has no report; go on with: cohobate resume one-"),
    ):
        refused = cohobate("report", *arguments, data=data)
        assert refused.returncode == 2 and reason in refused.stderr and "Traceback" not in refused.stderr


class Runs:
    """The page of all runs in a browser."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab

    def open(self, page: Path) -> None:
        self.tab.goto(page.resolve().as_uri())
        self.tab.wait_for_selector("#grid[aria-busy=false]")

    def shown(self) -> int:
        return int(self.tab.inner_text("#status").split()[0].replace(",", ""))

    def column(self, name: str) -> list[str]:
        """The texts of a column in sight, in order."""
        placed = sorted((int(row.get_attribute("aria-rowindex")), row) for row in self.tab.locator(".row").all())
        return [row.locator(f".{name}").inner_text() for _, row in placed]


@pytest.fixture
def browser_runs() -> Iterator[Runs]:
    with quiet_tab(1600, 900) as tab:
        yield Runs(tab)


@pytest.mark.browser
@browser_test
def test_of_ten_thousand_runs_those_in_sight_are_drawn_and_all_are_sorted_and_filtered(
    tmp_path: Path, browser_runs: Runs
) -> None:
    rows = made_rows(10_000)
    runs.write_page(rows, tmp_path / "runs.html")
    browser_runs.open(tmp_path / "runs.html")
    tab = browser_runs.tab
    assert browser_runs.shown() == len(rows) and tab.locator(".row").count() < 60
    tab.evaluate(RUNS_ACTS["sort"])
    best = sorted((row.accuracy for row in rows if row.accuracy is not None), reverse=True)
    assert browser_runs.column("accuracy")[:9] == [f"{100 * value:.1f}%" for value in best[:9]]
    tab.evaluate(RUNS_ACTS["filter"])
    assert browser_runs.shown() == sum(row.recipe == "recipe 3" for row in rows)
    tab.evaluate(RUNS_ACTS["search"])
    assert browser_runs.shown() == sum(row.recipe == "recipe 3" and "77" in row.id for row in rows)


@pytest.mark.browser
@browser_test
@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 400)])
def test_two_runs_are_compared_and_one_is_looked_into_by_keys_alone(
    data: Path, browser_runs: Runs, scheme: Any, width: int
) -> None:
    tab = browser_runs.tab
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 900})
    browser_runs.open(data / "pages" / "runs.html")
    tab.focus("#view")
    for key in ("ArrowDown", "a", "ArrowDown", "b"):
        tab.keyboard.press(key)
    tab.wait_for_selector("#lines .chart")
    loss = tab.locator(".chart", has=tab.locator("h3", has_text="opd: loss")).first
    assert loss.locator("polyline").count() == 2
    loss.focus()
    tab.keyboard.press("ArrowRight")
    assert "step" in loss.locator("figcaption").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width and barriers(tab) == []
    tab.reload()  # the address names the two
    tab.wait_for_selector("#lines .chart")
    tab.focus("#view")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#body .rollout")
    assert tab.locator("#body .rollout pre span").count() > 20
    tab.locator("#body summary", has_text="triples/").press("Enter")
    tab.wait_for_selector("#body .sample")
    assert barriers(tab) == [] and tab.evaluate("dialog.scrollWidth") <= width
    tab.keyboard.press("Escape")
    assert not tab.evaluate("dialog.open") and tab.evaluate("document.activeElement.id") == "view"


@pytest.mark.browser
@browser_test
def test_a_hostile_run_is_shown_as_text(tmp_path: Path, browser_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    artifact = triples(tmp_path, [sample(text, f"{text}\nAnswer: 1", reason=text) for text in HOSTILE])
    details.write_details(artifact)
    rng = random.Random(0)
    rows = [RunRow(id=text, recipe=text, flow=text, status=text, started=rng.random(), error=text,
                        artifacts=[artifact.id, f"opd/{text}-01234567"]) for text in HOSTILE]  # fmt: skip
    runs.write_page(rows, tmp_path / "pages" / "runs.html")
    browser_runs.open(tmp_path / "pages" / "runs.html")
    tab = browser_runs.tab
    assert browser_runs.shown() == len(HOSTILE)
    for _ in HOSTILE:
        tab.focus("#view")
        tab.keyboard.press("a")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#body details")
        tab.locator("#body summary").first.press("Enter")
        tab.wait_for_selector("#body .sample")
        assert tab.locator("#body img, #body script").count() == 0
        tab.keyboard.press("Escape")
        tab.keyboard.press("ArrowDown")
