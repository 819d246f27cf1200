"""Samples of an artifact: blocks on a terminal, plain lines elsewhere, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cohobate.core.sanitize import harmless, one_line
from cohobate.report.sample_rows import RowFilter, failed_requests, sample_rows
from cohobate.store.artifacts import Artifact

_TEXTS = ("question", "rationale", "answer", "gold", "response")
_FACTS = (
    "rejected", "reject_detail", "split", "source", "teacher", "model", "decoding", "step", "finish_reason",
    "prompt_tokens", "completion_tokens", "pass_rate", "gap", "cost_usd", "latency_ms", "question_id",
)  # fmt: skip
_COLOURS = {"correct": "green", "incorrect": "red", "undecided": "yellow"}
# Longest text without --full.
_CHARACTERS, _LINES = 1500, 20


def print_samples(
    artifact: Artifact, chosen: RowFilter, count: int, *, full: bool = False, as_json: bool = False
) -> None:
    """The first `count` of the rows that fit. Raises SelectionError for an artifact without samples."""
    matching = sample_rows(artifact).filter(chosen.matches())
    shown = matching.head(count).collect()
    if as_json:
        print(json.dumps(shown.to_dicts(), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    for row in shown.to_dicts():
        _print_row(console, row, full)
    total = matching.select(pl.len()).collect().item()
    console.print(f"{len(shown):,} of {total:,} matching rows" if total else "no row matches", style="dim")


def print_failures(artifact: Artifact, chosen: RowFilter, count: int, *, as_json: bool = False) -> None:
    """The first `count` failed requests, of the filter's question and with its text in their message."""
    matching = failed_requests(artifact, chosen)
    shown = matching.head(count)
    if as_json:
        print(json.dumps(shown.to_dicts(), indent=2, ensure_ascii=False, default=str))
        return
    console = Console(highlight=False, soft_wrap=True)
    for row in shown.iter_rows(named=True):
        status = f" {row['status']}" if row["status"] is not None else ""
        title = f"{row['error_class']}{status}  question {row['question_id'][:12]}  sample {row['sample_index']}"
        _print_block(console, title, "red", [("message", row["message"])], f"{row['attempts']} attempts", full=False)
    console.print(
        f"{len(shown):,} of {len(matching):,} failed requests" if len(matching) else "no request failed", style="dim"
    )


def _print_row(console: Console, row: dict[str, Any], full: bool) -> None:
    verdict = row["verdict"] or ("rejected" if row["rejected"] else "")
    reason = f" ({row['reason']})" if row["reason"] else ""
    name = f"{row['sample_id'] or row['question_id']}"
    _print_block(
        console, f"{name}  {verdict}{reason}", _COLOURS.get(verdict, "bold"), list(_texts(row)), _facts(row), full
    )


def _texts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts to show; the response only where it has no rationale and no answer."""
    for name in _TEXTS:
        if row[name] is not None and not (name == "response" and (row["rationale"] or row["answer"])):
            yield name, row[name]


def _facts(row: dict[str, Any]) -> str:
    facts = ((name.replace("_", " "), row[name]) for name in _FACTS if row[name] is not None)
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts)


def _print_block(
    console: Console, title: str, colour: str, texts: list[tuple[str, str]], facts: str, full: bool
) -> None:
    if not console.is_terminal:
        # One line per field, to be searched, and compared between runs.
        print("\n".join([f"# {one_line(title)}", *(f"{name}: {_flat(text)}" for name, text in texts)]))
        print(f"facts: {one_line(facts)}\n")
        return
    console.print(Rule(Text(one_line(title), style=colour), align="left", style="dim"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in texts:
        grid.add_row(name, Text(_clipped(text, full), style=colour if name == "answer" else ""))
    grid.add_row("", Text(one_line(facts), style="dim"))
    console.print(grid, soft_wrap=False)


def _flat(text: str) -> str:
    return harmless(text.replace("\\", "\\\\")).replace("\n", "\\n")


def _clipped(text: str, full: bool) -> str:
    shown = harmless(text).strip("\n")
    if full:
        return shown
    short = "\n".join(shown[:_CHARACTERS].split("\n")[:_LINES])
    return shown if len(short) == len(shown) else f"{short} … {len(shown) - len(short):,} more characters (--full)"
