"""Stages of the recovery experiment: chat prompts, replies to them, mid-training on a handbook, exams, the table.

Recovery itself is the stage opd, with the checkpoint before mid-training as teacher. That checkpoint is called the
reference: the recipe's student in the first round, the recovered student of the first round in the second.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Recover
from cohobate.core.answer_forms import form_identity
from cohobate.experiments.recovery.arms import Arm, ArmExam, of_arm
from cohobate.models.loading import model_fingerprint, model_path
from cohobate.models.template_revision import template_revision
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 3
TABLE_VERSION = 2
# Rehearsed practice questions per prompt of chat, in a second round.
_REHEARSAL = 0.5


def write_prompts(recipe: Recipe, rehearsed: Sequence[int] = ()) -> Artifact:
    """The chat prompts, and the practice questions of the handbooks `rehearsed` (numbers from 1) for a second round.

    Practice questions are prompts of the mix and of the recovery: the reference's replies to them keep its knowledge of
    those handbooks while another one is learnt.
    """
    from cohobate.experiments.recovery import data

    config = recipe.section(Recover)
    books = [data.handbook_identity(config.handbooks[number - 1])["practice"] for number in rehearsed]
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={"recover": data.chat_identity(config), "practised": books},
        parents=[],
        build=lambda workspace: _write_prompts(recipe, rehearsed, workspace),
    )


def _write_prompts(recipe: Recipe, rehearsed: Sequence[int], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.experiments.recovery import data

    config = recipe.section(Recover)
    frames = [data.chat_prompts(config)]
    for number, split in itertools.product(rehearsed, ("train", "fresh")):
        practice = data.practice_questions(config.handbooks[number - 1], number, split)
        # Repeated, so that every step holds some of them.
        times = max(1, round(_REHEARSAL * frames[0].filter(split=split).height / max(1, len(practice))))
        name = pl.col("question_id") + f"-{split}"
        frames += [practice.with_columns(question_id=name + f"-{n}") for n in range(times)]
    frame = pl.concat(frames)
    write_table(frame, QUESTIONS, workspace.path / "questions.parquet")
    return Outcome(len(frame), {"splits": dict(frame.group_by("split").len().sort("split").iter_rows())})


def answer_chat(recipe: Recipe, prompts: Artifact, reference: Artifact | None = None) -> Artifact:
    """Replies of the reference, the recipe's student unless an artifact is given, to the prompts of the mix."""
    config = recipe.section(Recover)
    checkpoint = _checkpoint(recipe, reference)
    identity = {
        "model": model_fingerprint(str(checkpoint)),
        "student": {**recipe.student.identity(), **template_revision(checkpoint, recipe.student)},
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }
    return Store().produce(
        "chat",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[prompts, *([reference] if reference else [])],
        build=lambda workspace: _answer_chat(recipe, checkpoint, prompts, workspace),
    )


