"""A diff of two data sets as sentences, tables and one self-contained page; new labels in the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cohobate.core.atomic_files import replacing
from cohobate.core.errors import StoreError
from cohobate.core.formatting import percent, percent_interval
from cohobate.core.sanitize import harmless, one_line
from cohobate.datasets.diff import DatasetDiff, Shared, Totals
from cohobate.datasets.gate import GateResult
from cohobate.evaluation.verifiers import judge
from cohobate.evaluation.verifiers.labels import Movement
from cohobate.report.gate import gate_rows
from cohobate.report.render import asset, environment

# Questions of the page's table, those with the largest change first; all of them are in the JSON.
_SHOWN = 500
_PRINTED = 8
# Questions of one side only that the page names.
_LISTED = 100
_TOTALS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("teacher", "teacher", str),
    ("verifier", "verifier", str),
    ("questions", "questions", "{:,}".format),
    ("samples", "samples", "{:,}".format),
    ("correct", "correct", "{:,}".format),
    ("incorrect", "incorrect", "{:,}".format),
    ("undecided", "undecided", "{:,}".format),
    ("failed requests", "failures", "{:,}".format),
    ("pass rate", "pass_rate", lambda rate: percent(None if math.isnan(rate.mean) else rate.mean)),
    ("correct share", "correct_share", percent),
    (
        "finish reasons",
        "finish_reasons",
        lambda counts: ", ".join(f"{reason} {count:,}" for reason, count in counts.items()),
    ),
    ("tokens a response: mean", "mean_completion_tokens", "{:.1f}".format),
    ("tokens a response: median", "median_completion_tokens", "{:.0f}".format),
    ("tokens a response: 90%", "p90_completion_tokens", "{:.0f}".format),
    ("characters of a rationale", "mean_rationale_characters", "{:.0f}".format),
    ("characters of an answer", "mean_answer_characters", "{:.1f}".format),
    ("prompt tokens", "prompt_tokens", "{:,}".format),
    ("response tokens", "completion_tokens", "{:,}".format),
    ("cost in USD", "cost_usd", "{:.4g}".format),
    ("cost of a correct answer in USD", "cost_of_a_correct_usd", "{:.4g}".format),
    ("latency in ms", "mean_latency_ms", "{:.0f}".format),
)


def total_lines(datasets: DatasetDiff) -> list[tuple[str, str, str]]:
    """(label, A, B) of the totals, as text."""

    def cell(totals: Totals, name: str, text: Callable[[Any], str]) -> str:
        value = getattr(totals, name)
        return "–" if value is None else text(value)

    return [(label, cell(datasets.a, name, text), cell(datasets.b, name, text)) for label, name, text in _TOTALS]


def sentences(datasets: DatasetDiff) -> list[str]:
    """The results on the shared questions."""
    shared, agreement = datasets.shared, datasets.shared.agreement
    lines = [f"{shared.questions:,} questions in both, {shared.only_in_a:,} only in A, {shared.only_in_b:,} only in B"]
    for name, means in (("pass rate", shared.pass_rate), ("correct share", shared.correct_share)):
        if means.questions:
            difference = means.difference
            lines.append(
                f"{name}: {means.a:.1%} to {means.b:.1%}, a difference of {difference.mean:+.1%} "
                f"[{difference.low:+.1%}, {difference.high:+.1%}] over {means.questions:,} questions"
            )
    lines.append(f"{shared.improved:,} questions are better in B, {shared.worsened:,} worse")
    if agreement.questions:
        lines.append(
            f"the majority answer agrees on {percent_interval(agreement.share)} of {agreement.questions:,} questions; "
            f"{agreement.changed:,} changed"
        )
        lines.append(
            f"an answer of A and one of B to the same question are the same {percent(agreement.of_samples)} of times"
        )
    lines += _amounts(shared)
    if datasets.a.verifier != datasets.b.verifier:
        lines.append("the verifiers differ, so the pass rates do not compare")
    return lines


def _amounts(shared: Shared) -> list[str]:
    """Lengths and cost of the shared questions."""
    lines = []
    for name, amounts, text in (
        ("mean tokens a response", shared.mean_completion_tokens, "{:.1f}"),
        ("mean characters of a rationale", shared.mean_rationale_characters, "{:.0f}"),
        ("cost in USD", shared.cost_usd, "{:.4g}"),
    ):
        a, b = amounts.a, amounts.b
        if a is not None and b is not None:
            change = f", {b / a - 1:+.1%}" if a else ""
            lines.append(f"{name} of the questions in both: {text.format(a)} to {text.format(b)}{change}")
    return lines


def print_diff(datasets: DatasetDiff) -> None:
    """The diff for people, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("", f"A  {escape(datasets.a.id)}", f"B  {escape(datasets.b.id)}", box=None, header_style="bold")
    for line in total_lines(datasets):
        table.add_row(*(escape(one_line(cell)) for cell in line))
    console.print(table)
    console.print("")
    for sentence in sentences(datasets):
        console.print(escape(sentence))
    changed = largest_changes(datasets, _PRINTED)
    if changed:
        table = Table("question", "gold", "A", "B", title="largest changes", title_justify="left", show_lines=True)
        for row in changed:
            cells = [f"{row[f'majority_{side}'] or '–'}  {verdicts(row, side)}" for side in ("a", "b")]
            table.add_row(*(escape(harmless(cell)) for cell in (row["question"], row["gold"] or "–", *cells)))
        console.print(table)


