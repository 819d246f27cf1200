"""A comparison of methods as tables for the terminal, as Markdown and as one self-contained page with figures."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from cohobate.core.atomic_files import read_json
from cohobate.core.statistics import Interval
from cohobate.report import figures
from cohobate.report.experiment import spread
from cohobate.report.render import asset, big, environment, interval
from cohobate.store.artifacts import Artifact

Facts = dict[str, Any]
COSTS = {
    "flops": "FLOPs of both models",
    "teacher_flops": "teacher FLOPs",
    "student_flops": "student FLOPs",
    "step": "gradient steps",
}
# Tables that stand folded on the page, and are not printed.
DETAILS = ("reached-teacher_flops", "reached-student_flops")
_WIDE = 200
_ABOUT_COSTS = (
    "Compute after the start, measured tokens by the ledger's formulae, evaluation left out. Accuracy on {n} "
    "validation questions ({decoding}), read between evaluation points where its line first comes up to the target; "
    "geometric mean over seeds with 95% interval, and how many times the reference's that is. A method that not all "
    "seeds brought there has paid at least what stands after the ≥."
)


@dataclass(frozen=True)
class Table:
    """Rows of text; `keys` name the rows for whoever looks for one."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    keys: list[str]
    about: str = ""


def tables(facts: Facts) -> list[Table]:
    """The tables with something in them, the most important first."""
    every = [_accuracy(facts), *(_reached(facts, cost) for cost in COSTS), _from_base(facts), _differences(facts)]
    return [table for table in every if table.rows]


def show(facts: Facts, page: str) -> None:
    """For people, on standard output: what matters most; `page` is where the rest stands."""
    # A file has no width of its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(escape(_start(facts)), soft_wrap=True)
    for table in (table for table in tables(facts) if table.name not in DETAILS):
        console.print("")
        printed = Printed(*table.header, title=table.title, title_justify="left", box=None, header_style="bold")
        for row in table.rows:
            printed.add_row(*map(escape, row))
        console.print(printed)
    console.print(f"\npage: {page}", soft_wrap=True)


def markdown(facts: Facts) -> str:
    """The tables in Markdown."""
    lines = [f"# {facts['title']}", "", *([facts["description"], ""] if facts["description"] else []), _start(facts)]
    for table in tables(facts):
        lines += ["", f"## {table.title}", "", *([table.about, ""] if table.about else [])]
        lines += [_line(table.header), _line(["---"] * len(table.header)), *map(_line, table.rows)]
    return "\n".join(lines) + "\n"


def page(facts: Facts, drawn: dict[str, str]) -> str:
    """One self-contained HTML page."""
    inline = {name: Markup(figures.themed(svg)) for name, svg in drawn.items()}
    return (
        environment()
        .get_template("methods.html.j2")
        .render(
            **facts,
            tables=tables(facts),
            begun=_start(facts),
            figures=inline,
            costs=COSTS,
            details=DETAILS,
            style=Markup(asset("base.css")),
        )
    )


def _start(facts: Facts) -> str:
    """What all methods go on from, and what they go towards."""
    said = []
    for name, scores in (("The start", facts["start"]["scores"]), ("the teacher", facts["teacher"])):
        parts = [f"{score['accuracy']:.1%} [{interval(score)}] {decoding}" for decoding, score in scores.items()]
        said += [f"{name}: {', '.join(parts)}"] if parts else []
    n = next(iter(facts["start"]["scores"].values()))["n"]
    return f"{'; '.join(said)} on {n:,} {facts['split']} questions (Wilson intervals)."


def _accuracy(facts: Facts) -> Table:
    rows = [row for row in facts["methods"] if row["method"] in facts["from_start"]]
    header = ["method", "seeds"]
    for decoding in facts["decodings"]:
        header += [decoding, "gain"]
    header += ["teacher FLOPs", "student FLOPs", "both", "steps"]
    about = (
        "Accuracy after all steps: mean over seeds with 95% interval (Student's t). Gain over the start; in brackets "
        "the interval over seeds, and whether that and the interval paired by question both leave zero out. Compute "
        "after the start."
    )
    title = f"Accuracy on {rows[0]['n']:,} {facts['split']} questions" if rows else ""
    return Table("accuracy", title, header, [_method(facts, row) for row in rows], [r["method"] for r in rows], about)


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
    about = "Compute and steps from the untaught student on."
    title = "From the untaught student, each seed its own"
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


def _reached(facts: Facts, cost: str) -> Table:
    found = [row for row in facts["reached"] if row["cost"] == cost]
    targets = list(dict.fromkeys(row["target"] for row in found))
    cells = {(row["method"], row["target"]): _cell(row) for row in found}
    methods = list(dict.fromkeys(row["method"] for row in found))
    header = ["method", *(f"to {target:.0%}" for target in targets)]
    rows = [[name, *(cells[name, target] for target in targets)] for name in methods]
    about = _ABOUT_COSTS.format(**facts["points"][0]) if cost == "flops" else ""
    title = f"What an accuracy costs: {COSTS[cost]}, as multiples of {facts['reference']}"
    return Table(f"reached-{cost}", title, header, rows, methods, about)


