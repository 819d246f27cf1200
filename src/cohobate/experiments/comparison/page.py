"""A comparison as tables for the terminal, as Markdown, and as one self-contained HTML page with figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from cohobate.core.atomic_files import read_json
from cohobate.core.formatting import percent_interval
from cohobate.core.markdown import table as markdown_table
from cohobate.core.statistics import Interval
from cohobate.experiments.comparison.facts import (
    COSTS,
    Cost,
    Facts,
    MethodFacts,
    Spread,
    TargetFacts,
)
from cohobate.experiments.comparison.figures import COST_NAMES
from cohobate.report import figures
from cohobate.report.render import asset, big, environment, interval
from cohobate.store.artifacts import Artifact

# Tables that are folded on the page, and are not printed.
DETAILS = ("reached-teacher_flops", "reached-student_flops")
_WIDE = 200
STUDENTS = {"base": "before training", "start": "the start, after SFT"}
_ABOUT_COSTS = (
    "Compute after the start, measured tokens by the ledger's formulae, evaluation left out. Accuracy on {n} "
    "validation questions ({decoding}), read between evaluation points where its line first reaches the target; "
    "geometric mean over seeds with 95% interval, and how many times the reference's that is. A method of "
    "which not all seeds reached the target has paid at least the amount after the ≥."
)


@dataclass(frozen=True)
class Table:
    """Rows of text. keys: names of the rows, `data-row` on the page."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    keys: list[str]
    about: str = ""


def tables(facts: Facts) -> list[Table]:
    """All tables that have rows, the most important first."""
    every = [
        _accuracy(facts),
        _distances(facts),
        *(_reached(facts, cost) for cost in COSTS),
        _from_base(facts),
        _differences(facts),
    ]
    return [table for table in every if table.rows]


def print_comparison(comparison: Artifact, *, as_json: bool = False) -> None:
    """The tables of a comparison, or all that is in them as JSON, on standard output."""
    facts: Facts = read_json(comparison.path / "comparison.json")
    if as_json:
        print(json.dumps({"id": comparison.id, "path": str(comparison.path), **facts}, indent=2))
        return
    # A file has no width of its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(escape(start_sentence(facts)), soft_wrap=True)
    for table in (table for table in tables(facts) if table.name not in DETAILS):
        console.print("")
        printed = Printed(*table.header, title=table.title, title_justify="left", box=None, header_style="bold")
        for row in table.rows:
            printed.add_row(*map(escape, row))
        console.print(printed)
    console.print(f"\npage: {comparison.path / 'index.html'}", soft_wrap=True)


def markdown(facts: Facts) -> str:
    """The tables in Markdown."""
    lines = [
        f"# {facts['title']}",
        "",
        *([facts["description"], ""] if facts["description"] else []),
        start_sentence(facts),
    ]
    for table in tables(facts):
        lines += ["", f"## {table.title}", "", *([table.about, ""] if table.about else [])]
        lines += markdown_table(table.header, table.rows)
    return "\n".join(lines) + "\n"


def html(facts: Facts, drawn: dict[str, str]) -> str:
    """One self-contained HTML page with the figures `drawn`, SVG by name."""
    inline = {name: Markup(figures.themed(svg)) for name, svg in drawn.items()}
    template = environment("cohobate.experiments.comparison").get_template("comparison.html.j2")
    return template.render(
        **facts,
        tables=tables(facts),
        start_sentence=start_sentence(facts),
        figures=inline,
        costs=COST_NAMES,
        details=DETAILS,
        style=Markup(asset("base.css")),
    )


def start_sentence(facts: Facts) -> str:
    """Scores of the start, and of the teacher, in a sentence."""
    models = []
    for name, scores in (("The start", facts["start"]["scores"]), ("the teacher", facts["teacher"])):
        parts = [f"{score['accuracy']:.1%} [{interval(score)}] {decoding}" for decoding, score in scores.items()]
        models += [f"{name}: {', '.join(parts)}"] if parts else []
    n = next(iter(facts["start"]["scores"].values()))["n"]
    return f"{'; '.join(models)} on {n:,} {facts['split']} questions (Wilson intervals)."


def _accuracy(facts: Facts) -> Table:
    rows = [row for row in facts["methods"] if row["method"] in facts["from_start"]]
    header = ["method", "seeds"]
    for decoding in facts["decodings"]:
        header += [decoding, "gain"]
    header += ["teacher FLOPs", "student FLOPs", "both", "steps"]
    about = (
        "Accuracy after all steps: mean over seeds with 95% interval (Student's t), or of the questions "
        "(Wilson) where all seeds have the same. Gain over the start; in brackets the interval over seeds, and whether "
        "that and the interval paired by question both leave zero out. Compute after the start."
    )
    title = f"Accuracy on {rows[0]['n']:,} {facts['split']} questions" if rows else ""
    return Table("accuracy", title, header, [_method(facts, row) for row in rows], [r["method"] for r in rows], about)


