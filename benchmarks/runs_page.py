"""The page of all runs in a real browser: `python -m benchmarks.runs_page [RUNS]`, default 10,000.

Milliseconds from an act (sort, filter, search, scroll, a key) until the browser has drawn what it changed: the median
and the largest of several turns, and the size of the page.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from cohobate.report import runs
from tests.support.browser import quiet_tab
from tests.support.runs_page import RUNS_ACTS, made_rows

_TURNS = 7


def took(tab: Any, act: str) -> float:
    """Milliseconds of `act`, a script, until the next frame is drawn."""
    script = f"""async () => {{
        const began = performance.now();
        {act};
        await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        return performance.now() - began;
    }}"""
    return float(tab.evaluate(script))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=10_000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, quiet_tab(1600, 900) as tab:
        page = Path(folder) / "runs.html"
        runs.write_page(made_rows(count), page)
        print(f"{count:,} runs, {page.stat().st_size / 1e6:.1f} MB")
        tab.goto(page.as_uri())
        tab.wait_for_selector("#grid[aria-busy=false]")
        turns = [{name: took(tab, act) for name, act in RUNS_ACTS.items()} for _ in range(_TURNS)]
        for name in RUNS_ACTS:
            each = [turn[name] for turn in turns]
            print(f"{name:8} median {statistics.median(each):5.1f} ms, largest {max(each):5.1f} ms")


if __name__ == "__main__":
    main()
