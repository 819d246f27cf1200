"""Pairs of answers with the right verdict by mathematics, as a table, and each verifier's verdicts on them."""

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy

from tests.support.tables import figures, judged, read_table

PAIRS = read_table("verdicts")
PROVED = [row for row in PAIRS if "proof" in row]
SYMBOLS = {name: sympy.Symbol(name) for name in ("x", "y", "a", "b", "c", "n", "k", "C")}
NAMES = {**{name: getattr(sympy, name) for name in dir(sympy)}, **SYMBOLS, "int": int, "abs": abs}


def test_the_table_is_as_large_as_it_says() -> None:
    kinds = Counter((row["verifier"], row["verdict"]) for row in PAIRS)
    assert len(PAIRS) >= 800 and len(PROVED) >= 450
    assert all(kinds["math", label] >= 200 and kinds["numeric", label] >= 35 for label in ("correct", "incorrect"))
    assert len({(row["verifier"], row["answer"], row["gold"]) for row in PAIRS}) == len(PAIRS)
    # Where a verdict could be avoided is the smaller part.
    assert sum(row.get("undecided_ok", False) for row in PAIRS) < len(PAIRS) / 2


@pytest.mark.parametrize("row", PROVED, ids=lambda row: row["id"])
def test_the_right_verdict_is_that_of_mathematics(row: dict[str, Any]) -> None:
    equal = bool(eval(row["proof"], dict(NAMES)))
    assert equal == (row["verdict"] == "correct")


@pytest.mark.serves
def test_no_wrong_answer_is_called_correct() -> None:
    assert [
        (row["answer"], row["gold"]) for row, v in judged("verdicts") if v.label == "correct" != row["verdict"]
    ] == []


@pytest.mark.serves
def test_at_most_one_right_answer_in_fifty_is_called_incorrect() -> None:
    wrong = [(row["answer"], row["gold"]) for row, v in judged("verdicts") if v.label == "incorrect" != row["verdict"]]
    assert len(wrong) <= len(PAIRS) / 50, wrong


@pytest.mark.serves
def test_what_can_be_decided_is_decided() -> None:
    undecided = [
        row for row, verdict in judged("verdicts") if verdict.label == "undecided" and not row.get("undecided_ok")
    ]
    assert [(row["answer"], row["gold"]) for row in undecided] == []
    # And of the others at least a third.
    spared = [verdict for row, verdict in judged("verdicts") if row.get("undecided_ok")]
    assert Fraction(sum(verdict.label != "undecided" for verdict in spared), len(spared)) > Fraction(1, 3)


@pytest.mark.serves
def test_what_can_be_meant_in_two_ways_is_never_decided_the_wrong_way() -> None:
    assert len(judged("doubtful")) >= 250
    wrong = [(row["answer"], row["gold"], v.label) for row, v in judged("doubtful") if v.label == row["never"]]
    assert wrong == []


@pytest.mark.serves
def test_the_document_shows_the_figures_of_the_tables() -> None:
    document = Path(__file__).parents[2] / "docs" / "answers.md"
    assert figures() in document.read_text(encoding="utf-8"), "put in what python -m tests.support.tables prints"
