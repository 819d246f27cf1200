"""Fixtures that the tests of sampling and scoring share."""

import pytest

from cohobate.models.chat_template import question_ids
from cohobate.models.loading import LoadedModel, load
from tests.support.sampling_runs import PROMPT_FORMAT, QUESTIONS


@pytest.fixture(scope="module")
def teacher() -> LoadedModel:
    return load("world/teacher", device="cpu")


@pytest.fixture(scope="module")
def prompts(teacher: LoadedModel) -> list[list[int]]:
    """Prompts of unlike length, in no order."""
    return [question_ids(teacher.tokenizer, question, PROMPT_FORMAT) for question in QUESTIONS]
