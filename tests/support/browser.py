"""Chromium, what axe finds on a page, and the contrast of the colours that a page shows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")


ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@contextmanager
def quiet_tab(width: int, height: int) -> Iterator[Any]:
    """A tab for pages from the disk; fails where one says anything to the console, or asks for anything else."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": width, "height": height})
        problems: list[str] = []
        for event in ("console", "pageerror", "dialog"):
            tab.on(event, lambda found: problems.append(str(found)))
        tab.on("request", lambda request: problems.append(request.url) if "file:" not in request.url else None)
        yield tab
        assert not problems
        browser.close()


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two CSS colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@cache
def _axe() -> str:
    """axe-core's script, out of the package that brings it."""
    package = find_spec("axe_playwright_python")
    assert package is not None and package.origin is not None
    return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def barriers(page: Any) -> list[str]:
    """What axe finds on a page that shuts people out: how bad it is, its rule, and the first element."""
    page.evaluate(_axe())
    found = page.evaluate("axe.run(document)")["violations"]
    return [f"{each['impact']} {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
