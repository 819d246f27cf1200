"""Several teachers in a recipe: what goes together, and what one sentence refuses."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe, make_recipe
from cohobate.core.errors import RecipeError

BIG: dict[str, Any] = {"name": "big", "system": "Be right."}
SMALL: dict[str, Any] = {"name": "small", "model": "world/base"}
BY_KIND = {"column": "kind", "values": {"story": "big"}, "default": "small"}
WRITES_ONLY: dict[str, Any] = {"opd": {"steps": 0}}


def several(**changes: Any) -> Recipe:
    return make_recipe({"teachers": [BIG, SMALL], "route": BY_KIND, **WRITES_ONLY, **changes}, "r")


def test_each_teacher_has_a_recipe_in_which_it_is_the_only_one() -> None:
    recipe = several()
    assert list(recipe.by_teacher) == ["big", "small"]
    alone = recipe.by_teacher["small"]
    assert alone == make_recipe({"teacher": {"model": "world/base"}, **WRITES_ONLY}, "r")
    assert recipe.by_teacher["big"].teacher.system == "Be right."


def test_a_recipe_says_again_what_its_file_said() -> None:
    recipe = several()
    values = recipe.model_dump(mode="json")
    assert "teacher" not in values and Recipe.model_validate(values) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert not {"teachers", "route"} & set(Recipe().model_dump())


def test_a_folder_beside_the_recipe_is_a_teacher(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "r.toml").write_text(
        '[[teachers]]\nname = "a"\nmodel = "own"\n[[teachers]]\nname = "b"\n'
        "[route]\nshare = {a = 0.25, b = 0.75}\n[opd]\nsteps = 0\n"
    )
    assert load_recipe(str(tmp_path / "r.toml")).by_teacher["a"].teacher.model == str(tmp_path / "own")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teacher": {"model": "world/base"}}, "write one of the two"),
        ({"teachers": [BIG]}, r"write one as \[teacher\]"),
        ({"teachers": []}, "is for several teachers"),
        ({"route": None}, r"needs \[route\]"),
        ({"route": {}}, "say what decides"),
        ({"route": {"column": "kind", "default": "big"}}, "no value of the column 'kind' has a teacher"),
        ({"route": {"column": "kind", "values": {"a": "big", "b": "smal"}}}, "names the teacher 'smal'"),
        ({"route": {"column": "kind", "values": {"a": "big"}}}, "sends no question to the teacher 'small'"),
        ({"route": {**BY_KIND, "share": {"big": 1.0}}}, "two ways"),
        ({"route": {"share": {"big": 0.5, "small": 0.5}, "default": "big"}}, "belong to a column"),
        ({"route": {"share": {"big": 0.5, "small": 0.3}}}, "add up to 0.8, not to 1"),
        ({"route": {"share": {"big": 1.0, "small": 0.0}}}, "route.share.small"),
        ({"teachers": [BIG, {**SMALL, "name": "BIG"}]}, "have the name"),
        ({"teachers": [BIG, {**SMALL, "name": "a/b"}]}, "is no name"),
        ({"teachers": [BIG, {"model": "world/base"}]}, "'teachers.1.name' is missing"),
        ({"teachers": [BIG, {**SMALL, "modle": "x"}]}, "did you mean 'teachers.1.model'"),
        ({"teachers": [BIG, {**SMALL, "answer": "response"}]}, "must have the same answer"),
        ({"teachers": [BIG, {**SMALL, "kind": "endpoint"}]}, "needs base_url"),
        ({"questions": {"source": "documents", "path": "x"}}, "several teachers answer questions"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        several(**changes)


HALVES = {"big": 0.5, "small": 0.5}


@pytest.mark.parametrize(
    ("opd", "changes", "sentence"),
    [
        ({"mixture": HALVES}, {"teachers": [], "route": None}, "opd.mixture is of several teachers"),
        ({"mixture": {"big": 0.5, "smal": 0.5}}, {}, "names the teacher 'smal'"),
        ({"mixture": {"big": 1.0}}, {}, "has one teacher"),
        ({"mixture": {"big": 0.5, "small": 0.4}}, {}, "add up to 0.9, not to 1"),
        ({"mixture": HALVES, "objective": "grpo"}, {}, "asks no teacher for scores"),
        (
            {"mixture": HALVES, "objective": "topk"},
            {"teachers": [BIG, {**SMALL, "scoring": "server"}]},
            "'small' scores by one",
        ),
        ({"steps": 0}, {"sft": {"objective": "logit_kd"}}, "scored by one teacher"),
    ],
)
def test_a_mixture_is_of_named_teachers_whose_distributions_are_there(
    opd: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        several(opd=opd, **changes)


def test_a_recipe_without_a_mixture_is_what_it_was() -> None:
    assert "mixture" not in Recipe().opd.identity()
    mixed = several(opd={"mixture": HALVES})
    assert mixed.opd.identity()["mixture"] == HALVES and mixed.by_teacher["big"].opd.mixture == {}
    assert Recipe.model_validate(mixed.model_dump(mode="json")) == mixed


def test_the_shares_are_in_the_order_of_the_teachers_and_new_only_where_names_are_in_another() -> None:
    share = {"route": {"share": {"small": 0.5, "big": 0.5}}}
    route = several(**share).route
    assert route is not None and list(route.share) == ["big", "small"] and "order" not in route.identity()
    turned = several(**share, teachers=[SMALL, BIG])
    assert turned.route is not None and turned.route.identity()["order"] == ["small", "big"]
    assert Recipe.model_validate(turned.model_dump(mode="json")).route == turned.route


SERVER: dict[str, Any] = {"name": "writer", "kind": "endpoint", "model": "m", "base_url": "http://h/v1", "batch": True}


def test_a_teacher_outside_the_mixture_writes_triples_and_scores_nothing() -> None:
    route = {"share": {"big": 0.3, "small": 0.3, "writer": 0.4}}
    for objective in ("exact", "sampled"):
        opd = {"steps": 4, "warmup": 0, "mixture": HALVES, "objective": objective}
        recipe = several(teachers=[BIG, SMALL, SERVER], route=route, opd=opd)
        assert not recipe.served_scores and list(recipe.scoring_teachers) == ["big", "small"]
        assert {name: own.opd.steps for name, own in recipe.by_teacher.items()} == {"big": 4, "small": 4, "writer": 0}
    with pytest.raises(RecipeError, match="which no batch gives"):
        several(teachers=[BIG, SMALL, SERVER], route=route, opd={"steps": 4, "warmup": 0, "objective": "sampled"})


def test_a_setting_of_triples_must_suit_every_teacher() -> None:
    server = {"name": "small", "kind": "endpoint", "model": "m", "base_url": "http://h/v1", "omit": ["temperature"]}
    with pytest.raises(RecipeError, match=r"leave triples\.temperature at 1\.0"):
        several(teachers=[BIG, server], triples={"temperature": 0.5})


def test_a_key_in_the_place_of_its_name_is_not_shown() -> None:
    server = {"name": "small", "kind": "endpoint", "model": "m", "base_url": "http://h/v1", "api_key_env": "sk-1 2"}
    with pytest.raises(RecipeError, match="not the key itself") as refused:
        several(teachers=[BIG, server])
    assert "sk-1" not in str(refused.value)