def _answer_chat(recipe: Recipe, checkpoint: Path, prompts: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.experiments.recovery.exam import reply

    config = recipe.section(Recover)
    questions = pl.read_parquet(prompts.path / "questions.parquet").filter(pl.col("split") == "train")
    replies, cost = reply("chat", recipe, checkpoint, questions, config.max_tokens, config.temperature)
    write_parquet_atomic(replies.to_arrow(), workspace.path / "replies.parquet")
    return Outcome(
        len(replies), {"truncated": sum(replies["finish_reason"] == "length") / max(1, len(replies))}, [cost]
    )


def midtrain(recipe: Recipe, arm: Arm, number: int, replies: Artifact, reference: Artifact | None = None) -> Artifact:
    """The reference after training on handbook `number` (from 1), mixed with chat at the arm's share."""
    from cohobate.experiments.recovery import data

    chosen, config = of_arm(recipe, arm), recipe.section(Recover)
    checkpoint = _checkpoint(recipe, reference)
    identity = {
        **chosen.sft.identity(),
        "student": {**recipe.student.identity(), **template_revision(checkpoint, recipe.student)},
        "model": model_fingerprint(str(checkpoint)),
        "handbook": data.handbook_identity(config.handbooks[number - 1]),
        "words": config.words,
        "documents": arm.documents,
    }
    return Store().produce(
        "midtrain",
        recipe=chosen,
        version=VERSION,
        identity=identity,
        parents=[replies, *([reference] if reference else [])],
        build=lambda workspace: _midtrain(chosen, arm, number, replies, checkpoint, workspace),
    )


def _midtrain(
    recipe: Recipe, arm: Arm, number: int, replies: Artifact, checkpoint: Path, workspace: Workspace
) -> Outcome:
    from cohobate.core import progress
    from cohobate.experiments.recovery import data
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.training.loop import Run
    from cohobate.training.metrics import write_table
    from cohobate.training.objectives.base import off_policy
    from cohobate.training.trainee import Trainee

    prepare_torch(recipe.runtime)
    config, prompt_format = recipe.section(Recover), student_format(recipe)
    student = load(checkpoint, device=recipe.runtime.device, train=True, template=recipe.student.template)
    book = data.document_sequences(config.handbooks[number - 1], config.words, student.tokenizer, prompt_format)
    chat = data.chat_sequences(replies.path, student.tokenizer, prompt_format)
    source = data.MixedSource(book, chat, arm.documents, recipe.sft.batch, recipe.sft.seed)
    trainee = Trainee(student, recipe.sft, str(checkpoint))
    with progress.bar(f"midtrain {arm.name}", recipe.sft.steps, "steps") as bar:
        loss = off_policy(recipe.sft).loss(None)
        run = Run(trainee, source, loss, workspace.scratch, "midtrain", lambda step, spent: None, bar)
        done = run.train()
    trainee.publish(workspace.path)
    write_table(done.metrics, workspace.path / "metrics.parquet")
    last = done.metrics[-1]["loss"] if done.metrics else None
    return Outcome(done.step, {"arm": arm.name, "handbook": number, "sequences": len(book), "loss": last}, done.ledger)


def examine(recipe: Recipe, prompts: Artifact, model: Artifact | None = None) -> Artifact:
    """Scores of the recipe's student, or of an artifact's model, in chat and on every handbook."""
    from cohobate.experiments.recovery import data

    config, checkpoint = recipe.section(Recover), _checkpoint(recipe, model)
    identity = {
        "model": model_fingerprint(str(checkpoint)),
        "student": {**recipe.student.identity(), **template_revision(checkpoint, recipe.student)},
        "handbooks": [data.handbook_identity(book)["exam"] for book in config.handbooks],
        "max_tokens": config.max_tokens,
        **_graded_by(recipe),
    }
    return Store().produce(
        "exam",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[prompts, *([model] if model else [])],
        build=lambda workspace: _examine(recipe, prompts, checkpoint, workspace),
    )


def _graded_by(recipe: Recipe) -> dict[str, Any]:
    """The part of an exam's identity that says how chat prompts of a file are graded, and how many are asked."""
    from cohobate.evaluation.verifiers import verify

    config = recipe.section(Recover)
    if config.chat == "world":
        return {}
    verifier = {**verify.identity(recipe.triples.verifier), **form_identity(recipe.teacher.answer)}
    return {"verifier": verifier, "limit": config.limit}


def _examine(recipe: Recipe, prompts: Artifact, checkpoint: Path, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.experiments.recovery import data
    from cohobate.experiments.recovery.exam import grade, reply, scores

    config = recipe.section(Recover)
    chat = pl.read_parquet(prompts.path / "questions.parquet").filter(pl.col("split") == "test")
    if config.chat != "world" and config.limit:
        chat = chat.head(config.limit)
    books = [data.exam_questions(book, number) for number, book in enumerate(config.handbooks, 1)]
    questions: pl.DataFrame = pl.concat([chat, *(book.select(chat.columns) for book in books)])
    replies, cost = reply("exam", recipe, checkpoint, questions, config.max_tokens, temperature=0.0)
    graded = grade(replies, None if config.chat == "world" else recipe.triples.verifier, recipe.teacher.answer)
    write_parquet_atomic(graded.to_arrow(), workspace.path / "answers.parquet")
    return Outcome(len(graded), {"suites": scores(graded)}, [cost])


def write_table(recipe: Recipe, exams: Sequence[ArmExam]) -> Artifact:
    """Table and page of all exams, before and after mid-training and after recovery."""
    recipe.section(Recover)
    places = [[each.round, each.arm, each.seed, each.phase] for each in exams]
    return Store().produce(
        "recovery",
        recipe=recipe,
        version=TABLE_VERSION,
        identity={"places": places, "title": recipe.report.title or recipe.name},
        parents=[each.exam for each in exams],
        build=lambda workspace: _write_table(recipe, exams, workspace),
    )


def _write_table(recipe: Recipe, exams: Sequence[ArmExam], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.recovery.page import page, summarise
    from cohobate.report import experiment

    rows = [
        {"round": each.round, "arm": each.arm, "seed": each.seed, "phase": each.phase, **score}
        for each in exams
        for score in _suite_scores(each.exam)
    ]
    pl.DataFrame(rows).write_parquet(workspace.path / "scores.parquet", compression="zstd")
    lines = summarise(rows)
    experiment.write(page(recipe, lines, [each.exam for each in exams]), workspace.path)
    return Outcome(len(rows), {"lines": [line.as_row() for line in lines]})


def _suite_scores(exam: Artifact) -> list[dict[str, Any]]:
    return list(exam.manifest.named_metrics["suites"])


def _checkpoint(recipe: Recipe, artifact: Artifact | None) -> Path:
    """Folder of the artifact's model, else of the recipe's student."""
    return model_path(recipe.student.model) if artifact is None else artifact.path / "model"
