"""Every piece of a recipe in the documents is one that a recipe can hold."""

import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe, make_recipe
from cohobate.core.errors import RecipeError
from tests.support import pages

# What a piece may be a piece of: a recipe with a local teacher, one without on-policy stages, one with an endpoint.
SERVED = {"kind": "endpoint", "model": "some", "base_url": "http://localhost:8000/v1"}
WHOLE: tuple[dict[str, Any], ...] = (
    {"opd": {"max_tokens": 1024}},
    {"opd": {"steps": 0}},
    {"opd": {"steps": 0}, "teacher": SERVED},
)
SECTION = re.compile(r"^\[\[?([a-z]+)[\].]", re.MULTILINE)


def pieces(page: str) -> list[pages.Block]:
    """Blocks that hold sections of a recipe, or a whole one."""
    return [
        block
        for block in pages.blocks(page)
        if block.language in ("toml", "") and {*SECTION.findall(block.text)} & Recipe.model_fields.keys()
    ]


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {**values, **more}
    for key in values.keys() & more.keys():
        if isinstance(values[key], dict) and isinstance(more[key], dict):
            both[key] = merged(values[key], more[key])
    return both


def refusal(block: pages.Block, folder: Path) -> str:
    """What a recipe says to the block; nothing where it takes it."""
    if block.title:
        (folder / block.title).write_text(block.text)
        return _said(lambda: load_recipe(block.title))
    piece = tomllib.loads(block.text)
    said = [_said(partial(make_recipe, merged(values, piece), block.place)) for values in WHOLE]
    return min(said, key=len)


def _said(read: Callable[[], object]) -> str:
    try:
        read()
    except RecipeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", [page for page in pages.names() if pieces(page)])
def test_a_recipe_takes_what_a_page_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = {block.place: refusal(block, tmp_path) for block in pieces(page)}
    assert {place: sentence for place, sentence in said.items() if sentence} == {}
    assert said


def test_pieces_of_recipes_are_found() -> None:
    assert len([block for page in pages.names() for block in pieces(page)]) > 10