def _cell(row: Facts) -> str:
    """`1.2 T [1.0, 1.4], 0.8x [0.6, 1.1]`, or how many seeds never came there and what they spent."""
    amount = _whole if row["cost"] == "step" else _short
    if row["paid"] is None:
        said = f"{row['reached']} of {row['seeds']} seeds in {amount(row['spent'])}"
        return said + (f", ≥ {_times(row['ratio']['mean'])}x" if row["ratio"] else "")
    said = amount(row["paid"]["mean"])
    if row["paid"]["low"] is not None:
        said += f" [{amount(row['paid']['low'])}, {amount(row['paid']['high'])}]"
    if row["ratio"]:
        said += f", {_times(row['ratio']['mean'])}x"
        if row["ratio"]["low"] is not None:
            said += f" [{_times(row['ratio']['low'])}, {_times(row['ratio']['high'])}]"
    return said


def _times(ratio: float) -> str:
    """Two significant digits: `0.37`, `2.7`, `170`."""
    return f"{ratio:.2g}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}"


def _method(facts: Facts, row: Facts) -> list[str]:
    cells = [row["method"], str(row["seeds"])]
    for decoding in facts["decodings"]:
        gain = row["gain"][decoding]
        cells += [_share(row["scores"][decoding]), f"{_points(gain)} {gain['verdict']}"]
    return [*cells, *_spent(row)]


def _spent(row: Facts) -> list[str]:
    steps = _whole(row["step"]) + (f", {row['alarms']} stopped by alarm" if row["alarms"] else "")
    return [_short(row["teacher_flops"]), _short(row["student_flops"]), _short(row["flops"]), steps]


def _share(row: Facts) -> str:
    return spread(Interval.from_row(row))


def _points(row: Facts) -> str:
    """`+3.1 [+1.0, +5.2]`, in percentage points."""
    difference = Interval.from_row(row).map(lambda share: 100 * share)
    bounds = f" [{difference.low:+.1f}, {difference.high:+.1f}]" if difference.bounded else ""
    return f"{difference.mean:+.1f}{bounds}"


def _short(number: float) -> str:
    return big(number).strip()


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def draw(facts: Facts) -> dict[str, str]:
    """Each figure's SVG by its name, with placeholder colours."""
    drawn = {"accuracy": figures.svg(lambda pyplot: _dots(pyplot, facts))}
    drawn |= {cost: figures.svg(partial(_panels, facts=facts, cost=cost)) for cost in COSTS}
    return {name: svg for name, svg in drawn.items() if svg}


def _dots(pyplot: Any, facts: Facts) -> Any:
    """Accuracy of each method: mean and interval over seeds, and every seed."""
    rows = [row for row in facts["methods"] if row["method"] in facts["from_start"]]
    if not rows:
        return None
    figure, axes = pyplot.subplots(figsize=(6.6, 0.9 + 0.3 * len(rows)), layout="constrained")
    looks = {"greedy": ("opd", "o", 0.14), "sampled": ("sft", "s", -0.14)}
    for decoding in facts["decodings"]:
        name, mark, shift = looks[decoding]
        tone = figures.colour(name)
        for place, row in enumerate(reversed(rows)):
            seeds = [r["scores"][decoding]["accuracy"] for r in facts["runs"] if r["method"] == row["method"]]
            axes.plot(seeds, [place + shift] * len(seeds), "|", color=tone, markersize=7, alpha=0.7)
            accuracy = Interval.from_row(row["scores"][decoding])
            if accuracy.bounded:
                axes.plot([max(0.0, accuracy.low), min(1.0, accuracy.high)], [place + shift] * 2, color=tone, alpha=0.6)
            label = decoding if place == 0 else None
            axes.plot(accuracy.mean, place + shift, mark, color=tone, markersize=5, label=label)
        axes.axvline(facts["start"]["scores"][decoding]["accuracy"], color=tone, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{facts['split']} accuracy; dotted: the start")
    figures.percents(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=9)
    return figure


def _panels(pyplot: Any, facts: Facts, cost: str) -> Any:
    """Validation accuracy against a cost: a panel a method, its seeds before those of all others."""
    methods = facts["from_start"]
    if not methods:
        return None
    columns = min(4, len(methods))
    count = -(-len(methods) // columns)
    size = (2.0 * columns + 0.4, 1.55 * count + 0.4)
    figure, grid = pyplot.subplots(
        count, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for place, axes in enumerate(grid.flat):
        if place >= len(methods):
            axes.set_visible(False)
            continue
        for other in methods:
            _seeds(axes, facts, other, cost, chosen=other == methods[place])
        axes.set_title(methods[place], fontsize=9.5)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=3)
        figures.percents(axes.yaxis)
        if cost != "step":
            figures.thousands(axes.xaxis)
    figure.supxlabel(COSTS[cost], fontsize=9.5)
    figure.supylabel(f"validation accuracy, {facts['points'][0]['decoding']}", fontsize=9.5)
    return figure


def _seeds(axes: Any, facts: Facts, method: str, cost: str, *, chosen: bool) -> None:
    style = {"color": figures.colour("opd"), "linewidth": 1.3, "zorder": 3} if chosen else {}
    style = style or {"color": figures.colour("grid"), "linewidth": 0.8, "zorder": 1}
    for seed in range(facts["seeds"]):
        points = [p for p in facts["points"] if p["method"] == method and p["seed"] == seed]
        axes.plot([p[cost] for p in points], [p["accuracy"] for p in points], **style)


def print_comparison(comparison: Artifact, *, as_json: bool = False) -> None:
    """The tables of a comparison, or all that is in them as JSON."""
    facts = read_json(comparison.path / "comparison.json")
    if as_json:
        print(json.dumps({"id": comparison.id, "path": str(comparison.path), **facts}, indent=2))
    else:
        show(facts, str(comparison.path / "index.html"))
