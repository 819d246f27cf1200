"""Preflight: mistakes that are refused before anything is spent, and the runner of its checks."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import UserError
from cohobate.core.shipped import shipped_path
from cohobate.stages import questions, sft, triples
from cohobate.stages.preflight import check
from cohobate.stages.preflight.checklist import CHECKS, Check, run
from cohobate.stages.preflight.scope import BOTH, Loaded, Scope
from cohobate.store.artifacts import Store
from tests.support.pipeline import SMALL
from tests.support.preflight import failed


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The shipped student with a tokenizer in which two tokens have changed places."""
    shipped = shipped_path("world/base")
    assert shipped is not None
    folder = tmp_path / "foreign"
    shutil.copytree(shipped, folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    one, other = [token for token in vocabulary if token.isalpha()][:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(content))
    assert Tokenizer.from_file(str(path)).token_to_id(one) != vocabulary[other]
    return folder


def test_the_shipped_recipes_pass(data: Path) -> None:
    for name in ("tiny", "arithmetic"):
        results = check(load_recipe(name))
        assert len(results) >= 9 and not failed(load_recipe(name))


def test_a_student_with_another_tokenizer_is_refused_before_the_triples_are_paid(data: Path, foreign: Path) -> None:
    recipe = load_recipe("tiny", [*SMALL, f"student.model={foreign}"])
    assert "tokenizer differs" in failed(recipe)["tokenizers"]
    asked = questions.write(recipe)
    with pytest.raises(UserError, match=r"2 of the student's mean another id.*opd\.steps = 0"):
        triples.write(recipe, asked)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]


def test_without_opd_another_tokenizer_is_welcome(data: Path, foreign: Path) -> None:
    assert not failed(load_recipe("tiny", [f"student.model={foreign}", "opd.steps=0", "opd.warmup=0"]))


def test_responses_longer_than_the_models_context_are_refused(data: Path) -> None:
    assert "context" in failed(load_recipe("tiny", ["triples.max_tokens=100000"]))["lengths"]


def test_a_model_that_is_none_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    failures = failed(load_recipe("tiny", [f"teacher.model={tmp_path}"]))
    assert list(failures) == ["teacher loads"] and "\n" not in failures["teacher loads"]


def _with_another_end(folder: Path) -> Path:
    """The shipped student, which the shipped teacher's end is none of."""
    shipped = shipped_path("world/base")
    assert shipped is not None
    shutil.copytree(shipped, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        values |= {"eos_token_id": 0} if "eos_token_id" in values else {}
        values |= {"eos_token": values["pad_token"]} if "eos_token" in values else {}
        (folder / name).write_text(json.dumps(values))
    return folder


@pytest.mark.trains
def test_a_student_with_another_end_is_taught_the_teachers(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("tiny", [*SMALL, f"student.model={_with_another_end(tmp_path / 'it')}"])
    [finding] = [finding for finding in check(recipe) if finding.name == "ends"]
    assert finding.passed and "the student ends with '<|im_end|>'" in finding.detail
    asked = questions.write(recipe)
    learnt = sft.train(recipe, triples.write(recipe, asked), asked)
    published = json.loads((learnt.path / "model" / "generation_config.json").read_text())
    assert published["eos_token_id"] == [2, 0]


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        (["sft.end=student"], r"set sft\.end = 'teacher'"),
        (["sft.steps=0", "sft.warmup=0"], r"let SFT teach it the teacher's end \(sft\.steps\)"),
    ],
)
def test_a_student_that_keeps_another_end_is_refused(
    data: Path, tmp_path: Path, changes: list[str], advice: str
) -> None:
    recipe = load_recipe("tiny", [f"student.model={_with_another_end(tmp_path / 'it')}", *changes])
    failures = failed(recipe)
    assert list(failures) == ["ends"]
    sentence = failures["ends"]
    assert re.search(r"'<\|endoftext\|>' \(id 0\), to which the teacher gives -\d+\.\d nats .*" + advice, sentence)


def passes(scope: Scope) -> str:
    return "fine"


def fails(scope: Scope) -> str:
    raise UserError("not fine")


def names(checks: Sequence[Check]) -> list[tuple[str, bool]]:
    scope = Scope(Recipe(), BOTH, ask=False)
    return [(finding.name, finding.passed) for finding in run(checks, scope)]


def test_a_check_is_left_out_when_a_need_failed_or_was_left_out() -> None:
    checks = [
        Check("first", fails, gives="teacher"),
        Check("beside", passes),
        Check("second", passes, ("teacher",), gives="student"),
        Check("third", passes, ("student",)),
    ]
    assert names(checks) == [("first", False), ("beside", True)]


def test_a_failure_that_nothing_needs_leaves_nothing_out() -> None:
    assert names([Check("first", fails), Check("second", passes, ("teacher",))]) == [("first", False), ("second", True)]


def test_a_check_that_does_not_apply_leaves_nothing_missing() -> None:
    absent = Check("first", fails, gives="teacher", when=lambda scope: False)
    assert names([absent, Check("second", passes, ("teacher",))]) == [("second", True)]


def test_a_later_check_gets_what_an_earlier_one_loaded() -> None:
    checks = [
        Check("loads", lambda scope: Loaded("loaded", 5), gives="student"),
        Check("reads", lambda scope: f"{scope.models}", ("student",)),
    ]
    findings = run(checks, Scope(Recipe(), BOTH, ask=False))
    assert [finding.detail for finding in findings] == ["loaded", "{'student': 5}"]


def test_every_need_is_given_by_an_earlier_check() -> None:
    needs: set[str | None] = set()
    for each in CHECKS:
        assert needs.issuperset(set(each.needs) - {each.gives}), each.name
        needs.add(each.gives)
    assert needs == {None, "folder", "teacher", "student", "address", "server"}


def _altered(folder: Path, model: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a shipped model with other weights."""
    shipped = shipped_path(model)
    assert shipped is not None
    shutil.copytree(shipped, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_teacher_with_a_weight_that_is_no_number_is_refused_before_its_first_answer(
    data: Path, tmp_path: Path
) -> None:
    def damage(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.0.self_attn.k_proj.weight"][1, 2] = float("nan")

    recipe = load_recipe("tiny", [*SMALL, f"teacher.model={_altered(tmp_path / 'it', 'world/teacher', damage)}"])
    asked = questions.write(recipe)
    with pytest.raises(UserError, match=r"teacher's weights hold numbers that are not finite .*k_proj"):
        triples.write(recipe, asked)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]
