"""The page of an experiment: sentences, tables, figures of means with intervals, and the artifacts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from cohobate.core.markdown import table
from cohobate.core.statistics import Interval
from cohobate.report import figures
from cohobate.report.render import asset, environment
from cohobate.store.artifacts import Artifact


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; `about` says how to read them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""


@dataclass(frozen=True)
class Dot:
    """A measurement to draw: a mark of `series` at `value` on the line `line`."""

    line: str
    series: str
    value: Interval


def drawable(value: Interval) -> Interval:
    """`value`, as a point where it has no bounds."""
    return value if value.bounded else Interval(value.mean, value.mean, value.mean)


@dataclass(frozen=True)
class Page:
    """The results of an experiment. artifacts: those that its numbers come from."""

    title: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    dots: Sequence[Dot] = ()
    caption: str = ""
    artifacts: Sequence[Artifact] = field(default_factory=tuple)


def write(page: Page, folder: Path) -> None:
    """Write index.html and report.md into `folder`."""
    (folder / "index.html").write_text(html(page), encoding="utf-8")
    (folder / "report.md").write_text(markdown(page), encoding="utf-8")


def html(page: Page) -> str:
    """One self-contained page."""
    drawn = figures.dots(page.dots) if page.dots else ""
    manifests = [artifact.manifest for artifact in page.artifacts]
    template = environment().get_template("experiment.html.j2")
    return template.render(
        page=page, manifests=manifests, figure=Markup(figures.themed(drawn)), style=Markup(asset("base.css"))
    )


def markdown(page: Page) -> str:
    """Sentences and tables in Markdown."""
    lines = [f"# {page.title}", "", *(f"- {sentence}" for sentence in page.sentences)]
    for each in page.tables:
        lines += ["", f"## {each.title}", "", *([each.about, ""] if each.about else []), *table(each.header, each.rows)]
    return "\n".join(lines) + "\n"
