"""The figures, as SVG whose colours are the page's own: one drawing serves the light and the dark theme.

Colours are drawn as placeholders and replaced by CSS variables (in the page) or by the light theme's values (in the
files beside the Markdown).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cohobate.report.facts import Facts
from cohobate.store.compute_ledger import is_teacher

# name: (placeholder, value in the light theme)
_COLOURS = {
    "ink": ("#010101", "#1f2328"),
    "faint": ("#020202", "#8b949e"),
    "grid": ("#030303", "#e2e5e9"),
    "base": ("#040404", "#606a74"),
    "promoted": ("#080808", "#8250df"),
    "sft": ("#050505", "#2563c9"),
    "opd": ("#060606", "#c2410c"),
    "teacher": ("#070707", "#0f766e"),
}
_SIZE = (4.9, 3.1)  # inches; narrow, so that letters stay readable on a phone
_ORDER = ("base", "promoted", "sft", "opd", "teacher")


def draw(facts: Facts) -> dict[str, str]:
    """Each figure's SVG by its name, with placeholder colours; figures without data are left out."""
    plots: dict[str, Callable[[Any, Facts], bool]] = {
        "accuracy": _accuracy,
        "depth": _depth,
        "accuracy_steps": lambda axes, f: _curve(axes, f, "total_step", "optimizer steps, SFT then OPD"),
        "accuracy_flops": lambda axes, f: _curve(axes, f, "flops", "training FLOPs, both models"),
        "kl_steps": lambda axes, f: _trend(axes, f, "step", "reverse_kl", "OPD step", "reverse KL (nats per token)"),
        "kl_flops": lambda axes, f: _trend(axes, f, "flops", "reverse_kl", "OPD FLOPs", "reverse KL (nats per token)"),
        "length": lambda axes, f: _trend(axes, f, "step", "mean_length", "OPD step", "rollout length (tokens)"),
        "finish": lambda axes, f: _trend(axes, f, "step", "truncated", "OPD step", "share of rollouts cut off"),
    }
    drawn = {name: _svg(plot, facts) for name, plot in plots.items()}
    return {name: svg for name, svg in drawn.items() if svg}


def dots(marks: Sequence[Any]) -> str:
    """The SVG of means with their intervals (report.experiment.Dot): one row per line, one mark per series."""
    return _svg(lambda axes, facts: _dots(axes, marks), {})


def themed(svg: str) -> str:
    """`svg` with the page's CSS variables for colours."""
    for name, (placeholder, _) in _COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    return svg


def plain(svg: str) -> str:
    """`svg` as a file of its own, in the light theme's colours."""
    for placeholder, light in _COLOURS.values():
        svg = svg.replace(placeholder, light)
    return svg


