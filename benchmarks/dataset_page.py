"""The dataset page in a real browser: `python -m benchmarks.dataset_page [ROWS] [PICTURES]`, default 50,000 rows.

Makes triples (four samples per question, 95 words per response), writes their page, and opens it in Chromium: size of
the file, seconds to write it, milliseconds to the first paint and until all rows are there, of a search, a sort and a
filter, and the longest frame while scrolling. PICTURES: a folder for screenshots, light, dark and as on a phone.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.core import schema
from cohobate.core.fingerprint import hash_value
from cohobate.core.parquet import write_table
from cohobate.report.dataset import write_page
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
EACH = 4
_FILL: dict[str, Any] = {"text": "-", "int32": 0, "int64": 0, "float64": 1.0, "bool": False}


def rows(count: int, rng: random.Random) -> list[dict[str, Any]]:
    """Samples of invented words with the frequencies of a language: the n-th word is 1/n as frequent as the first."""
    letters = "aeioubcdlmnprst"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(8000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    # Drawn at once: a draw of its own for each text would take minutes.
    pool = rng.choices(words, weights, k=1 << 20)

    def text(length: int) -> str:
        at = rng.randrange(len(pool) - length)
        return " ".join(pool[at : at + length])

    samples = []
    for at in range(count):
        if at % EACH == 0:
            question, gold, skill = f"{text(rng.randint(8, 30))}?", str(rng.randrange(10_000)), rng.betavariate(2, 1)
        right = rng.random() < skill
        cut = not right and rng.random() < 0.2
        length = int(rng.lognormvariate(4.3, 0.6))
        rationale, answer = text(length), gold if right else str(rng.randrange(10_000))
        verdict, reason = ("correct", None) if right else ("incorrect", "another answer")
        if cut:
            verdict, reason = "undecided", "truncated"
        samples.append(
            {
                "sample_id": hash_value([at])[:20],
                "question_id": hash_value([at // EACH]),
                "sample_index": at % EACH,
                "question": question,
                "response": rationale if cut else f"{rationale}\nAnswer: {answer}",
                "rationale": rationale,
                "answer": None if cut else answer,
                "gold_answer": gold,
                "gold": gold,
                "teacher_name": "a teacher",
                "source_name": rng.choice(["handbook", "world"]),
                "split": "train",
                "finish_reason": "length" if cut else "stop",
                "truncated": cut,
                "prompt_tokens": rng.randint(15, 60),
                "completion_tokens": int(length * 1.4) + 5,
                "cost_usd": length * 2e-6,
                "latency_ms": rng.lognormvariate(6, 0.4),
                "verdict": verdict,
                "reason": reason,
                "verifier": "exact",
                "verifier_version": 1,
            }
        )
    return samples


def artifact(root: Path, count: int) -> Artifact:
    """A triples artifact of `count` rows."""
    samples = rows(count, random.Random(0))

    def filled(declared: schema.Table, frame: pl.DataFrame) -> pl.DataFrame:
        missing = [name for name in declared.names if name not in frame.columns]
        time_ = datetime(2026, 1, 1, tzinfo=UTC)
        fill = {n: _FILL.get(declared.columns[n], time_) if n in declared.required else None for n in missing}
        return frame.with_columns(**{k: pl.lit(v) for k, v in fill.items()})

    def build(workspace: Workspace) -> Outcome:
        frame = pl.DataFrame(samples, infer_schema_length=None)
        rates = frame.group_by("question_id", maintain_order=True).agg(
            n=pl.len(), n_correct=(pl.col("verdict") == "correct").sum()
        )
        rates = rates.with_columns(pass_rate=pl.col("n_correct") / pl.col("n"))
        tables = {
            "triples": (frame, schema.TRIPLES),
            "verdicts": (frame, schema.VERDICTS),
            "aggregates": (rates, schema.AGGREGATES),
            "failures": (schema.FAILURES.polars.to_frame(), schema.FAILURES),
        }
        for name, (each, declared) in tables.items():
            write_table(filled(declared, each), declared, workspace.path / f"{name}.parquet")
        return Outcome(rows=count)

    recipe = Recipe(name="made")
    return Store(root).produce("triples", recipe=recipe, version=1, identity={"n": count}, parents=[], build=build)


def until_still(page: Any, action: str) -> float:
    """Milliseconds from an action in the page until the table shows its result."""
    milliseconds = page.evaluate(
        f"""async () => {{
          const start = performance.now(); {action};
          while (grid.getAttribute('aria-busy') === 'true') await new Promise(done => setTimeout(done, 1));
          return performance.now() - start;
        }}"""
    )
    return float(milliseconds)


def measure(path: Path, pictures: Path | None) -> None:
    from playwright.sync_api import sync_playwright

    def typed(text: str) -> str:
        return f"$('search').value = '{text}'; $('search').dispatchEvent(new Event('input'))"

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.resolve().as_uri(), wait_until="commit")
        page.wait_for_selector("#grid[aria-busy=false]", timeout=120_000)
        ready = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"first paint {paint:.0f} ms, all rows there {ready:.0f} ms")
        memory = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        print(f"memory of the page {memory:.0f} MB")
        for text in ("a", "tion", "answer: 77", "no such text", ""):
            times = [until_still(page, typed(text)) for _ in range(5)]
            shown = page.inner_text("#status")
            print(f"search {text!r:15} {sorted(times)[2]:5.0f} ms (slowest {max(times):.0f})  {shown}")
        for name, value in (("sort", "completion_tokens-"), ("sort", "rate+"), ("sort", "")):
            action = f"$('{name}').value = '{value}'; $('{name}').dispatchEvent(new Event('input'))"
            print(f"{name} {value!r:20} {until_still(page, action):5.0f} ms")
        frames = page.evaluate(
            """async () => {
              const times = []; let last = performance.now();
              for (let k = 0; k < 120; k++) {
                view.scrollTop += k < 60 ? 240 : view.scrollHeight / 61;
                if (k === 60) view.scrollTop = 0;
                await new Promise(requestAnimationFrame);
                const now = performance.now(); times.push(now - last); last = now;
              }
              return times.sort((a, b) => a - b);
            }"""
        )
        print(f"scrolling: frame of {frames[len(frames) // 2]:.1f} ms, longest {frames[-1]:.1f} ms")
        browser.close()
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 390)):
                photograph(playwright, path, pictures, name, scheme, width)


def photograph(playwright: Any, path: Path, pictures: Path, name: str, scheme: str, width: int) -> None:
    """The page's top, its table while searched, and an open row."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("#grid[aria-busy=false]", timeout=120_000)
    page.screenshot(path=pictures / f"{name}-top.png")
    page.locator("#samples").evaluate("e => e.scrollIntoView()")
    page.screenshot(path=pictures / f"{name}-table.png")
    page.fill("#search", "answer: 77")
    page.wait_for_selector("#grid[aria-busy=false]")
    page.locator(".row").nth(2).click()
    page.screenshot(path=pictures / f"{name}-row.png")
    browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=50_000)
    parser.add_argument("pictures", nargs="?", type=Path, help="folder for screenshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        triples = artifact(Path(folder), arguments.rows)
        path = Path(folder) / "page.html"
        started = time.monotonic()
        shown, every = write_page(triples, path)
        seconds, parquet = time.monotonic() - started, (triples.path / "triples.parquet").stat().st_size
        print(f"{shown:,} of {every:,} rows: page {path.stat().st_size / 1e6:.1f} MB (Parquet {parquet / 1e6:.1f} MB), "
              f"written in {seconds:.1f} s")  # fmt: skip
        measure(path, arguments.pictures)


if __name__ == "__main__":
    main()
