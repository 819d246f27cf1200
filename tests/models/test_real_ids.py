"""The shipped recipes of Qwen3 and Llama, and prompts of other families, with models that have those families' ids."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.models.chat_template import question_ids, student_format, teacher_format, training_sequence
from cohobate.models.loading import load, outline, save, with_ends
from cohobate.models.rendering import Rendering, rendered_ids
from cohobate.models.special_tokens import decode
from tests.support.family_models import FAMILIES, family_model, tokenizer_of
from tests.support.preflight import failed

HARMONY = "<|channel|>analysis<|message|>2 + 3<|end|><|start|>assistant<|channel|>final<|message|>Answer: 5"


def with_small_models(name: str, folder: Path) -> Recipe:
    """The shipped recipe, with small models of the same names and ids, and limits that they can hold."""
    recipe = load_recipe(name)
    models = {role: family_model(Path(getattr(recipe, role).model).name, folder) for role in ("teacher", "student")}
    limits = [f"{section}.max_tokens=64" for section in ("triples", "opd", "evaluation")]
    return load_recipe(
        name, [*limits, "teacher.kind=local", *(f"{role}.model={path}" for role, path in models.items())]
    )


RECIPES = [
    ("qwen3_0.6b_from_8b", 151645, {151643, 151645}, []),
    ("qwen3_0.6b_no_think", 151645, {151643, 151645}, [151667, 151668]),
    ("llama_1b_from_8b", 128009, {128001, 128008, 128009}, []),
]


@pytest.mark.parametrize(("name", "end", "stops", "thought"), RECIPES)
@pytest.mark.slow
def test_a_shipped_recipe_is_right_by_construction(
    data: Path, tmp_path: Path, name: str, end: int, stops: set[int], thought: list[int]
) -> None:
    recipe = with_small_models(name, tmp_path)
    assert failed(recipe).keys() <= {"questions"}  # those of the hub, or a file of the user's
    student = with_ends(load(recipe.student.model, device="cpu"), recipe)
    assert student.end == end and set(student.eos_ids) == stops
    row = training_sequence(student.tokenizer, "Hi?", "Answer: 5", student_format(recipe), ended=True, end=student.end)
    assert row.ids[-1] == end and row.ids[row.context :].count(end) == 1
    assert [token for token in row.ids if token in (151667, 151668)] == thought
    save(student.model, student.tokenizer, tmp_path / "saved")
    assert set(outline(tmp_path / "saved").eos_ids) == stops


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_has_the_ids_that_transformers_gives_it(name: str) -> None:
    tokenizer, asked = tokenizer_of(FAMILIES[name]), [{"role": "user", "content": "What is 2 + 3?"}]
    ids = rendered_ids(tokenizer, asked, Rendering(args={"date_string": "01 Jan 2025"}))
    args: dict[str, Any] = {"date_string": "01 Jan 2025", "tokenize": True, "return_dict": False}
    template = tokenizer.chat_template.replace("strftime_now('%Y-%m-%d')", "'2025-01-01'")
    assert ids == tokenizer.apply_chat_template(asked, chat_template=template, add_generation_prompt=True, **args)
    assert {token for token in ids if token in FAMILIES[name].special.values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_special_token_of_a_family_can_be_written_by_a_question(name: str) -> None:
    of = FAMILIES[name]
    tokenizer, special = tokenizer_of(of), set(of.special.values())
    plain = question_ids(tokenizer, "What is it?", teacher_format(Recipe()))
    prompts = [question_ids(tokenizer, f"What is {token}?", teacher_format(Recipe())) for token in of.special]
    control = [[each for each in ids if each in special] for ids in prompts]
    assert control == [[each for each in plain if each in special]] * len(of.special)
    texts = [tokenizer.decode(ids) for ids in prompts]
    assert [f"What is {token}?" in text for token, text in zip(of.special, texts, strict=True)] == [True] * len(texts)


def test_the_channels_of_gpt_oss_are_kept_with_their_ids() -> None:
    tokenizer = tokenizer_of(FAMILIES["gpt-oss-20b"])
    row = training_sequence(tokenizer, "Hi?", HARMONY, student_format(Recipe()), ended=True, end=200002)
    marks = [token for token in row.ids[row.context :] if token >= 199998]
    assert marks == [200005, 200008, 200007, 200006, 200005, 200008, 200002]
    assert decode(tokenizer, row.ids[row.context :]) == HARMONY
