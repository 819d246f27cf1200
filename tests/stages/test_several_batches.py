"""Several teachers, some of whom answer in batches: all are submitted before anybody is waited for."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.core.errors import AwaitingError
from tests.support.batch_server import BatchServer, Fate, billed
from tests.support.endpoint_recipe import recipe_of
from tests.support.triples_stage import make, table

pytestmark = pytest.mark.serves

ROWS = 30


def recipe(folder: Path, server: BatchServer, **teacher: Any) -> Recipe:
    """Two teachers in batches and one that is asked directly, behind the same address."""
    values = recipe_of(folder, server.url, ROWS).model_dump(mode="json", by_alias=True)
    one = {"kind": "endpoint", "base_url": server.url, "prompt": "{question}", "batch": True, **teacher}
    values |= {
        "teachers": [
            {**one, "name": "first", "model": "m"},
            {**one, "name": "second", "model": "n"},
            {**one, "name": "direct", "model": "o", "batch": False},
        ],
        "route": {"share": {"first": 0.4, "second": 0.3, "direct": 0.3}},
    }
    del values["teacher"]
    return Recipe.model_validate(values)


def test_all_batches_are_under_way_before_one_is_waited_for(tmp_path: Path, data: Path) -> None:
    server = BatchServer(fate=lambda number: Fate(delay=3600))
    with server.running():
        with pytest.raises(AwaitingError, match=r"^teacher first: .* are under way in 1 batch"):
            make(recipe(tmp_path, server, batch_wait=0.0))
        sizes = {batch.lines[0]["body"]["model"]: len(batch.lines) for batch in server.batches}
        assert set(sizes) == {"m", "n"} and len(server.seen) == ROWS - sum(sizes.values()) > 0
        for batch in server.batches:
            batch.fate.delay = 0.0
        made = make(recipe(tmp_path, server, batch_wait=0.01))
    counts = dict(table(made)["teacher"].value_counts().iter_rows())
    assert counts == {"first": sizes["m"], "second": sizes["n"], "direct": len(server.seen)}
    assert len(server.batches) == 2 and billed(server) == {"requests": sum(sizes.values()), "times": 1}


def test_teachers_in_batches_do_not_wait_for_each_other(tmp_path: Path, data: Path) -> None:
    fetched_before: list[int] = []

    def fate(number: int) -> Fate:
        fetched_before.append(server.calls["content"])
        return Fate()

    server = BatchServer(fate=fate)
    with server.running():
        made = make(recipe(tmp_path, server, batch_wait=0.01))
    assert fetched_before == [0, 0] and len(table(made)) == ROWS
