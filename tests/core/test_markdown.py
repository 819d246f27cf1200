"""Markdown written by hand, read back by a YAML parser and by the rules of tables."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.markdown import Yaml, fenced, front_matter, quoted, table

characters = st.characters(exclude_categories=["Cs"])


@given(st.text(characters, max_size=20), st.lists(st.text(characters, max_size=8), min_size=1, max_size=3))
def test_quoted_front_matter_is_yaml(name: str, tags: list[str]) -> None:
    values = {"name": quoted(name), "tags": [quoted(tag) for tag in tags]}
    assert yaml.safe_load(front_matter(values)) == {"name": name, "tags": tags}


def test_nested_front_matter_is_yaml() -> None:
    features: dict[str, Yaml] = {
        "features": [{"name": "q", "dtype": "string"}, {"name": "m", "list": [{"name": "role"}]}]
    }
    assert yaml.safe_load(front_matter({"dataset_info": features})) == {"dataset_info": features}


def test_a_cell_ends_neither_its_row_nor_its_column() -> None:
    assert table(["a", "b"], [["x|y", "two\nlines"], [1, None]]) == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y | two lines |",
        "| 1 | None |",
    ]


def test_a_fence_is_longer_than_the_backticks_inside() -> None:
    assert fenced("a ```` b", "text") == "`````text\na ```` b\n`````"