def _distances(facts: Facts) -> Table:
    rows = facts["distances"]
    header = ["student", "seeds", "reverse KL, nats per token", "agreement", f"greedy, {facts['split']}"]
    cells = [
        [
            STUDENTS.get(row["model"], row["model"]),
            str(row["seeds"] or "–"),
            nats(Interval.from_row(row["reverse_kl"])),
            _share(row["agreement"]),
            _share(row["accuracy"]) if row["accuracy"] else "–",
        ]
        for row in rows
    ]
    n = rows[0]["n"] if rows else 0
    about = (
        f"At each token of the student's own answers to {n:,} {facts['split']} questions, sampled at temperature 1: "
        "its reverse KL to the teacher, and how often the likeliest token of both is the same. Intervals over seeds "
        "(Student's t), without seeds over answers."
    )
    return Table("distance", "Distance to the teacher", header, cells, [row["model"] for row in rows], about)


def nats(value: Interval) -> str:
    """`0.83 [0.71, 0.95]`."""
    return f"{value.mean:.2f}" + _bounds(value, "{:.2f}".format)


def _from_base(facts: Facts) -> Table:
    rows = [row for row in facts["methods"] if row["method"] in facts["from_base"]]
    header = ["method", "goes on from", "seeds", *facts["decodings"], "teacher FLOPs", "student FLOPs", "both", "steps"]
    cells = [
        [
            row["method"],
            row["start"],
            str(row["seeds"]),
            *(_share(row["scores"][decoding]) for decoding in facts["decodings"]),
            *_spent(row),
        ]
        for row in rows
    ]
    about = "Compute and steps from the base student on."
    title = "From the base student, one student per seed"
    return Table("base", title, header, cells, [row["method"] for row in rows], about)


def _differences(facts: Facts) -> Table:
    rows = facts["differences"]
    header = ["method", "less", "seeds", *facts["decodings"]]
    cells = [
        [row["method"], row["against"], str(row["seeds"]), *(_points(row[d]) for d in facts["decodings"])]
        for row in rows
    ]
    about = f"Differences in accuracy on {facts['split']}, seed by seed, in percentage points with 95% interval."
    return Table("differences", "Side by side", header, cells, [row["method"] for row in rows], about)


def _reached(facts: Facts, cost: Cost) -> Table:
    of_cost = [row for row in facts["reached"] if row["cost"] == cost]
    targets = list(dict.fromkeys(row["target"] for row in of_cost))
    cells = {(row["method"], row["target"]): _cell(row) for row in of_cost}
    methods = list(dict.fromkeys(row["method"] for row in of_cost))
    header = ["method", *(f"to {target:.0%}" for target in targets)]
    rows = [[name, *(cells[name, target] for target in targets)] for name in methods]
    about = _ABOUT_COSTS.format(**facts["points"][0]) if cost == "flops" else ""
    title = f"Cost of an accuracy: {COST_NAMES[cost]}, as multiples of {facts['reference']}"
    return Table(f"reached-{cost}", title, header, rows, methods, about)


def _cell(row: TargetFacts) -> str:
    """`1.2 T [1.0, 1.4], 0.8x [0.6, 1.1]`, or how many seeds reached the target and how much all spent."""
    amount = _count if row["cost"] == "step" else _short
    paid, ratio = row["paid"], row["ratio"]
    if paid is None:
        cell = f"{row['reached']} of {row['seeds']} seeds in {amount(row['spent'])}"
        return cell + (f", ≥ {_times(ratio['mean'])}x" if ratio else "")
    cell = amount(paid["mean"]) + _bounds(Interval.from_row(paid), amount)
    return cell + (f", {_times(ratio['mean'])}x{_bounds(Interval.from_row(ratio), _times)}" if ratio else "")


def _bounds(interval: Interval, number: Callable[[float], str]) -> str:
    """` [1.0, 1.4]`, empty without bounds."""
    return f" [{number(interval.low)}, {number(interval.high)}]" if interval.bounded else ""


def _times(ratio: float) -> str:
    """Two significant digits: `0.37`, `2.7`, `170`."""
    return f"{ratio:.2g}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}"


def _method(facts: Facts, row: MethodFacts) -> list[str]:
    cells = [row["method"], str(row["seeds"])]
    for decoding in facts["decodings"]:
        gain = row["gain"][decoding]
        cells += [_share(row["scores"][decoding]), f"{_points(gain)} {gain['verdict']}"]
    return [*cells, *_spent(row)]


def _spent(row: MethodFacts) -> list[str]:
    steps = _count(row["step"]) + (f", {row['alarms']} stopped by alarm" if row["alarms"] else "")
    return [_short(row["teacher_flops"]), _short(row["student_flops"]), _short(row["flops"]), steps]


def _share(row: Spread) -> str:
    return percent_interval(Interval.from_row(row))


def _points(row: Spread) -> str:
    """`+3.1 [+1.0, +5.2]`, in percentage points."""
    difference = Interval.from_row(row).map(lambda share: 100 * share)
    return f"{difference.mean:+.1f}{_bounds(difference, '{:+.1f}'.format)}"


def _short(number: float) -> str:
    return big(number).strip()


def _count(number: float) -> str:
    return f"{number:,.0f}"
