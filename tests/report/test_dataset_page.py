"""The dataset page: its counts against loops, hostile texts, and a real browser."""

import base64
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohobate.core.errors import StoreError
from cohobate.report.dataset import default_path, write_page
from cohobate.report.sample_rows import sample_rows
from cohobate.stages.curation import curate, settings
from cohobate.store.artifacts import verify
from tests.support.browser import ARGUMENTS, CHROMIUM, barriers, contrast, quiet_tab
from tests.support.command import cohobate
from tests.support.dataset_pages import HOSTILE, unpacked
from tests.support.made_triples import Row, questions, sample, triples
from tests.support.pipeline import Finished


def made_rows(count: int = 300) -> list[Row]:
    rng = random.Random(1)
    rows: list[Row] = []
    for at in range(count):
        right, cut = rng.random() < 0.5, rng.random() < 0.2
        verdict, reason = ("correct", None) if right else ("incorrect", "another answer")
        if cut:
            verdict, reason = "undecided", "truncated"
        text = f"{rng.choice(['walk', 'run', 'Swim'])} {'on ' * rng.randint(1, 40)}\nAnswer: {rng.randint(0, 9)}"
        rows.append(
            sample(
                f"question {at // 3}",
                text, index=at % 3, verdict=verdict, reason=reason, sample_id=f"s{at:04d}", truncated=cut,
                finish_reason="length" if cut else "stop", gold_answer="7", cost_usd=rng.random(), prompt_tokens=9,
            )
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    hostile = [
        sample(text, f"{text}\nAnswer: {text.splitlines()[0]}", reason=text, verdict="undecided", gold_answer=text,
               source_name=text, teacher_name=text, sample_id=f"h{at}")
        for at, text in enumerate(HOSTILE)
    ]  # fmt: skip
    artifact = triples(root, [*made_rows(), *hostile])
    write_page(artifact, root / "page.html")
    return root / "page.html"


def tile(text: str, name: str) -> str:
    found = re.search(f"<span>{name}</span><b>(.*?)</b>", text)
    assert found is not None
    return found[1]


def test_the_counts_of_the_page_are_those_of_a_loop(tmp_path: Path) -> None:
    rows = made_rows()
    artifact = triples(tmp_path, rows)
    assert write_page(artifact, tmp_path / "page.html") == (300, 300)
    text = (tmp_path / "page.html").read_text()
    verdicts = Counter(row["verdict"] for row in rows)
    for name, count in (verdicts + Counter(row["reason"] for row in rows if row["reason"])).items():
        assert re.search(rf">{name}</span></dt><dd>{count}</dd>", text)
    decided = verdicts["correct"] + verdicts["incorrect"]
    assert tile(text, "pass rate") == f"{verdicts['correct'] / decided:.1%}"
    assert tile(text, "cost") == f"${sum(row['cost_usd'] for row in rows):.2f}"
    assert tile(text, "samples") == "300"


def test_nothing_of_a_row_is_markup_and_the_page_loads_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text and "<img" not in text and "49" not in re.findall(r"\{\{(.*?)\}\}", text)
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import|https?://', text)
    scripts = re.findall(r"<script(.*?)>(.*?)</script>", text, re.DOTALL)
    programs = [body for kind, body in scripts if not kind]
    assert len(programs) == 1 and {"application/json", "application/octet-stream"} == {
        match[1] for kind, _ in scripts if (match := re.search('type="(.*?)"', kind))
    }
    mark = base64.b64encode(hashlib.sha256(programs[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{mark}'" in text and "default-src 'none'" in text
    assert "\x00" not in text and "\x1b" not in text and "\u202e" not in text


def test_a_page_of_a_larger_artifact_holds_whole_questions_and_says_so(tmp_path: Path) -> None:
    artifact = triples(tmp_path, made_rows())
    held, every = write_page(artifact, tmp_path / "page.html", limit=50)
    text = (tmp_path / "page.html").read_text()
    assert (held, every) == (48, 300) and "48 of 300 rows" in text and tile(text, "samples") == "300"
    known = json.loads(re.findall(r'id="labels">(.*?)</script>', text)[0])["labels"]
    rows = list(unpacked(re.findall(r'class="block">(.*?)</script>', text), known))
    assert set(Counter(row["question_id"] for row in rows).values()) == {3} and len(rows) == 48


@pytest.mark.serves
def test_the_artifact_stays_as_it_is(tmp_path: Path) -> None:
    artifact = triples(tmp_path, made_rows(9))
    result = cohobate("page", artifact.id, data=tmp_path)
    path = default_path(artifact)
    assert result.returncode == 0 and path.is_file() and path.parent.parent == artifact.path.parent
    assert str(path) in result.stdout and "9 of 9 rows" in result.stdout
    verify(artifact)
    assert cohobate("ls", "--json", data=tmp_path).stdout.count('"id"') == 1
    with pytest.raises(StoreError, match="lies inside"):
        write_page(artifact, artifact.path / "page.html")
    assert cohobate("show", artifact.id, "--page", str(tmp_path), data=tmp_path).returncode == 0
    assert (tmp_path / f"{artifact.path.name}.html").is_file()


def test_the_page_of_curated_triples_counts_what_stays_and_shows_the_rejects_with_their_reasons(tmp_path: Path) -> None:
    rows = made_rows()
    artifact = triples(tmp_path, rows, parents=[questions(tmp_path, [("To be tested?", "test")])])
    curated = curate(artifact, settings(ngrams=[], duplicates=False, near_duplicates=0, max_tokens=30))
    assert write_page(curated, tmp_path / "page.html") == (300, 300)
    text = (tmp_path / "page.html").read_text()
    cut = [row for row in rows if row["truncated"]]
    long = [row for row in rows if not row["truncated"] and row["completion_tokens"] > 30]
    kept = [row for row in rows if not row["truncated"] and row["completion_tokens"] <= 30]
    assert tile(text, "samples") == str(len(kept)) and f"and {len(cut) + len(long)} rejected" in text
    assert tile(text, "cost") == f"${sum(row['cost_usd'] for row in kept):.2f}"
    for reason, found in (("truncated response", cut), ("long response", long)):
        assert re.search(rf">{reason}</span></dt><dd>{len(found)}</dd>", text)
    known = json.loads(re.findall(r'id="labels">(.*?)</script>', text)[0])["labels"]
    table = {row["sample_id"]: row for row in unpacked(re.findall(r'class="block">(.*?)</script>', text), known)}
    assert {name for name, row in table.items() if row["rejected"] is None} == {row["sample_id"] for row in kept}
    assert all(table[str(row["sample_id"])]["verdict"] == row["verdict"] for row in rows)


@pytest.mark.parametrize("stage", ["questions", "opd", "evaluation"])
def test_other_samples_have_a_page_too(stage: str, finished: Finished, tmp_path: Path) -> None:
    artifact = finished.artifacts[stage]
    held, every = write_page(artifact, tmp_path / "page.html")
    assert held == every == len(sample_rows(artifact).collect())
    assert artifact.id in (tmp_path / "page.html").read_text()


class Table:
    """The page's table, as somebody uses it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab

    def shown(self) -> int:
        """How many rows fit the filters, once the search has ended."""
        self.tab.wait_for_selector("#grid[aria-busy=false]")
        return int(self.tab.inner_text("#status").split()[0].replace(",", ""))

    def search(self, text: str) -> int:
        self.tab.fill("#search", text)
        return self.shown()

    def choose(self, menu: str, label: str) -> int:
        option = self.tab.locator(f"{menu} option", has_text=label).first.get_attribute("value")
        self.tab.select_option(menu, option)
        return self.shown()

    def first(self, column: str) -> list[str]:
        """The texts of a column in sight, in order."""
        rows = self.tab.locator(".row").all()
        placed = sorted((int(row.get_attribute("aria-rowindex")), row) for row in rows)
        return [row.locator(f".{column}").inner_text() for _, row in placed]


@pytest.fixture
def table(page: Path) -> Iterator[Table]:
    with quiet_tab(1200, 844) as tab:
        tab.goto(page.resolve().as_uri())
        yield Table(tab)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_table_is_searched_filtered_and_sorted(table: Table) -> None:
    rows = made_rows()
    decided = defaultdict(list)
    for row in rows:
        decided[row["question_id"]].append(row["verdict"])
    rates = {
        name: found.count("correct") / n if (n := len(found) - found.count("undecided")) else None
        for name, found in decided.items()
    }
    tab = table.tab
    assert table.shown() == len(rows) + len(HOSTILE)
    assert tab.locator(".row").count() < 60  # only those in sight are drawn
    for wanted in ("swim ON", "Answer: 3", "question 77", "no such text", "\u202eright"):
        assert table.search(wanted) == sum(
            wanted.lower() in f"{row['question']}\n{row['response']}\n{row['answer']}".lower()
            for row in [*rows, *(sample(text, text) for text in HOSTILE)]
        )
    assert table.search("") == len(rows) + len(HOSTILE)
    assert table.choose("[data-menu=verdict]", "incorrect") == sum(row["verdict"] == "incorrect" for row in rows)
    assert table.search("run") == sum(row["verdict"] == "incorrect" and "run" in row["response"] for row in rows)
    tab.click("#reset")
    tab.fill("#low", "40")
    tab.fill("#high", "70")
    assert table.shown() == sum(0.4 <= (rates[row["question_id"]] or 0) <= 0.7 for row in rows)
    tab.click("#reset")
    assert table.choose("#sort", "longest first") == len(rows) + len(HOSTILE)
    longest = sorted((row["completion_tokens"] for row in rows), reverse=True)
    assert [int(text) for text in table.first("tokens")[:20]] == longest[:20]
    table.choose("#sort", "in their order")
    tab.evaluate("view.scrollTop = view.scrollHeight")
    tab.wait_for_timeout(100)
    assert table.first("question")[-1].startswith(HOSTILE[-1][:10])


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_a_row_opens_to_its_whole_text_whatever_it_says(table: Table) -> None:
    tab = table.tab
    assert table.shown()
    parts = ["</script>", "onerror", "{% raw", "null", "日本語", "${alert"]
    for text, part in zip(HOSTILE, parts, strict=True):
        assert table.search(part) == 1
        tab.locator(".row").first.click()
        said = tab.locator("#body section", has_text="Question").first.locator("pre").inner_text()
        written = re.sub("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2028]", lambda c: escaped(c[0]), text)
        assert said == written
        tab.click("#close")
    table.search("")
    assert table.shown() == 306
    tab.locator("#view").press("Home")
    tab.locator("#view").press("Enter")
    tab.wait_for_function("document.querySelector('#title').innerText.includes('1 of 306')")
    assert tab.locator("dialog[open]").count() == 1
    tab.keyboard.press("ArrowRight")
    assert "2 of 306" in tab.inner_text("#title") and tab.evaluate("location.hash") == "#s0001"
    tab.reload()
    table.shown()
    assert "2 of 306" in tab.inner_text("#title")  # the address names the row


def escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390)])
def test_the_page_reads_well_in_both_themes_and_on_a_phone(page: Path, scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        tab = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}).new_page()
        tab.goto(page.resolve().as_uri())
        Table(tab).shown()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width

        def colours(selector: str) -> float:
            element = tab.locator(selector).first
            paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            return contrast(element.evaluate("e => getComputedStyle(e).color"), paper)

        for selector in (".row .question", ".faint", ".row .correct", ".row .incorrect", "#search"):
            assert colours(selector) > 4.5, selector
        assert barriers(tab) == []
        tab.locator(".row").nth(1).click()
        assert tab.evaluate("dialog.scrollWidth") <= width and tab.locator("#body").is_visible()
        assert barriers(tab) == []
        browser.close()