def print_gate(result: GateResult) -> None:
    """Each check of the gate, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    names = ("check", "verdict", "before", "now", "difference", "limit", "of")
    table = Table(*names, box=None, header_style="bold", title="the gate", title_justify="left")
    for row in gate_rows(result.checks):
        table.add_row(*(escape(row[name]) for name in names))
    console.print(table)


def print_labels(name: str, metrics: dict[str, Any], movements: Sequence[Movement]) -> None:
    """The verdicts of the labels artifact `name`, and how they differ from the old ones."""
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/]  {escape(str(metrics['verifier']))}")
    console.print(f"pass rate {percent(metrics['pass_rate'])}  {escape(_counts(metrics['verdicts']))}")
    if metrics["reasons"]:
        console.print(f"reasons   {escape(_counts(metrics['reasons']))}")
    for line in judge.sentences(metrics):
        console.print(escape(line))
    changes = [movement for movement in movements if movement.before != movement.after]
    for change in changes:
        console.print(f"changed   {change.samples:,} from {change.before} to {change.after}")
    if not changes:
        console.print("changed   no verdict")


def write_page(datasets: DatasetDiff, path: Path, gate: GateResult | None = None) -> None:
    """One self-contained HTML page. Raises StoreError when it cannot be written."""
    changes = [{**row, "kind": _kind(row)} for row in largest_changes(datasets)]
    template = environment().get_template("diff.html.j2")
    page = template.render(
        a=datasets.a,
        b=datasets.b,
        gate=gate,
        checks=gate_rows(gate.checks) if gate else [],
        rows=changes[:_SHOWN],
        changes=len(changes),
        kinds=Counter(row["kind"] for row in changes[:_SHOWN]),
        only_in={side: _only_in(datasets, side) for side in ("a", "b")},
        listed=_LISTED,
        lines=total_lines(datasets),
        sentences=sentences(datasets),
        style=Markup(asset("base.css")),
        clean=harmless,
        verdicts=verdicts,
    )
    try:
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"the page {path} cannot be written: {error.strerror}") from None


def _kind(row: dict[str, Any]) -> str:
    """The kind of change of a question."""
    if row["difference"]:
        return "worse" if row["difference"] < 0 else "better"
    return "another answer"


def _only_in(datasets: DatasetDiff, side: str) -> list[str]:
    """The questions of one side only."""
    other = "b" if side == "a" else "a"
    return datasets.questions.filter(pl.col(f"n_{other}").is_null())["question"].to_list()


def verdicts(row: Mapping[str, Any], side: str) -> str:
    """How many samples of a question (a row of `DatasetDiff.questions`) are right: `1 of 3, 1 undecided`."""
    undecided = row[f"undecided_{side}"]
    right = f"{row[f'correct_{side}']} of {row[f'decided_{side}']}"
    return f"{right}, {undecided} undecided" if undecided else right


def largest_changes(datasets: DatasetDiff, count: int | None = None) -> list[dict[str, Any]]:
    """Rows of `DatasetDiff.questions` whose correct share or answer changed (None: all), the largest changes first.

    Among equally large changes worse ones come first.
    """
    rows = [row for row in datasets.questions.iter_rows(named=True) if row["difference"] or row["answer_changed"]]
    return sorted(rows, key=lambda row: (-abs(row["difference"] or 0), row["difference"] or 0))[:count]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
