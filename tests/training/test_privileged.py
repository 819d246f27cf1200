"""Training by a teacher that is shown more than its student: gradients, prompts, ledger, and what has no room."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import QuestionsError
from cohobate.models.loading import load
from cohobate.models.model_cost import cost_of
from cohobate.stages import opd, questions, sft
from cohobate.store.artifacts import Artifact
from cohobate.training.optimizer import make_optimizer
from tests.support.method_runs import SMALL
from tests.support.question_files import save
from tests.support.tree import close

pytestmark = pytest.mark.trains

STEP = [*SMALL, "opd.steps=1", "opd.clip=1e9"]
# A student that answers: the shipped teacher.
ABLE = ["student.model=world/teacher", "sft.steps=0", "sft.warmup=0", "opd.max_tokens=100", "questions.max_depth=4"]
SHOWN = "teacher.privileged.prompt='{question} The answer is {gold_answer}. Now say it in your words.'"


@contextmanager
def gradients() -> Iterator[list[torch.Tensor]]:
    """The gradients with which the optimizers take their steps, in the order of their parameters."""
    taken: list[torch.Tensor] = []

    def take(optimizer: Any, *_: object) -> None:
        taken.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    hook = register_optimizer_step_pre_hook(take)
    try:
        yield taken
    finally:
        hook.remove()


def chat(tokenizer: Any, *messages: tuple[str, str]) -> list[int]:
    """The prompt, by transformers."""
    written = [{"role": role, "content": text} for role, text in messages]
    text = tokenizer.apply_chat_template(written, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def logits(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    """[T, V], by transformers, one sequence at a time."""
    found: torch.Tensor = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return found


def asked_of(artifact: Artifact) -> dict[str, dict[str, Any]]:
    frame = pl.read_parquet(artifact.path / "questions.parquet")
    return {row["question_id"]: row for row in frame.to_dicts()}


def test_the_gradient_is_that_of_the_reverse_kl_to_the_teacher_who_knows_the_answer(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(1/N) sum_t KL(p(. | x, y_<t) || q(. | x, c, y_<t)), written out with transformers on the logged rollouts."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    recipe = load_recipe("tiny", [*STEP, SHOWN])
    start, asked, taught = start_artifacts[1]
    with gradients() as found:
        made = opd.train(recipe, start, asked, taught)
    student, teacher = load(start.path / "model", train=True), load("world/teacher")
    log, known = pl.read_parquet(made.path / "rollouts.parquet"), asked_of(asked)
    losses, tokens, lengths = [], 0, []
    for row in log.to_dicts():
        question = known[row["question_id"]]
        told = f"{question['question']} The answer is {question['gold_answer']}. Now say it in your words."
        prompt = chat(teacher.tokenizer, ("user", told))
        lengths.append(len(prompt))
        p, q = (
            Categorical(logits=logits(model, before, row["response_ids"]))
            for model, before in ((student.model, row["prompt_ids"]), (teacher.model, prompt))
        )
        losses.append(kl_divergence(p, q).sum())
        tokens += len(row["response_ids"])
    loss = torch.stack(losses).sum() / tokens
    loss.backward()
    optimizer, _ = make_optimizer(student.model.parameters(), recipe.opd)
    expected = [p.grad for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(expected) > 10
    for own, other in zip(found, expected, strict=True):
        assert other is not None
        close(own, other, 2e-4)
    assert pl.read_parquet(made.path / "metrics.parquet")["loss"][0] == pytest.approx(float(loss.detach()), rel=1e-4)
    # The ledger counts the prompts that the teacher reads.
    assert log["teacher_prompt_tokens"].to_list() == lengths
    [scoring] = [entry for entry in made.manifest.ledger if entry["work"] == "scoring"]
    responses = [len(ids) for ids in log["response_ids"]]
    assert scoring["flops"] == cost_of(teacher.config).respond(lengths, responses)


def test_nothing_of_it_reaches_the_student_or_the_triples(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    start, asked, taught = start_artifacts[1]
    plain, shown = (opd.train(load_recipe("tiny", [*STEP, *more]), start, asked, taught) for more in ([], [SHOWN]))
    assert plain.fingerprint != shown.fingerprint
    logs = [pl.read_parquet(made.path / "rollouts.parquet") for made in (plain, shown)]
    # The first step's rollouts, prompts and responses, are the same token for token; only the scores are not.
    for column in ("question_id", "prompt_ids", "response_ids", "text"):
        assert logs[0][column].to_list() == logs[1][column].to_list()
    assert logs[0]["teacher_logprobs"].to_list() != logs[1]["teacher_logprobs"].to_list()
    assert all(b > a for a, b in zip(*(log["teacher_prompt_tokens"] for log in logs), strict=True))
    tokenizer = load(start.path / "model").tokenizer
    questions_by_id = asked_of(asked)
    for row in logs[1].to_dicts():
        assert row["prompt_ids"] == chat(tokenizer, ("user", questions_by_id[row["question_id"]]["question"]))
    # Neither questions nor triples are others.
    recipes = [load_recipe("tiny", [*STEP, *more]) for more in ([], [SHOWN])]
    assert recipes[0].teacher.identity() == recipes[1].teacher.identity()
    assert {questions.write(recipe).fingerprint for recipe in recipes} == {asked.fingerprint}


def test_the_verdict_on_the_students_own_rollout_is_shown(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    _, asked, taught = start_artifacts[1]
    context = "teacher.privileged.prompt='{question} Your attempt was {feedback}.'"
    recipe = load_recipe("tiny", [*STEP, *ABLE, context, "teacher.follow=0.5", "opd.prompts=16", "opd.max_tokens=50"])
    made = opd.train(recipe, sft.train(recipe, taught, asked), asked, taught)
    log, known = pl.read_parquet(made.path / "rollouts.parquet"), asked_of(asked)
    tokenizer = load("world/teacher").tokenizer
    for row in log.to_dicts():
        question = known[row["question_id"]]
        right = row["text"].rpartition("Answer: ")[2].strip() == question["gold_answer"]
        if row["finish_reason"] == "stop":
            assert row["feedback"] == ("correct" if right else "incorrect (another answer)")
        told = f"{question['question']} Your attempt was {row['feedback']}."
        assert row["teacher_prompt_tokens"] == len(chat(tokenizer, ("user", told)))
    assert log["feedback"].n_unique() > 1
    metrics = pl.read_parquet(made.path / "metrics.parquet")
    assert {"mean_reward", "mentions"} <= set(metrics.columns)


def of_file(tmp_path: Path, rows: list[dict[str, Any]], *changes: str) -> tuple[Recipe, Artifact]:
    path = save(rows, tmp_path / "questions.jsonl")
    recipe = load_recipe("tiny", [*STEP, "questions.source=file", f"questions.path={path}", *changes])
    return recipe, questions.write(recipe)


ROWS = [
    {"question": f"What is {n} + {n}?", "gold_answer": str(2 * n), "note": f"Twice {n}.", "split": "fresh"}
    for n in range(8)
]
LONG, BARE = {**ROWS[0], "note": "Think well. " * 200}, {**ROWS[1], "note": None}


def test_prompts_that_only_the_teacher_cannot_read_are_set_aside_and_counted(
    start_artifacts: tuple[Path, list[Artifact]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    context = "teacher.privileged.prompt='{note} {question}'"
    recipe, asked = of_file(tmp_path, [LONG, BARE, *ROWS[2:]], context)
    made = opd.train(recipe, start_artifacts[1][0], asked, start_artifacts[1][2])
    said = capsys.readouterr().err
    assert "opd: 1 of 8 rows are set aside, since they have no value for {note}" in said
    assert "opd, teacher: 1 of 7 questions are set aside, since their prompts leave no room" in said
    chosen = set(pl.read_parquet(made.path / "rollouts.parquet")["question_id"])
    left_out = {i for i, row in asked_of(asked).items() if row["question"] in (LONG["question"], BARE["question"])}
    assert len(left_out) == 2 and chosen and not chosen & left_out


def test_feedback_without_room_for_its_reason_is_its_label(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notes leave exactly room for the shortest feedback and the longest rollout, which is cut."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    teacher, most = load("world/teacher"), 8
    context_of = teacher.config.max_position_embeddings

    def length(note: str, question: str, feedback: str = "undecided") -> int:
        return len(chat(teacher.tokenizer, ("user", f"{note} {question} {feedback}")))

    def longest(question: str) -> str:
        notes = [" ".join(["x"] * count) for count in range(context_of // 3, context_of)]
        return [note for note in notes if length(note, question) + most <= context_of][-1]

    rows = [{**row, "note": longest(str(row["question"]))} for row in ROWS]
    context = "teacher.privileged.prompt='{note} {question} {feedback}'"
    recipe, asked = of_file(tmp_path, rows, context, f"opd.max_tokens={most}")
    made = opd.train(recipe, start_artifacts[1][0], asked, start_artifacts[1][2])
    log, notes_of = pl.read_parquet(made.path / "rollouts.parquet"), {row["question"]: row["note"] for row in rows}
    assert set(log["feedback"]) == {"undecided (truncated)"}
    for row in log.to_dicts():
        question = asked_of(asked)[row["question_id"]]["question"]
        short, full = (length(notes_of[question], question, text) for text in ("undecided", row["feedback"]))
        assert row["teacher_prompt_tokens"] == short
        assert short + most <= context_of < full + most


@pytest.mark.parametrize("name", ["note", "gold_response"])
def test_a_name_that_the_questions_lack_is_refused_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    rows = [{key: value for key, value in row.items() if key != "note"} for row in ROWS]
    with pytest.raises(
        QuestionsError, match=rf"teacher.privileged names \{{{name}\}}.*\{{question\}}, \{{gold_answer\}}"
    ):
        of_file(tmp_path, rows, f"teacher.privileged.prompt='{{question}} {{{name}}}'")


def test_soft_labels_of_triples_are_those_under_the_context_too(
    start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that reads the gold response, which is its own text, is surer of it."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    _, asked, taught = start_artifacts[1]
    soft = ["sft.objective=logit_kd", "sft.steps=1", "opd.steps=0", "opd.warmup=0", "sft.warmup=0"]
    context = "teacher.privileged.prompt='{gold_response} {question}'"
    plain, shown = (sft.train(load_recipe("tiny", [*SMALL, *soft, *more]), taught, asked) for more in ([], [context]))
    flops = [sum(e["flops"] for e in made.manifest.ledger if e["work"] == "scoring") for made in (plain, shown)]
    assert flops[1] > 1.2 * flops[0]
    losses = [pl.read_parquet(made.path / "metrics.parquet")["loss"][0] for made in (plain, shown)]
    assert losses[0] != losses[1]
