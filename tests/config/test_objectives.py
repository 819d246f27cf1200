"""What a recipe may say of an objective, and which of it is identity."""

import ast
from pathlib import Path
from typing import Any

import pytest

import cohobate
from cohobate.config.load import load_recipe
from cohobate.config.objectives import Declaration, OnPolicyDeclaration
from cohobate.core.errors import RecipeError
from cohobate.training.objectives.cross_entropy import CrossEntropy
from cohobate.training.objectives.exact import Exact
from tests.support.source_tree import modules


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
        (["sft.objective=dpo"], "set triples.samples to 2 or more"),
        (["sft.objective=simpo", "triples.samples=2", "sft.batch=5"], "even number"),
    ],
)
def test_a_contradiction_is_one_sentence(overrides: list[str], part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load_recipe("tiny", overrides)


def test_the_base_classes_have_what_recipes_read() -> None:
    """The type checker holds them against the protocols; only an objective itself adds its name and its loss."""
    off_policy: type[Declaration] = CrossEntropy
    on_policy: type[OnPolicyDeclaration] = Exact
    assert (off_policy.stage, on_policy.stage) == ("sft", "opd")


def sides(comparison: ast.Compare) -> list[ast.expr]:
    return [comparison.left, *comparison.comparators]


def names(side: ast.expr) -> bool:
    """Whether it is a name, or a choice of names; None is none."""
    return isinstance(side, ast.Tuple | ast.Set) or (isinstance(side, ast.Constant) and isinstance(side.value, str))


def test_no_other_module_tells_objectives_apart() -> None:
    """They ask the declaration. The tiny policy learns by the loss of one objective, whatever a recipe says."""
    root = Path(cohobate.__file__).parents[1]
    tree = modules({root / "cohobate": root})
    declared = {path.partition(":")[0] for path in cohobate.OBJECTIVES}
    others = {name: module for name, module in tree.items() if not name.startswith("cohobate.training.objectives.")}
    assert declared <= set(tree)
    importing = [name for name, module in others.items() if module.imports & declared]
    assert importing == ["cohobate.experiments.tiny_policy.reinforce"]
    compared = [
        f"{name}:{node.lineno}"
        for name, module in others.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Compare) and "objective" in {getattr(side, "attr", "") for side in sides(node)}
        if any(names(side) for side in sides(node))
    ]
    assert compared == []
