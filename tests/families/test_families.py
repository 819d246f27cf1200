"""Every family of transformers as student and as teacher: within 1e-4 nats of its own forward pass, or refused.

`make families` tries all of them (an hour of a core) and writes docs/families.md. `make families FAMILIES="youtu or
emu3"` tries two and replaces their rows; a few are part of every run of the tests. A family goes through what stages
call: the local sampler, the teacher's scores, an update of each objective and its gradient, LoRA, a step, and the
published model read again.
"""

import os
from pathlib import Path

import pytest

from tests.support import families_page, zoo
from tests.support.family_trial import Trial, trial

ALWAYS = {"qwen3", "gemma2", "lfm2", "gpt2"}
NEAR = 1e-4
PAGE = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    """What was found so far."""
    made: list[Trial] = []
    return made


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    "family",
    [pytest.param(each, marks=pytest.mark.trains if each in ALWAYS else pytest.mark.families) for each in zoo.tried()],
)
def test_a_family_is_right_or_refused(family: str, lora: bool, tmp_path: Path, trials: list[Trial]) -> None:
    made = trial(family, tmp_path, lora=lora)
    trials.append(made)
    if os.environ.get("COHOBATE_FAMILIES_PAGE"):
        families_page.write(PAGE, trials, zoo.OPEN, {**zoo.LEFT_OUT, **zoo.UNTRIED})
    if made.refused:
        assert "\n" not in made.refused and len(made.refused) < 500
        assert family in zoo.REFUSED or lora, made.refused
        return
    assert made.worst < NEAR, made
    assert family not in zoo.REFUSED


def test_the_page_has_every_family_that_is_tried() -> None:
    assert families_page.listed(PAGE) == set(zoo.tried())


def test_enough_classes_are_tried() -> None:
    kinds = {zoo.class_of(each) for each in zoo.tried()}
    assert len(kinds) >= 45
    assert not set(zoo.LEFT_OUT) & set(zoo.UNTRIED)
