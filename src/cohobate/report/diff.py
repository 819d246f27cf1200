"""What `cohobate diff` and `cohobate verify` print, and the self-contained page of a comparison."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cohobate.core.atomic_files import replacing
from cohobate.core.errors import StoreError
from cohobate.core.formatting import percent
from cohobate.core.sanitize import harmless, one_line
from cohobate.evaluation.verifiers import judge
from cohobate.report.render import asset, environment

# Questions of the page's table, those with the largest change first; all of them are in the JSON.
_SHOWN = 500
_PRINTED = 8
# Questions of one side only that the page names.
_LISTED = 100
_LINES = (
    ("teacher", "teacher", str),
    ("verifier", "verifier", str),
    ("questions", "questions", "{:,}".format),
    ("samples", "samples", "{:,}".format),
    ("correct", "correct", "{:,}".format),
    ("incorrect", "incorrect", "{:,}".format),
    ("undecided", "undecided", "{:,}".format),
    ("pass rate", "pass_rate", percent),
    ("correct share", "correct_share", percent),
    ("finish reasons", "finish_reasons", lambda found: ", ".join(f"{k} {v:,}" for k, v in found.items())),
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


def lines(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, A, B) of the totals, as text."""
    return [
        (label, *("–" if found[side][key] is None else text(found[side][key]) for side in ("a", "b")))  # type: ignore[misc]
        for label, key, text in _LINES
    ]


def sentences(found: dict[str, Any]) -> list[str]:
    """What the shared questions say."""
    shared, agreement = found["shared"], found["shared"]["agreement"]
    said = [
        f"{shared['questions']:,} questions in both, {shared['only_in_a']:,} only in A, "
        f"{shared['only_in_b']:,} only in B"
    ]
    for name in ("pass_rate", "correct_share"):
        row = shared[name]
        if row["questions"]:
            said.append(
                f"{name.replace('_', ' ')}: {row['a']:.1%} to {row['b']:.1%}, a difference of {row['difference']:+.1%} "
                f"[{row['low']:+.1%}, {row['high']:+.1%}] over {row['questions']:,} questions"
            )
    said.append(f"{shared['improved']:,} questions are better in B, {shared['worsened']:,} worse")
    if agreement["questions"]:
        said.append(
            f"the majority answer agrees on {agreement['share']:.1%} [{agreement['low']:.1%}, {agreement['high']:.1%}] "
            f"of {agreement['questions']:,} questions; {agreement['changed']:,} changed"
        )
        said.append(
            f"an answer of A and one of B to the same question are the same {agreement['of_samples']:.1%} of times"
        )
    said += _amounts(shared)
    if found["a"]["verifier"] != found["b"]["verifier"]:
        said.append("the verifiers differ, so the pass rates do not compare")
    return said


def _amounts(shared: dict[str, Any]) -> list[str]:
    """Lengths and cost of the shared questions."""
    said = []
    for name, key, text in (
        ("mean tokens a response", "mean_completion_tokens", "{:.1f}"),
        ("mean characters of a rationale", "mean_rationale_characters", "{:.0f}"),
        ("cost in USD", "cost_usd", "{:.4g}"),
    ):
        a, b = shared[key]["a"], shared[key]["b"]
        if a is not None and b is not None:
            change = f", {b / a - 1:+.1%}" if a else ""
            said.append(f"{name} of the questions in both: {text.format(a)} to {text.format(b)}{change}")
    return said


def print_diff(found: dict[str, Any]) -> None:
    """The comparison for people, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("", f"A  {escape(found['a']['id'])}", f"B  {escape(found['b']['id'])}", box=None, header_style="bold")
    for line in lines(found):
        table.add_row(*(escape(one_line(cell)) for cell in line))
    console.print(table)
    console.print("")
    for sentence in sentences(found):
        console.print(escape(sentence))
    changed = largest_changes(found, _PRINTED)
    if changed:
        table = Table("question", "gold", "A", "B", title="largest changes", title_justify="left", show_lines=True)
        for row in changed:
            cells = [
                f"{row[f'majority_{s}'] or '–'}  {row[f'correct_{s}']} of {row[f'decided_{s}']}" for s in ("a", "b")
            ]
            table.add_row(*(escape(harmless(cell)) for cell in (row["question"], row["gold"] or "–", *cells)))
        console.print(table)


def print_labels(name: str, metrics: dict[str, Any], moved: list[dict[str, Any]]) -> None:
    """New verdicts, and how they differ from the old ones."""
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/]  {escape(str(metrics['verifier']))}")
    console.print(f"pass rate {percent(metrics['pass_rate'])}  {escape(_listed(metrics['verdicts']))}")
    if metrics["reasons"]:
        console.print(f"reasons   {escape(_listed(metrics['reasons']))}")
    for line in judge.sentences(metrics):
        console.print(escape(line))
    changed = [row for row in moved if row["before"] != row["after"]]
    for row in changed:
        console.print(f"changed   {row['samples']:,} from {row['before']} to {row['after']}")
    if not changed:
        console.print("changed   no verdict")


def write_page(found: dict[str, Any], path: Path) -> None:
    """One self-contained HTML page. Raises StoreError when it cannot be written."""
    changes = [{**row, "kind": _kind(row)} for row in largest_changes(found, len(found["questions"]))]
    template = environment().get_template("diff.html.j2")
    page = template.render(
        **found,
        rows=changes[:_SHOWN],
        changes=len(changes),
        kinds=Counter(row["kind"] for row in changes[:_SHOWN]),
        alone={side: _alone(found, side) for side in ("a", "b")},
        listed=_LISTED,
        lines=lines(found),
        sentences=sentences(found),
        style=Markup(asset("base.css")),
        clean=harmless,
    )
    try:
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"the page {path} cannot be written: {error.strerror}") from None


def _kind(row: dict[str, Any]) -> str:
    """What changed of a question."""
    if row["difference"]:
        return "worse" if row["difference"] < 0 else "better"
    return "another answer"


def _alone(found: dict[str, Any], side: str) -> list[dict[str, Any]]:
    """Questions of one side only."""
    other = "b" if side == "a" else "a"
    return [row for row in found["questions"] if row[f"n_{other}"] is None]


def largest_changes(found: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Shared questions whose pass rate or answer changed: worse ones first among equally large changes."""
    rows = [row for row in found["questions"] if row["difference"] or row["answer_changed"]]
    return sorted(rows, key=lambda row: (-abs(row["difference"] or 0), row["difference"] or 0))[:count]


def _listed(counted: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counted.items())
