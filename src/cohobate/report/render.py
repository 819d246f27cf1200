"""Facts and figures -> index.html and report.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cohobate.core import templates
from cohobate.core.formatting import percent
from cohobate.core.markdown import cell
from cohobate.report import figures
from cohobate.report.facts import Facts

_NAMES = {"sft": "SFT", "opd": "OPD"}
_CAPTIONS = {
    "accuracy": "Accuracy on the evaluation splits: filled marks greedy, hollow marks sampled.",
    "depth": "Accuracy against the number of operations.",
    "accuracy_steps": "Accuracy on the validation questions while training, with 95% band.",
    "accuracy_flops": "The same against all FLOPs spent so far, the teacher's included.",
    "kl_steps": "Reverse KL to the teacher on the student's own rollouts.",
    "kl_flops": "The same against the FLOPs of on-policy distillation.",
    "length": "Mean length of the rollouts.",
    "finish": "Share of rollouts that reached the token limit.",
}


def page(facts: Facts, drawn: dict[str, str]) -> str:
    """One self-contained HTML page."""
    inline = {name: Markup(figures.themed(svg)) for name, svg in drawn.items()}
    return environment().get_template("page.html.j2").render(**facts, figures=inline, captions=_CAPTIONS)


def markdown(facts: Facts, drawn: dict[str, str]) -> str:
    """The same in Markdown, with the figures as files below figures/."""
    return environment().get_template("page.md.j2").render(**facts, figures=list(drawn), captions=_CAPTIONS)


def environment(package: str = "cohobate.report") -> Environment:
    """The template environment of the pages: filters, and the templates below `package`/templates."""
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "interval": interval,
        "big": big,
        "student": lambda name: _NAMES.get(name, name),
        "shade": shade,
        "pieces": pieces,
        "cell": cell,
    }
    return templates.environment(package, filters)


def asset(name: str) -> str:
    """A style sheet or script of templates/."""
    return (files("cohobate.report") / "templates" / name).read_text(encoding="utf-8")


def interval(score: Mapping[str, Any]) -> str:
    """The 95% interval of a score: 40.1–44.2%."""
    return f"{100 * score['low']:.1f}–{100 * score['high']:.1f}%"


def pieces(text: str) -> Markup:
    """A cell that breaks between figures only: `2 G [1 G, 4 G], 2.8x [1, 8]` -> 2 G / [1 G, 4 G], / 2.8x [1, 8]."""
    parts = re.split(r" (?=≥)|(?<!≥) (?=[\d.,]+x)|(?<!x) (?=\[)", text)
    return Markup(" ").join(Markup('<span class="piece">{}</span>').format(part) for part in parts)


def big(number: float) -> str:
    """1234567 -> `1.23 M`, 12 -> `12 `: three digits and the SI prefix, to be followed by a unit."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(number) < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} Z"


def shade(gap: float, strongest: float = 4.0) -> int:
    """The shade of a token whose log-prob is `gap` nats lower under the teacher: 0 to 90 percent."""
    return round(90 * min(max(gap, 0.0), strongest) / strongest)