def _svg(plot: Callable[[Any, Facts], bool], facts: Facts) -> str:
    def draw_one(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
        return figure if plot(axes, facts) else None

    return svg(draw_one)


def svg(make: Callable[[Any], Any]) -> str:
    """The SVG of the figure that `make(pyplot)` gives, with placeholder colours; empty where it gives None."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_style()):  # type: ignore[arg-type]
        try:
            figure = make(pyplot)
            if figure is None:
                return ""
            out = io.StringIO()
            figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        finally:
            pyplot.close("all")
    body = out.getvalue()
    text = body[body.index("<svg") :]
    # A width of its own would keep the drawing from fitting the column.
    return re.sub(r'^<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r' height="[\d.]+pt"', "", text, count=1))


def _style() -> dict[str, Any]:
    ink, faint, grid = (_COLOURS[name][0] for name in ("ink", "faint", "grid"))
    return {
        "svg.fonttype": "none",  # letters stay text: they take the page's font and can be selected
        "svg.hashsalt": "cohobate",  # the same drawing gives the same bytes
        "font.size": 10.5,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.edgecolor": faint,
        "axes.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "xtick.color": faint,
        "xtick.labelcolor": ink,
        "ytick.color": faint,
        "ytick.labelcolor": ink,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }


def colour(name: str) -> str:
    """The placeholder of a named colour."""
    return _COLOURS[name][0]


def _colour(student: str) -> str:
    return _COLOURS.get(_kind(student), _COLOURS["faint"])[0]


def _kind(student: str) -> str:
    """The name, and for one of several teachers `teacher`."""
    return "teacher" if is_teacher(student) else student


def _ordered(students: Iterable[str]) -> list[str]:
    """The known ones among the names of students and teachers, in the order of a legend."""
    different = dict.fromkeys(students)
    return [name for kind in _ORDER for name in different if _kind(name) == kind]


def percents(axis: Any) -> None:
    """Ticks of shares as integer percents."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def thousands(axis: Any) -> None:
    """Ticks of large numbers with SI prefixes instead of a power of ten in a corner."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(sep=" "))


def _accuracy(axes: Any, facts: Facts) -> bool:
    """Accuracy with its interval: one line per student, one mark per split and decoding."""
    scores = facts["scores"]
    if not scores:
        return False
    students = _ordered(row["student"] for row in scores)[::-1]
    suites = list(dict.fromkeys((row["split"], row["decoding"]) for row in scores))
    marks = dict(zip(suites, ["o", "s", "^", "D", "v", "P", "X", "*"] * 4, strict=False))
    for row in scores:
        suite = row["split"], row["decoding"]
        spread = 0.5 * (0.5 - (suites.index(suite) + 0.5) / len(suites))
        position = students.index(row["student"]) + spread
        errors = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        colour = _colour(row["student"])
        hollow = {"markerfacecolor": "none"} if suite[1] == "sampled" else {}
        axes.errorbar(
            row["accuracy"],
            position,
            xerr=errors,
            fmt=marks[suite],
            color=colour,
            markersize=5,
            capsize=2,
            **hollow,
        )
    for suite in suites:
        face = "none" if suite[1] == "sampled" else _COLOURS["faint"][0]
        label = f"{suite[0]}, {suite[1]}"
        style = {"markerfacecolor": face, "markeredgecolor": _COLOURS["faint"][0]}
        axes.plot([], [], marks[suite], color=_COLOURS["faint"][0], label=label, markersize=5, **style)
    axes.set_yticks(range(len(students)), [s.upper() if s in ("sft", "opd") else s for s in students])
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("accuracy, with 95% interval")
    axes.grid(axis="y", visible=False)
    percents(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=9, handletextpad=0.3)
    return True


def _depth(axes: Any, facts: Facts) -> bool:
    """Greedy accuracy against the number of operations, over all splits."""
    decoding = facts["scores"][0]["decoding"] if facts["scores"] else None
    depths: dict[str, dict[int, dict[str, Any]]] = {}
    for row in facts["scores"]:
        if row["decoding"] == decoding:
            by_depth = {int(depth): share for depth, share in row["by_depth"].items()}
            depths.setdefault(row["student"], {}).update(by_depth)
    every = sorted({depth for by_depth in depths.values() for depth in by_depth})
    if len(every) < 2:
        return False
    for student in _ordered(depths):
        xs = sorted(depths[student])
        rows = [depths[student][x] for x in xs]
        ys = [row["accuracy"] for row in rows]
        errors = [[r["accuracy"] - r["low"] for r in rows], [r["high"] - r["accuracy"] for r in rows]]
        axes.errorbar(
            xs,
            ys,
            yerr=errors,
            fmt="o-",
            markersize=4,
            capsize=2,
            color=_colour(student),
            label=_name(student),
        )
    _legend(axes)
    axes.set_xticks(every)
    axes.set_ylim(-0.02, 1.05)
    axes.set_xlabel("operations in the question")
    axes.set_ylabel(f"accuracy, {decoding}")
    percents(axes.yaxis)
    return True


def _curve(axes: Any, facts: Facts, x: str, label: str) -> bool:
    """Validation accuracy over both training stages, with 95% band."""
    if len(facts["points"]) < 2:
        return False
    for stage in ("sft", "opd"):
        rows = [point for point in facts["points"] if point["stage"] == stage]
        if not rows:
            continue
        xs = [row[x] for row in rows]
        axes.fill_between(
            xs,
            [r["low"] for r in rows],
            [r["high"] for r in rows],
            color=_colour(stage),
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(xs, [r["accuracy"] for r in rows], "o-", markersize=3.5, color=_colour(stage), label=_name(stage))
    _legend(axes)
    if x == "flops":
        thousands(axes.xaxis)
    axes.set_xlabel(label)
    axes.set_ylabel(f"validation accuracy, {' and '.join(dict.fromkeys(p['decoding'] for p in facts['points']))}")
    axes.set_ylim(bottom=0)
    percents(axes.yaxis)
    return True


def _trend(axes: Any, facts: Facts, x: str, y: str, xlabel: str, ylabel: str) -> bool:
    """One measurement of the OPD steps, with its running mean where there are enough steps to need one."""
    rows = [row for row in facts["trends"] if row.get(y) is not None]
    if len(rows) < 2:
        return False
    xs, ys = [row[x] for row in rows], [row[y] for row in rows]
    window = max(1, len(rows) // 15)
    axes.plot(xs, ys, color=_colour("opd"), alpha=0.3 if window > 1 else 1, linewidth=1)
    if window > 1:
        smooth = [sum(ys[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(ys))]
        axes.plot(xs, smooth, color=_colour("opd"))
    axes.set_ylim(bottom=min(0, *ys))
    if x == "flops":
        thousands(axes.xaxis)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if y == "truncated":
        percents(axes.yaxis)
    return True


def _dots(axes: Any, marks: Sequence[Any]) -> bool:
    lines = list(dict.fromkeys(dot.line for dot in reversed(marks)))
    series = list(dict.fromkeys(dot.series for dot in marks))
    axes.figure.set_size_inches(_SIZE[0], 1.2 + 0.45 * len(lines))  # room for every line
    looks = [("sft", "o"), ("opd", "s"), ("teacher", "^"), ("base", "D")]
    for at, name in enumerate(series):
        colour, mark = looks[at % len(looks)]
        chosen = [dot for dot in marks if dot.series == name]
        positions = [lines.index(dot.line) + 0.4 * (0.5 - (at + 0.5) / len(series)) for dot in chosen]
        values = [dot.value for dot in chosen]
        means = [value.mean for value in values]
        errors = [
            [value.mean - max(0.0, value.low) for value in values],
            [min(1.0, value.high) - value.mean for value in values],
        ]
        style = {"fmt": mark, "color": _colour(colour), "markersize": 5, "capsize": 2, "label": name}
        axes.errorbar(means, positions, xerr=errors, **style)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="y", visible=False)
    percents(axes.xaxis)
    # Over the labels too, which are long.
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9, handlelength=1.5, columnspacing=1.2)
    return True


def _name(student: str) -> str:
    return student.upper() if student in ("sft", "opd") else student


def _legend(axes: Any) -> None:
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        ncols=4,
        fontsize=9,
        handlelength=1.5,
        columnspacing=1.2,
    )
