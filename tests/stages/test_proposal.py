"""Proposed recipes: the file says what the values are, splits add up and have rows, verifiers fit the answers."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.config import Questions
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.sources.read import read
from cohobate.stages.proposal import Draft, Wishes, propose
from cohobate.stages.proposal.questions import shares
from tests.support.question_files import save

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
VALUE = st.recursive(SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner)))


@settings(max_examples=50)
@given(st.dictionaries(TEXT, VALUE, min_size=1, max_size=4))
def test_any_value_is_read_back_from_the_file_as_it_was(values: dict[str, Any]) -> None:
    draft = Draft()
    for key, value in values.items():
        draft.sections.setdefault("part", {})[key] = (value, "why")
    assert tomllib.loads(draft.text(["head"])) == {"part": values}


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("rows", [10, 30, 199, 200, 5000, 1_000_000])
def test_the_shares_add_up_and_leave_enough_to_test(rows: int, on_policy: bool) -> None:
    split = shares(rows, on_policy=on_policy)
    assert sum(split.values()) == pytest.approx(1, abs=1e-9) and min(split.values()) >= 0
    assert (split["fresh"] > 0) == on_policy
    assert min(2, rows // 10) <= round(split["test"] * rows) <= 1000


def proposed(folder: Path, golds: list[Any], **wishes: Any) -> dict[str, Any]:
    """The values of the recipe for questions with these answers, of the shipped teacher and student."""
    rows = [{"question": f"Question {n}?", "answer": gold} for n, gold in enumerate(golds)]
    questions = str(save(rows, folder / "rows.jsonl"))
    asked = {"questions": questions, "teacher": "world/teacher", "student": "world/base", "gpu": "cpu-core"}
    proposal = propose(Wishes(**{**asked, **wishes}), "mine")
    values = tomllib.loads(proposal.draft.text(["head"]))
    assert values == proposal.draft.values()
    return values


@pytest.mark.serves
@pytest.mark.parametrize(
    ("golds", "verifier"),
    [
        (["5", "1,200", "3/4", "12 %", "-7"] * 4, "numeric"),
        ([r"\frac{1}{2}", "x^2 + 1", "5", r"\sqrt{2}"] * 5, "math"),
        (["A", "C", "B", "D"] * 5, "exact"),
        (["Paris", "New York", "the Rhine", "a red fox"] * 5, "phrase"),
        (['{"any": ["Paris"]}', '{"words": [3, 25]}'] * 10, "checks"),
        ([None] * 20, "judge"),
    ],
)
def test_the_verifier_fits_the_answers(golds: list[Any], verifier: str, tmp_path: Path) -> None:
    assert proposed(tmp_path, golds)["triples"]["verifier"]["name"] == verifier


@pytest.mark.slow
def test_every_split_has_rows_and_a_few_questions_without_an_answer_are_not_asked(tmp_path: Path) -> None:
    values = proposed(tmp_path, [*map(str, range(28)), None, ""], nightly=True)
    assert values["triples"]["without_gold"] == "skip" and "gate" in values
    assert values["opd"]["objective"] == "exact" and values["opd"]["steps"] > 0
    table = read(Questions.model_validate(values["questions"])).questions
    assert set(table["split"]) == {"train", "fresh", "validation", "test"} and len(table) == 30


@pytest.mark.slow
def test_only_where_answers_lack_the_whole_text_is_one(tmp_path: Path) -> None:
    model = "http://127.0.0.1:9/v1"
    asked = {"teacher": model, "teacher_model": "m", "verifier": "judge"}
    judged, unanswered = (proposed(tmp_path, golds, **asked) for golds in (["5"] * 20, [None] * 20))
    for values in (judged, unanswered):
        assert values["triples"]["verifier"]["judge"] == {"kind": "endpoint", "model": "m", "base_url": model}
    assert "Answer:" in judged["teacher"]["prompt"] and "answer" not in judged["teacher"]
    assert (unanswered["teacher"]["answer"], unanswered["sft"]["select"]) == ("response", "all")


@pytest.mark.slow
def test_what_set_says_wins_and_stands_in_the_file(tmp_path: Path) -> None:
    overrides = ["triples.samples=1", "opd.steps=0", "questions.split.test=0.5", "questions.split.train=0.5"]
    overrides += ["questions.split.fresh=0", "questions.split.validation=0", "triples.verifier.tolerance=0.5"]
    overrides += ["questions.columns.system=answer", "opd.vllm.sleep=true", 'description="a \\"new\\" one"']
    values = proposed(tmp_path, list(map(str, range(30))), overrides=overrides)
    assert values["questions"]["columns"] == {"gold_answer": "answer", "system": "answer"}
    assert values["triples"]["verifier"] == {"name": "numeric", "tolerance": 0.5}
    assert values["description"] == 'a "new" one' and values["opd"]["vllm"] == {"sleep": True}
    assert (values["triples"]["samples"], values["opd"]["steps"]) == (1, 0)
    assert values["questions"]["split"] == {"test": 0.5, "train": 0.5, "fresh": 0, "validation": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("golds", "wishes", "error", "part"),
    [
        (["1"] * 9, {}, QuestionsError, "too few"),
        (["1"] * 20, {"verifier": "exakt"}, RecipeError, "--verifier exakt"),
        (["1"] * 20, {"teacher_model": "x"}, RecipeError, "--teacher-model is for a server"),
        (["1"] * 20, {"price": (1.0, 2.0)}, RecipeError, "--price is for a server"),
        (["1"] * 20, {"teacher": "ollama:qwen3:8b", "price": (0.0, 0.0)}, RecipeError, "--price is for the address"),
        (["1"] * 20, {"teacher": "ollama:q", "teacher_model": "x"}, RecipeError, "--teacher-model is for the address"),
        (["1"] * 20, {"gpu": "z80"}, RecipeError, "--gpu z80"),
        (["1"] * 20, {"teacher": "ollama:"}, RecipeError, "ollama list"),
        (["1"] * 20, {"overrides": ["sft.stepz=3"]}, RecipeError, "sft.steps"),
        (["1"] * 20, {"overrides": ["sft.steps.x=3"]}, RecipeError, "'sft.steps' is a value"),
        (["1"] * 20, {"overrides": ["sft=3"]}, RecipeError, "is a section"),
        (["1"] * 20, {"overrides": ["sft={steps = 3, lr = 1}"]}, RecipeError, "one by one"),
        (["1"] * 20, {"overrides": ["student.model=x"]}, RecipeError, "--student"),
    ],
)
def test_what_cannot_be_used_is_refused(
    golds: list[str], wishes: dict[str, Any], error: type[Exception], part: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=part):
        proposed(tmp_path, golds, **wishes)


@pytest.mark.slow
def test_a_split_of_the_file_stays_and_one_that_leaves_nothing_to_test_is_refused(tmp_path: Path) -> None:
    rows = [{"question": f"Q {n}?", "answer": "1", "split": "test" if n % 2 else "train"} for n in range(20)]
    asked: dict[str, Any] = {"teacher": "world/teacher", "student": "world/base", "gpu": "cpu-core"}
    values = propose(Wishes(str(save(rows, tmp_path / "a.jsonl")), **asked), "mine").draft.values()
    assert "split" not in values["questions"] and values["opd"]["steps"] == 0
    rows = [{**row, "split": "train"} for row in rows]
    with pytest.raises(QuestionsError, match="no question to test with"):
        propose(Wishes(str(save(rows, tmp_path / "b.jsonl")), **asked), "mine")
