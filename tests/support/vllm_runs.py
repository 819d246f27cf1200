"""What the tests with vLLM share: recipes of few questions, programs to kill, and looking into the store."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import EngineError
from cohobate.teachers.vllm import install

QUESTIONS = 96
FEW = [
    "runtime.threads=1",
    f"questions.train={QUESTIONS}",
    "questions.fresh=1",
    "questions.validation=1",
    "questions.test=1",
    "questions.hard=1",
    "triples.temperature=0.0",
    "triples.max_tokens=120",
    "opd.steps=0",
    "opd.warmup=0",
]


def installed() -> bool:
    """Whether there is a vLLM; one that is named must be there."""
    try:
        install.find()
    except EngineError:
        return "COHOBATE_VLLM" in os.environ
    return True


if_installed = pytest.mark.skipif(not installed(), reason="vLLM is not installed; `make vllm` does it")
needs_vllm = [pytest.mark.vllm, pytest.mark.timeout(600), if_installed]


def with_vllm(test: Callable[..., None]) -> Callable[..., None]:
    """A test that starts vLLM, in a module of others that do not."""
    for mark in needs_vllm:
        test = mark(test)
    return test


def recipe_of(*changes: str) -> Recipe:
    """Greedy answers of the shipped teacher to `QUESTIONS` questions."""
    return load_recipe("tiny", [*FEW, *changes])


def start(recipe: Recipe, root: Path) -> subprocess.Popen[str]:
    """The questions and triples of `recipe`, as a program of its own."""
    command = [sys.executable, "-m", "tests.support.endpoint_recipe", recipe.model_dump_json()]
    environment = {**os.environ, "COHOBATE_DATA": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored_keys(root: Path) -> list[str]:
    """The key of each response that no kill can take away, once for each time that it was stored."""
    keys: list[str] = []
    for path in sorted(root.glob("responses/journal-*.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1]
        keys += [row[0] for line in lines for row in json.loads(line[line.index(b"{") :])["rows"]]  # behind a checksum
    for path in sorted(root.glob("responses/part-*.parquet")):
        keys += pl.read_parquet(path)["key"].to_list()
    return keys


def engines(root: Path) -> list[int]:
    """Processes of vLLM whose log lies below `root`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "fd/2").readlink().is_relative_to(root):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
