"""The report shows what the manifests hold, in a form people can read."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from cohobate.core.statistics import Interval
from cohobate.report import figures, render
from cohobate.report.facts import draw_questions, headline
from cohobate.store.manifest import Score
from tests.support.browser import ARGUMENTS, CHROMIUM, barriers, contrast
from tests.support.pipeline import Finished, run_stages
from tests.support.prefect_server import small


def score(student: str, accuracy: float) -> Score:
    return Score(student, "arithmetic", "test", "greedy", 0, 100, Interval(accuracy, 0.0, 1.0))


def test_the_gap_closed_is_the_share_of_the_way_from_sft_to_the_teacher() -> None:
    shown = headline([score("sft", 0.4), score("opd", 0.7), score("teacher", 0.8)])
    assert shown is not None and shown["gap_closed"] == pytest.approx(0.75)


def test_there_is_no_gap_to_close_where_the_teacher_is_not_ahead() -> None:
    shown = headline([score("sft", 0.9), score("opd", 0.9), score("teacher", 0.8)])
    assert shown is not None and shown["gap_closed"] is None


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12 "), (1234, "1.23 k"), (999_600, "1 M"), (2.5e12, "2.5 T"), (0, "0 ")]
)
def test_large_numbers_carry_si_prefixes(number: float, text: str) -> None:
    assert render.big(number) == text


def test_shading_grows_with_the_teachers_disagreement_and_stays_off_where_it_agrees() -> None:
    shades = [render.shade(gap) for gap in (-3.0, 0.0, 1.0, 2.0, 4.0, 40.0)]
    assert shades == sorted(shades) and shades[:2] == [0, 0] and shades[-2:] == [90, 90]


def test_every_number_of_the_page_is_the_manifests(finished: Finished) -> None:
    page = (finished.artifacts["report"].path / "index.html").read_text()
    scores = finished.artifacts["evaluation"].manifest.metrics
    assert isinstance(scores, list) and len(scores) == len(re.findall("data-score=", page))
    for row in scores:
        name = f"{row['student']}/{row['split']}/{row['decoding']}"
        line = re.search(f'data-score="{name}".*?</tr>', page, re.DOTALL)
        assert line is not None
        assert f">{row['accuracy']:.1%}<" in line.group() and f">{row['n']}<" in line.group()
        assert f">{100 * row['low']:.1f}–{100 * row['high']:.1f}%<" in line.group()
    for artifact in finished.artifacts.values():
        for entry in artifact.manifest.ledger:
            name = f"{entry['stage']}/{entry['model']}/{entry['work']}/{entry['paid']}"
            line = re.search(f'data-ledger="{name}".*?</tr>', page, re.DOTALL)
            assert line is not None and f">{entry['tokens']:,}<" in line.group()


def test_accuracies_are_the_share_of_correct_rows(finished: Finished) -> None:
    answers = pl.read_parquet(finished.artifacts["evaluation"].path / "answers.parquet")
    scores = finished.artifacts["evaluation"].manifest.metrics
    assert isinstance(scores, list)
    for row in scores:
        chosen = answers.filter(
            (pl.col("student") == row["student"])
            & (pl.col("split") == row["split"])
            & (pl.col("decoding") == row["decoding"])
        )
        assert row["n"] == len(chosen)
        assert row["accuracy"] == (chosen["verdict"] == "correct").sum() / len(chosen)


def test_points_count_all_that_was_spent_before_them(finished: Finished) -> None:
    """The last point of SFT stands at the FLOPs of triples and SFT; the first of OPD begins there."""
    facts = json.loads((finished.artifacts["report"].path / "report.json").read_text())

    def spent(stage: str) -> int:
        ledger = finished.artifacts[stage].manifest.ledger
        return sum(entry["flops"] for entry in ledger if entry["work"] != "evaluation")

    by_stage = {stage: [p for p in facts["points"] if p["stage"] == stage] for stage in ("sft", "opd")}
    assert by_stage["sft"][0]["flops"] == spent("triples")
    assert by_stage["sft"][-1]["flops"] == by_stage["opd"][0]["flops"] == spent("triples") + spent("sft")
    assert by_stage["opd"][-1]["flops"] == spent("triples") + spent("sft") + spent("opd")


def test_the_page_needs_nothing_from_elsewhere(finished: Finished) -> None:
    page = (finished.artifacts["report"].path / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import|<script', page)


def test_rollouts_are_shown_token_by_token_as_they_were(finished: Finished) -> None:
    facts = json.loads((finished.artifacts["report"].path / "report.json").read_text())
    log = pl.read_parquet(finished.artifacts["opd"].path / "rollouts.parquet")
    assert facts["rollouts"]
    for shown in facts["rollouts"]:
        rows = log.filter((pl.col("step") == shown["step"]) & (pl.col("question_id") == shown["question_id"]))
        texts = {re.sub(r"<\|[^|]*\|>$", "", "".join(token["text"] for token in shown["tokens"]))}
        assert texts & set(rows["text"].to_list())


def test_figures_take_every_colour_from_the_page(finished: Finished) -> None:
    facts = json.loads((finished.artifacts["report"].path / "report.json").read_text())
    drawn = figures.draw(facts)
    assert {"accuracy", "accuracy_flops", "kl_steps", "kl_flops", "length", "finish"} <= drawn.keys()
    for svg in drawn.values():
        assert set(re.findall(r"#[0-9a-f]{6}\b", figures.themed(svg))) <= {"#ffffff", "#000000"}


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390)])
def test_the_page_reads_well_in_both_themes_and_on_a_phone(finished: Finished, scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((finished.artifacts["report"].path / "index.html").resolve().as_uri())
        assert not problems
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(page) == []
        ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
        assert contrast(ink, paper) > 7
        # The strongest colour behind a token of a rollout.
        page.evaluate("document.querySelector('h1').style.backgroundColor = 'var(--shade)'")
        assert contrast(ink, page.evaluate("getComputedStyle(document.querySelector('h1')).backgroundColor")) > 4.5
        label = page.locator("figure svg text").first
        assert contrast(label.evaluate("e => getComputedStyle(e).fill"), paper) > 4.5
        # Letters of a figure stay readable where the figure is scaled to the screen.
        assert label.evaluate("e => e.getBoundingClientRect().height") > 8
        browser.close()


def test_half_of_the_answers_shown_are_ones_on_which_the_students_differ() -> None:
    verdicts = {"a": "correct correct", "b": "correct incorrect", "c": "incorrect incorrect", "d": "incorrect correct"}
    rows = [
        {"question_id": name, "student": student, "verdict": verdict}
        for name, pair in verdicts.items()
        for student, verdict in zip(("sft", "opd"), pair.split(), strict=True)
    ]
    drawn = draw_questions(pl.DataFrame(rows), 4, seed=0)
    assert {name for name, differ in drawn.items() if differ} == {"b", "d"} and set(drawn) == set(verdicts)
    assert set(draw_questions(pl.DataFrame(rows), 40, seed=0)) == set(verdicts)


@pytest.mark.trains
def test_a_stage_that_made_no_step_has_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    made = run_stages(small("opd.steps=0"))
    page = (made["report"].path / "index.html").read_text()
    assert {row.student for row in made["evaluation"].manifest.scores} >= {"base", "sft", "opd"}
    shown = set(re.findall(r'data-score="(\w+)/', page))
    assert shown == {"base", "sft", "teacher"}
    assert 'class="tile sft"' in page
    assert 'class="tile opd"' not in page
    assert ">OPD<" not in page
    assert "On-policy distillation takes" not in page
