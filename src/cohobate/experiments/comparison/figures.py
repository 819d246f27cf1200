"""Figures of a comparison as SVG: accuracy by method, and validation accuracy against each cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from cohobate.core.statistics import Interval
from cohobate.experiments.comparison.facts import COSTS, Cost, Facts
from cohobate.report import figures

COST_NAMES: dict[Cost, str] = {
    "flops": "FLOPs of both models",
    "teacher_flops": "teacher FLOPs",
    "student_flops": "student FLOPs",
    "step": "gradient steps",
}
_WIDTH = 4.9  # inches; narrow, so that letters stay readable on a phone
# Colour, marker and vertical shift of each decoding.
_DECODINGS = {"greedy": ("opd", "o", 0.14), "sampled": ("sft", "s", -0.14)}


def draw(facts: Facts) -> dict[str, str]:
    """SVG by figure name (accuracy, and each cost), with the placeholder colours of `figures.svg`."""
    drawn = {"accuracy": figures.svg(lambda pyplot: _accuracy(pyplot, facts))}
    drawn |= {cost: figures.svg(partial(_panels, facts=facts, cost=cost)) for cost in COSTS}
    return {name: svg for name, svg in drawn.items() if svg}


def _accuracy(pyplot: Any, facts: Facts) -> Any:
    """Accuracy of each method: mean and interval over seeds, and each seed."""
    rows = [row for row in facts["methods"] if row["method"] in facts["from_start"]]
    if not rows:
        return None
    figure, axes = pyplot.subplots(figsize=(_WIDTH, 1.1 + 0.3 * len(rows)), layout="constrained")
    for decoding in facts["decodings"]:
        name, marker, apart = _DECODINGS[decoding]
        shift = apart if len(facts["decodings"]) > 1 else 0.0
        tone = figures.colour(name)
        for place, row in enumerate(reversed(rows)):
            seeds = [r["scores"][decoding]["accuracy"] for r in facts["runs"] if r["method"] == row["method"]]
            axes.plot(seeds, [place + shift] * len(seeds), "|", color=tone, markersize=7, alpha=0.7)
            accuracy = Interval.from_row(row["scores"][decoding])
            if accuracy.bounded:
                axes.plot([max(0.0, accuracy.low), min(1.0, accuracy.high)], [place + shift] * 2, color=tone, alpha=0.6)
            label = decoding if place == 0 else None
            axes.plot(accuracy.mean, place + shift, marker, color=tone, markersize=5, label=label)
        axes.axvline(facts["start"]["scores"][decoding]["accuracy"], color=tone, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{facts['split']} accuracy; dotted: the start")
    figures.percents(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=9)
    return figure


def _panels(pyplot: Any, facts: Facts, cost: Cost) -> Any:
    """Validation accuracy against a cost: one panel per method, its seeds in front of those of all others."""
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
    figure.supxlabel(COST_NAMES[cost], fontsize=9.5)
    figure.supylabel(f"validation accuracy, {facts['points'][0]['decoding']}", fontsize=9.5)
    return figure


def _seeds(axes: Any, facts: Facts, method: str, cost: Cost, *, chosen: bool) -> None:
    """One line per seed of a method; `chosen` lines stand out."""
    style: dict[str, Any] = {"color": figures.colour("grid"), "linewidth": 0.8, "zorder": 1}
    if chosen:
        style = {"color": figures.colour("opd"), "linewidth": 1.3, "zorder": 3}
    for seed in range(facts["seeds"]):
        points = [p for p in facts["points"] if p["method"] == method and p["seed"] == seed]
        axes.plot([p[cost] for p in points], [p["accuracy"] for p in points], **style)
