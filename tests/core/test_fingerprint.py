"""Identity: which fields of a recipe move the fingerprint, and that equal values hash alike."""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Recipe
from cohobate.core.fingerprint import artifact_fingerprint, canonical, hash_value
from cohobate.core.settings import EXECUTION, Section

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

# Another valid value of a field, where `different` cannot find one by its type.
OTHERS: dict[str, Any] = {
    "questions.source": None,  # needs a path: covered by test_questions
    "questions.split": None,
    "questions.columns": None,
    "questions.hard_depth": (6, 7),
    "sft.format": "plain",
    "opd.temperature": None,  # only 1 is valid
    "evaluation.splits": ["test"],
    "evaluation.decodings": ["greedy"],
}


def fields(section: Section, path: str = "") -> Iterator[tuple[str, Section, str]]:
    """(dotted name, the section it is in, field name) of every leaf."""
    for name in type(section).model_fields:
        value, here = getattr(section, name), f"{path}{name}"
        if isinstance(value, Section) and here not in OTHERS:
            yield from fields(value, f"{here}.")
        else:
            yield here, section, name


BASE = Recipe.model_validate({"opd": {"steps": 0}})
LEAVES = list(fields(BASE))


def different(name: str, section: Section, field: str) -> Any:
    """Another valid value of a field; None if there is none here."""
    if name in OTHERS:
        return OTHERS[name]
    value = getattr(section, field)
    annotation = str(type(section).model_fields[field].annotation)
    if "Literal" in annotation:
        options = annotation.split("Literal[")[1].split("]", maxsplit=1)[0].replace("'", "").split(", ")
        return next((option for option in options if option != value), None)
    if "date" in annotation:
        return date(2024, 7, 26)
    if isinstance(value, float) or "float" in annotation:
        return 0.5 if value != 0.5 else 0.25
    if isinstance(value, int) or "int" in annotation:
        return (value or 0) + 1
    return f"{value or ''}x"


VARIED = [leaf for leaf in LEAVES if different(*leaf) is not None]


def test_every_field_but_these_has_another_valid_value_here() -> None:
    lone = {name for name, _, _ in LEAVES} - {name for name, _, _ in VARIED}
    assert lone == {name for name, other in OTHERS.items() if other is None}


@pytest.mark.parametrize(("name", "section", "field"), VARIED, ids=[leaf[0] for leaf in VARIED])
def test_identity_fields_move_the_identity_and_execution_fields_do_not(name: str, section: Section, field: str) -> None:
    changed = section.model_copy(update={field: different(name, section, field)})
    moved = changed.identity() != section.identity()
    assert moved != (EXECUTION in type(section).model_fields[field].metadata)
    assert (hash_value(changed.identity()) != hash_value(section.identity())) == moved


@given(st.dictionaries(st.text(), values, min_size=2, max_size=5))
def test_key_order_does_not_matter(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical(turned) == canonical(value)


@given(values)
def test_the_canonical_form_keeps_the_value(value: Any) -> None:
    assert json.loads(canonical(value)) == json.loads(json.dumps(value))


@given(values, values)
def test_different_values_have_different_hashes(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (hash_value(a) == hash_value(b)) == same


def test_stage_version_and_parents_are_part_of_the_fingerprint() -> None:
    first = artifact_fingerprint("sft", 1, {"lr": 1.0}, ["a", "b"])
    others = [
        artifact_fingerprint("opd", 1, {"lr": 1.0}, ["a", "b"]),
        artifact_fingerprint("sft", 2, {"lr": 1.0}, ["a", "b"]),
        artifact_fingerprint("sft", 1, {"lr": 2.0}, ["a", "b"]),
        artifact_fingerprint("sft", 1, {"lr": 1.0}, ["b", "a"]),
    ]
    assert len({first, *others}) == 5


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError):
        hash_value({"lr": float("nan")})
