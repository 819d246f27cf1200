from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from tests.support.exports import BRIEF
from tests.support.made_triples import sample, triples


@pytest.fixture
def mixed(tmp_path: Path) -> Artifact:
    """Right and wrong samples of three questions, some of which no format can express."""
    rows = [
        sample("one", "long way round\nAnswer: 1", index=0),
        sample("one", "short\nAnswer: 1", index=1),
        sample("one", "oops\nAnswer: 2", index=2, verdict="incorrect"),
        sample("two", "never ending", index=0, truncated=True, verdict="undecided"),
        sample("two", "hm\nAnswer: 7", index=1, verdict="incorrect"),
        sample("three", "<think>\nonly thought\n</think>", index=0, verdict="incorrect"),
        sample("three", "ah ### so\nAnswer: 3", index=1),
    ]
    recipe = Recipe.model_validate({"name": "made", "student": {"system": BRIEF, "prompt": "Q: {question} A:"}})
    return triples(tmp_path / "data", rows, recipe)
