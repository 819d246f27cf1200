"""Each kind of teacher that a recipe may name has a backend, and says in one place what it is."""

from pathlib import Path
from typing import get_args

import pytest

from cohobate.config import Judge, Teacher, TeacherKind, Triples
from cohobate.core.errors import EndpointError, ModelError
from cohobate.teachers.endpoint.client import EndpointTeacher
from cohobate.teachers.kinds import BACKENDS, open_backend

ENDPOINT = Teacher(kind="endpoint", base_url="http://localhost:1/v1", model="m")


def test_every_kind_of_a_recipe_has_a_backend() -> None:
    assert set(BACKENDS) == set(get_args(TeacherKind))
    assert set(get_args(Judge.model_fields["kind"].annotation)) <= set(BACKENDS)


def test_an_endpoint_is_opened_without_a_request_and_not_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = ENDPOINT.model_copy(update={"api_key_env": "KEY"})
    with pytest.raises(EndpointError, match="names KEY, which is not set"):
        open_backend(teacher, Triples())
    monkeypatch.setenv("KEY", "s3cret")
    assert isinstance(open_backend(teacher, Triples()), EndpointTeacher)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        open_backend(Teacher(model=str(tmp_path / "none")), Triples())


def test_the_price_is_per_million_tokens_and_none_without_one() -> None:
    priced = ENDPOINT.model_copy(update={"price_input": 1.0, "price_output": 2.5})
    assert priced.cost_usd(10, 20) == pytest.approx(60e-6)
    assert Teacher().cost_usd(10, 20) is None
