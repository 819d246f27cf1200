"""What a process loads decides what it costs: the asking of an endpoint, and a run that finds everything made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cohobate.config import Recipe
from tests.support.endpoint_recipe import recipe_of
from tests.support.wire_server import Act, WireServer

pytestmark = pytest.mark.serves

PROGRAM = """
import json, sys
from cohobate.config import Recipe
from cohobate.stages import questions, triples

recipe = Recipe.model_validate_json(sys.argv[1])
made = questions.write(recipe)
if sys.argv[2] == "triples":
    made = triples.write(recipe, made)
top = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"cached": made.cached, "loaded": sorted(top)}))
"""
# Of these, each takes 10 MB or more.
TABLES = {"polars", "pyarrow", "pandas", "numpy"}
CLIENTS = {"aiohttp", "openai", "httpx", "httpx2"}


def loaded(recipe: Recipe, data: Path, stage: str) -> tuple[bool, set[str]]:
    """Whether the stage was found made, and what a process that wanted it has loaded."""
    command = [sys.executable, "-c", PROGRAM, recipe.model_dump_json(), stage]
    environment = {**os.environ, "COHOBATE_DATA": str(data)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = json.loads(said)
    return found["cached"], set(found["loaded"])


def test_asking_loads_no_arrow_and_a_cached_run_no_table_library_and_no_client(tmp_path: Path) -> None:
    server = WireServer(lambda body, time: Act())
    with server.running():
        recipe = recipe_of(tmp_path, server.url, 20)
        assert not loaded(recipe, tmp_path / "data", "questions")[0]
        cached, asking = loaded(recipe, tmp_path / "data", "triples")
        assert not cached and len(server.seen) == 20
        assert asking & {*TABLES, *CLIENTS} == {"polars", "aiohttp"}
        cached, again = loaded(recipe, tmp_path / "data", "triples")
    assert cached and not again & {*TABLES, *CLIENTS, "torch", "rich"}
