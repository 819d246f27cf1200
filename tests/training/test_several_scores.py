"""Scores by several teachers, against the probabilities of each one's own forward pass, mixed in float64."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.models.chat_template import question_ids, teacher_format
from cohobate.models.loading import LoadedModel, load
from cohobate.models.logprobs import TokenScores
from cohobate.training.distributed import World
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import Scorer, ScoringInput
from cohobate.training.scoring.factory import build_scorers, head_of, scoring_teachers

TEACHERS = "teachers=[{name='a', model='world/teacher'}, {name='b', model='world/base', prompt='{question}'}]"
ROUTED = [TEACHERS, "route={share={a=0.5, b=0.5}}"]
MIXED = [*ROUTED, "opd.mixture={a=0.7, b=0.3}"]
WEIGHTS = {"a": 0.7, "b": 0.3}
QUESTIONS = ["What is 2 + 3?", "What is (4 - 1) * 7?", "Why?"]
WHOLE = TeacherNeeds(hidden=True, ghosts=True, top_k=4)


@pytest.fixture(scope="module")
def student() -> LoadedModel:
    return load("world/base", device="cpu")


def inputs(student: LoadedModel, teachers: list[str | None]) -> list[ScoringInput]:
    texts = ["2 + 3 = 5.\nAnswer: 5", "4 - 1 = 3. 3 * 7 = 21.", "So"]
    ids = [student.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [ScoringInput(*each) for each in zip(range(3), QUESTIONS, ids, teachers, strict=True)]


def own_logprobs(recipe: Recipe, name: str, item: ScoringInput) -> torch.Tensor:
    """log q [R, V] of one teacher under its own prompt, from transformers' forward pass."""
    own = recipe.by_teacher[name]
    model = load(own.teacher.model, device="cpu")
    prompt = question_ids(model.tokenizer, item.question, teacher_format(own))
    with torch.no_grad():
        logits: torch.Tensor = model.model(torch.tensor([[*prompt, *item.response_ids]])).logits[0]
    logits = logits[len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)


def scorer_of(recipe: Recipe, student: LoadedModel, needs: TeacherNeeds, folder: Path) -> tuple[Scorer, object]:
    world = World()
    teachers = scoring_teachers(recipe, recipe.opd, student, world)
    head = head_of(recipe, teachers, student)
    return build_scorers(recipe, recipe.opd, teachers, student, needs, folder, world, head), head


def assert_is(scores: TokenScores, expected: torch.Tensor, ids: list[int], head: object) -> None:
    def near(found: torch.Tensor, wanted: torch.Tensor) -> None:
        torch.testing.assert_close(found.double(), wanted, atol=2e-4, rtol=0)

    near(scores.logprobs, expected.gather(-1, torch.tensor(ids)[:, None])[:, 0])
    assert scores.hidden is not None and scores.top_ids is not None and scores.top_logprobs is not None
    assert callable(head)
    near(head(scores.hidden), expected)
    near(scores.top_logprobs, expected.topk(4).values)
    near(expected.gather(-1, scores.top_ids), expected.topk(4).values)
    assert scores.ghost_ids is not None and scores.ghost_ids.tolist() == expected.argmax(-1).tolist()


def test_each_response_has_the_scores_of_the_teacher_of_its_question(student: LoadedModel, tmp_path: Path) -> None:
    recipe = load_recipe("tiny", ROUTED)
    scorer, head = scorer_of(recipe, student, WHOLE, tmp_path)
    rows = inputs(student, ["a", "b", "a"])
    assert len(rows) == 3
    for item, scores in zip(rows, scorer.score(0, rows), strict=True):
        assert item.teacher is not None
        assert_is(scores, own_logprobs(recipe, item.teacher, item), list(item.response_ids), head)
    entries = {entry.model: entry for entry in scorer.entries("opd", rows, [scorer.prompt_tokens(i) for i in rows])}
    assert {name: entry.sequences for name, entry in entries.items()} == {"teacher a": 2, "teacher b": 1}
    assert entries["teacher b"].tokens == len(rows[1].response_ids)


def test_a_mixture_is_one_of_probabilities(student: LoadedModel, tmp_path: Path) -> None:
    recipe = load_recipe("tiny", MIXED)
    scorer, head = scorer_of(recipe, student, WHOLE, tmp_path)
    rows = inputs(student, [None] * 3)
    scored = scorer.score(0, rows)
    assert len(scored) == 3
    for item, scores in zip(rows, scored, strict=True):
        each = torch.stack([own_logprobs(recipe, name, item) for name in WEIGHTS], 1)  # [R, teachers, V]
        shares = torch.tensor([*WEIGHTS.values()], dtype=torch.float64).expand(len(each), -1)
        mixed = MixtureSameFamily(Categorical(shares), Categorical(logits=each))
        tokens = torch.arange(each.shape[-1])
        expected = torch.stack([mixed.log_prob(token.expand(len(each))) for token in tokens], 1)
        assert_is(scores, expected, list(item.response_ids), head)
    few, _ = scorer_of(recipe, student, TeacherNeeds(), tmp_path / "few")
    for one, other in zip(few.score(0, rows), scored, strict=True):
        assert one.hidden is None
        torch.testing.assert_close(one.logprobs, other.logprobs)


def test_scores_of_bfloat16_states_beside_float32_ones_are_each_model_s_own() -> None:
    from cohobate.training.scoring.several import MixedHead

    one, other = load("world/teacher", device="cpu"), load("world/base", device="cpu")
    other.model.to(torch.bfloat16)
    head = MixedHead([one, other])
    hidden = torch.randn(3, other.config.hidden_size, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))
    states = head.states({1: hidden})
    alone = other.model.lm_head(hidden).float().log_softmax(-1)
    torch.testing.assert_close(head(states), alone)
