"""Which teacher a question goes to, by a column of the questions or by shares."""

import json
from typing import Any

import polars as pl
import pytest

from cohobate.config import Route
from cohobate.core.errors import QuestionsError
from cohobate.sources.route import require_values, teachers_of


def questions(*metas: dict[str, Any] | None, kind: str = "file") -> pl.DataFrame:
    rows = [
        {"question_id": f"q{n}", "meta": meta if meta is None else json.dumps(meta), "kind": kind, "depth": n}
        for n, meta in enumerate(metas)
    ]
    return pl.DataFrame(
        rows, schema={"question_id": pl.String, "meta": pl.String, "kind": pl.String, "depth": pl.Int32}
    )


def by_column(column: str, default: str | None = None, **values: str) -> Route:
    return Route(column=column, values=values, default=default)


def test_a_column_of_the_file_decides_and_others_go_to_the_default() -> None:
    rows = questions({"subject": "math"}, {"subject": "law"}, {"other": 1}, None, {"subject": None})
    found = teachers_of(by_column("subject", "chat", math="big", law="lawyer"), rows)
    assert found.to_list() == ["big", "lawyer", "chat", "chat", "chat"]


@pytest.mark.parametrize(
    ("value", "written"),
    [(3, "3"), (7.0, "7"), (-2.0, "-2"), (True, "true"), (2.5, "2.5"), (["a"], '["a"]'), ("Ä", "Ä")],
)
def test_a_value_is_written_as_in_json(value: Any, written: str) -> None:
    route = Route(column="c", values={written: "big"}, default="small")
    assert teachers_of(route, questions({"c": value}, {"c": "x"})).to_list() == ["big", "small"]


def test_the_program_s_own_columns_decide_where_the_file_has_none_of_the_name() -> None:
    assert teachers_of(Route(column="depth", values={"0": "a", "1": "b"}), questions(None, None)).to_list() == [
        "a",
        "b",
    ]
    rows = questions({"kind": "essay"}, kind="file")
    assert teachers_of(by_column("kind", essay="a", file="b"), rows).to_list() == ["a"]


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        (by_column("subject", math="b"), "1 questions have the value 'law' in the column 'subject'"),
        (by_column("level", high="b"), "1 questions have no value in the column 'level'"),
    ],
)
def test_a_question_without_a_teacher_is_refused(route: Route, sentence: str) -> None:
    with pytest.raises(QuestionsError, match=sentence):
        teachers_of(route, questions({"subject": "math", "level": "high"}, {"subject": "law"}))


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        (by_column("subjekt", "a", math="b"), "no question has a value in the column 'subjekt'.*they have: subject"),
        (by_column("subject", "a", Math="b"), "no question has the value 'Math'.*sends to 'b'.*'math', 'law'"),
        (Route(column="level", values={"2.0": "b"}, default="a"), "the value '2.0'.*the values are '2'"),
    ],
)
def test_what_no_question_has_is_refused_although_there_is_a_default(route: Route, sentence: str) -> None:
    rows = questions({"subject": "math", "level": 2.0}, {"subject": "law"}, {"subject": "math"})
    with pytest.raises(QuestionsError, match=sentence):
        require_values(route, rows)
    assert teachers_of(route, rows).to_list() == ["a"] * 3  # of a part of the questions none need have it


def test_shares_are_met_and_an_added_question_moves_no_other() -> None:
    route = Route(share={"b": 0.3, "a": 0.7})
    many = questions(*[None] * 4000)
    found = teachers_of(route, many)
    # Four standard deviations of a binomial share.
    assert abs((found == "a").mean() - 0.7) < 4 * (0.7 * 0.3 / 4000) ** 0.5  # type: ignore[operator]
    fewer = many.filter(pl.col("depth") % 3 == 0)
    assert teachers_of(route, fewer).to_list() == found.filter(many["depth"] % 3 == 0).to_list()
    renamed = teachers_of(Route(share={"b": 0.3, "c": 0.7}), many)
    assert renamed.to_list() == found.replace({"a": "c"}).to_list()


def test_no_question_is_no_fault() -> None:
    assert teachers_of(by_column("subject", math="b"), questions()).to_list() == []
