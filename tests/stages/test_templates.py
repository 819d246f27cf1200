"""The check of chat templates in preflight, and the shipped recipe without thinking."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError, UserError
from cohobate.core.shipped import shipped_path
from cohobate.models.chat_template import question_ids, student_format, teacher_format
from cohobate.models.loading import outline
from cohobate.stages import questions, triples
from cohobate.stages.preflight import require_student, templates
from cohobate.stages.preflight.scope import BOTH, Scope
from cohobate.store.artifacts import Store
from tests.support.pipeline import SMALL
from tests.support.preflight import failed
from tests.support.wire_server import Act, WireServer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DEAF = CHATML.replace("for m in messages", "for m in messages if m.role != 'system'")
QWEN = CHATML.replace(
    "{% endif %}", "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def finding(**sections: dict[str, Any]) -> str:
    """The finding of the check; the models are outlines, since no weight is read."""
    recipe = Recipe.model_validate({"opd": {"steps": 0}, **sections})
    scope = Scope(recipe, BOTH, ask=False)
    for role in BOTH:
        section = getattr(recipe, role)
        scope.loaded[role] = outline(section.model, template=section.template)
    return templates.template(scope)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize(("template", "words"), [(GEMMA, "takes no system message"), (DEAF, "leaves out the system")])
def test_a_system_message_that_is_not_taken_is_refused_or_folded(role: str, template: str, words: str) -> None:
    settings = {"template": template, "system": "Be brief."}
    with pytest.raises(CohobateError, match=f"{role}'s chat template {words}.*{role}.fold_system = true"):
        finding(**{role: settings})
    assert role in finding(**{role: {**settings, "fold_system": True}})
    assert role in finding(**{role: {"template": template}})


@pytest.mark.parametrize(("follow", "reader"), [(None, "teacher"), (0.0, "student")])
def test_a_template_that_does_not_write_what_only_the_teacher_is_shown_is_refused(
    follow: float | None, reader: str
) -> None:
    """The model that scores reads it, and no other."""

    def shown(deaf: str) -> str:
        teacher = {"privileged": {"system": "It is {gold_answer}."}, "follow": follow}
        sections: dict[str, Any] = {"teacher": teacher, "student": {}}
        sections[deaf] = {**sections[deaf], "template": DEAF}
        recipe = Recipe.model_validate(sections)
        scope = Scope(recipe, BOTH, ask=False)
        for role in BOTH:
            section = getattr(recipe, role)
            scope.loaded[role] = outline(section.model, template=section.template)
        return templates.privileged(scope)

    with pytest.raises(CohobateError, match=f"the {reader}'s chat template leaves out the system message"):
        shown(reader)
    assert "reads 2 messages where it scores, with gold_answer" in shown(
        "teacher" if reader == "student" else "student"
    )


def test_a_template_without_the_question_is_refused() -> None:
    with pytest.raises(CohobateError, match=r"leaves out the question; give student\.template_file"):
        finding(student={"template": "<|im_start|>assistant\n"})


def test_the_user_is_told_of_a_date() -> None:
    dated = "{{ 'Today is ' + strftime_now('%d %B %Y') + '\n' }}" + CHATML
    assert "student (it writes the date, which is 2025-01-01: student.template_date)" in finding(
        student={"template": dated}
    )
    assert "2024-02-29" in finding(teacher={"template": dated, "template_date": "2024-02-29"})


def test_a_base_model_without_a_template_takes_one_from_a_file(data: Path, tmp_path: Path) -> None:
    shipped = shipped_path("world/base")
    assert shipped is not None
    bare = shutil.copytree(shipped, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    (tmp_path / "chat.jinja").write_text(CHATML)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'[student]\nmodel = "{bare}"\n[opd]\nsteps = 0\n')
    assert "give a template in student.template_file" in failed(load_recipe(str(recipe)))["template"]
    recipe.write_text(f'[student]\nmodel = "{bare}"\ntemplate_file = "chat.jinja"\n[opd]\nsteps = 0\n')
    assert "template" not in failed(load_recipe(str(recipe)))


def test_a_plain_student_needs_no_template() -> None:
    assert "student" not in finding(sft={"format": "plain"}, student={"template": "{{ raise_exception('no') }}"})


def test_the_recipe_without_thinking_asks_both_models_so(data: Path, tmp_path: Path) -> None:
    """Preflight accepts it with small models of Qwen3's template in the place of its own."""
    small: dict[str, str] = {}
    for role, model in (("teacher", "world/teacher"), ("student", "world/base")):
        shipped = shipped_path(model)
        assert shipped is not None
        folder = shutil.copytree(shipped, tmp_path / role)
        (folder / "chat_template.jinja").write_text(QWEN)
        small[role] = str(folder)
    limits = [f"{section}.max_tokens=64" for section in ("triples", "opd", "evaluation")]
    models = [f"{role}.model={folder}" for role, folder in small.items()]
    recipe = load_recipe("qwen3_0.6b_no_think", [*limits, *models, "teacher.kind=local", "curation=null"][:-1])
    assert failed(recipe).keys() <= {"questions"}  # a file of the user's
    for role, prompt_format in (("teacher", teacher_format(recipe)), ("student", student_format(recipe))):
        tokenizer = outline(small[role]).tokenizer
        text = tokenizer.decode(question_ids(tokenizer, "What is 2 + 3?", prompt_format))
        assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_students_template_is_refused_before_the_triples_are_paid(data: Path) -> None:
    recipe = load_recipe("tiny", [*SMALL, f"student.template={json.dumps(GEMMA)}", "student.system=Be brief."])
    asked = questions.write(recipe)
    with pytest.raises(UserError, match=r"takes no system message.*student\.fold_system = true"):
        triples.write(recipe, asked)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]


@pytest.mark.serves
def test_an_endpoint_is_not_asked_for_a_student_whose_template_is_refused(data: Path) -> None:
    """The check has a process of its own, and its sentence is the one that a model in this process gives."""
    server = WireServer(lambda body, time: Act())
    with server.running():
        own = [f"student.template={json.dumps(GEMMA)}", "student.system=Be brief.", f"teacher.base_url={server.url}"]
        recipe = load_recipe("tiny", [*SMALL, "teacher.kind=endpoint", "teacher.model=m", "opd.steps=0", *own])
        asked = questions.write(recipe)
        with pytest.raises(UserError, match=r"takes no system message.*student\.fold_system = true") as refused:
            triples.write_for_student(recipe, asked)
    with pytest.raises(UserError) as here:
        require_student(recipe)
    assert str(refused.value) == str(here.value) and server.seen == []
