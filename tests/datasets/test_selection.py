"""Policies, against a twin that goes through the samples one by one."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.config import Recipe
from cohobate.core.errors import SelectionError
from cohobate.datasets.selection import RULES, Selection, SelectionRule, choose, outline, pair
from cohobate.training.triple_source import select
from tests.support.made_triples import sample, triples

Samples = list[dict[str, Any]]


@st.composite
def outlines(draw: st.DrawFn) -> Samples:
    """Samples of a few questions, in any order."""
    rows = [
        {
            "question_id": draw(st.sampled_from("abcd")),
            "sample_index": index,
            "completion_tokens": draw(st.integers(1, 4)),
            "verdict": draw(st.sampled_from(["correct", "incorrect", "undecided"])),
        }
        for index in range(draw(st.integers(0, 14)))
    ]
    rows = draw(st.permutations(rows))
    for number, row in enumerate(rows):
        verdicts = [r["verdict"] for r in rows if r["question_id"] == row["question_id"]]
        decided = [v for v in verdicts if v != "undecided"]
        row["pass_rate"] = decided.count("correct") / len(decided) if decided else None
        row |= {"row": number, "sample_id": f"s{number}"}
    return rows


SCHEMA = {
    "question_id": pl.String,
    "sample_index": pl.Int32,
    "completion_tokens": pl.Int32,
    "verdict": pl.String,
    "pass_rate": pl.Float64,
    "row": pl.UInt32,
    "sample_id": pl.String,
}
selections = st.builds(
    Selection,
    st.sampled_from(RULES),
    st.none() | st.integers(1, 3),
    st.none() | st.sampled_from([(0.0, 1.0), (0.2, 0.8), (1.0, 1.0), (0.0, 0.0)]),
)


def inside(row: dict[str, Any], selection: Selection) -> bool:
    if selection.pass_rate is None:
        return True
    rate = row["pass_rate"]
    return rate is not None and selection.pass_rate[0] <= rate <= selection.pass_rate[1]


def taken(rows: Samples, selection: Selection, verdict: str | None, rule: SelectionRule) -> dict[str, list[str]]:
    """Sample ids of each question in the order of the rule."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        if inside(row, selection) and (verdict is None or row["verdict"] == verdict):
            length = row["completion_tokens"] if rule == "shortest_correct" else 0
            found.setdefault(row["question_id"], []).append((length, row["sample_index"], row["sample_id"]))
    return {name: [entry[-1] for entry in sorted(entries)] for name, entries in found.items()}


def most(selection: Selection) -> int | None:
    if selection.per_question is not None:
        return selection.per_question
    return 1 if selection.rule in ("first_correct", "shortest_correct") else None


@given(outlines(), selections)
def test_a_rule_takes_what_it_says(rows: Samples, selection: Selection) -> None:
    verdict = None if selection.rule == "all" else "correct"
    groups = taken(rows, selection, verdict, selection.rule)
    expected = {name for names in groups.values() for name in names[: most(selection)]}
    chosen = choose(pl.DataFrame(rows, schema=SCHEMA), selection)
    assert set(chosen["sample_id"]) == expected
    assert chosen["row"].to_list() == sorted(chosen["row"])


@given(outlines(), selections)
def test_pairs_prefer_the_correct_to_the_incorrect_and_use_no_sample_twice(rows: Samples, selection: Selection) -> None:
    right = taken(rows, selection, "correct", selection.rule)
    wrong = taken(rows, selection, "incorrect", "all")
    expected = {
        (name, chosen, rejected)
        for name in right
        for chosen, rejected in list(zip(right[name], wrong.get(name, []), strict=False))[: most(selection)]
    }
    pairs = pair(pl.DataFrame(rows, schema=SCHEMA), selection)
    assert set(pairs.select("question_id", "chosen", "rejected").iter_rows()) == expected
    used = [*pairs["chosen"], *pairs["rejected"]]
    assert len(used) == len(set(used)) == 2 * len(expected)


@settings(max_examples=10, deadline=None)
@given(rows=outlines())
def test_the_outline_is_read_from_the_artifact(rows: Samples, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = [sample(row["question_id"], "x " * row["completion_tokens"], index=row["row"], **row) for row in rows]
    read = outline(triples(tmp_path_factory.mktemp("data"), made).path)
    assert read.select(list(SCHEMA)).to_dicts() == [{name: row[name] for name in SCHEMA} for row in rows]


def two_verifiers(root: Path) -> Path:
    """A triples folder whose one sample is right for `exact` and, since version 2, wrong for `judge`."""
    artifact = triples(root, [sample("q", "Answer: 1", sample_id="s")])
    rows = [("exact", 1, "correct"), ("judge", 1, "correct"), ("judge", 2, "incorrect")]
    names = ["verifier", "verifier_version", "verdict"]
    table = pl.DataFrame(rows, names, orient="row").with_columns(sample_id=pl.lit("s"), reason=pl.lit(None, pl.String))
    table.write_parquet(artifact.path / "verdicts.parquet")
    return artifact.path


def test_the_newest_verdict_of_the_named_verifier_counts(tmp_path: Path) -> None:
    folder = two_verifiers(tmp_path)
    assert outline(folder, "exact")["verdict"].to_list() == ["correct"]
    assert outline(folder, "judge")["verdict"].to_list() == ["incorrect"]


def test_verdicts_of_several_verifiers_need_a_name(tmp_path: Path) -> None:
    folder = two_verifiers(tmp_path)
    with pytest.raises(SelectionError, match=r"exact, judge.*--verifier"):
        outline(folder)
    with pytest.raises(SelectionError, match="'math'"):
        outline(folder, "math")


@pytest.mark.parametrize("rule", RULES)
def test_training_learns_what_an_export_would_hold(rule: SelectionRule, tmp_path: Path) -> None:
    rows = [
        sample("q", "so many words. Answer: 1", index=0),
        sample("q", "Answer: 1", index=1),
        sample("q", "Answer: 2", index=2, verdict="incorrect"),
    ]
    artifact = triples(tmp_path, rows, Recipe(name="made"))
    expected = {"all": [0, 1, 2], "correct": [0, 1], "first_correct": [0], "shortest_correct": [1]}
    assert select(artifact.path, rule)["sample_index"].to_list() == expected[rule]
