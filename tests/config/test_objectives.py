"""What a recipe may say of an objective, and which of it is identity."""

from typing import Any

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError


def test_only_the_chosen_objectives_settings_are_its_identity() -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return load_recipe("tiny", list(overrides)).opd.identity()

    assert identity() == identity("opd.grpo.clip_low=0.1") == identity("opd.ghost.source=own")
    grpo = "opd.objective=grpo"
    assert identity(grpo) != identity(grpo, "opd.grpo.clip_low=0.1")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["opd.objective=grpo", "opd.group=1"], "set group to 2 or more"),
        (["sft.objective=logit_kd", "sft.format=plain", "opd.steps=0"], "needs format = 'chat'"),
        (["opd.objective=grop"], "grpo"),
    ],
)
def test_a_contradiction_is_one_sentence(overrides: list[str], part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load_recipe("tiny", overrides)
