"""Recover: chat prompts, the earlier self's replies, mid-training on a handbook, exams, and the table of all arms.

Recovery itself is the stage opd, with the earlier self as teacher.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Recover
from cohobate.experiments.recovery.arms import Arm, of_arm
from cohobate.models.loading import model_fingerprint, model_path
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 2
# Practice questions of an earlier handbook for a prompt of chat, in a second round.
_PRACTISED = 0.5


def prompts(recipe: Recipe, practised: Sequence[int] = ()) -> Artifact:
    """The chat prompts; for a second round also the practice questions of the handbooks `practised`.

    These are among the prompts of the mix as well as of the recovery: the earlier self's replies to them keep what it
    knows, while another handbook is learnt and after.
    """
    from cohobate.experiments.recovery import data

    config = recipe.section(Recover)
    books = [data.handbook_identity(config.handbooks[number - 1])["practice"] for number in practised]
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={"recover": data.chat_identity(config), "practised": books},
        parents=[],
        build=lambda workspace: _write_prompts(recipe, practised, workspace),
    )


def _write_prompts(recipe: Recipe, practised: Sequence[int], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.experiments.recovery import data

    config = recipe.section(Recover)
    frames = [data.chat_prompts(config)]
    for number, split in itertools.product(practised, ("train", "fresh")):
        known = data.practised(config.handbooks[number - 1], number, split)
        # So often that what was learnt before is asked in every step.
        times = max(1, round(_PRACTISED * frames[0].filter(split=split).height / max(1, len(known))))
        named = pl.col("question_id") + f"-{split}"
        frames += [known.with_columns(question_id=named + f"-{n}") for n in range(times)]
    frame = pl.concat(frames)
    write_table(frame, QUESTIONS, workspace.path / "questions.parquet")
    return Outcome(len(frame), {"splits": dict(frame.group_by("split").len().sort("split").iter_rows())})


def chat(recipe: Recipe, asked: Artifact, earlier: Artifact | None = None) -> Artifact:
    """What the earlier self (the recipe's student, or an artifact's) replies to the prompts of the mix."""
    config = recipe.section(Recover)
    place = _model(recipe, earlier)
    identity = {
        "model": model_fingerprint(str(place)),
        "student": recipe.student.identity(),
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }
    return Store().produce(
        "chat",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[asked, *([earlier] if earlier else [])],
        build=lambda workspace: _reply(recipe, place, asked, workspace),
    )


def _reply(recipe: Recipe, place: Path, asked: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.experiments.recovery.exam import reply
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.torch_setup import prepare_torch

    prepare_torch(recipe.runtime)
    config = recipe.section(Recover)
    questions = pl.read_parquet(asked.path / "questions.parquet").filter(pl.col("split") == "train")
    model = load(place, device=recipe.runtime.device)
    replies, spent = reply(model, student_format(recipe), questions, config.max_tokens, config.temperature, 0)
    write_parquet_atomic(replies.to_arrow(), workspace.path / "replies.parquet")
    return Outcome(
        len(replies), {"truncated": sum(replies["finish_reason"] == "length") / max(1, len(replies))}, [spent]
    )


def midtrain(recipe: Recipe, arm: Arm, number: int, replies: Artifact, earlier: Artifact | None = None) -> Artifact:
    """The student (or the artifact `earlier`) after reading handbook `number`, mixed with chat at the arm's share."""
    from cohobate.experiments.recovery import data

    chosen, config = of_arm(recipe, arm), recipe.section(Recover)
    place = _model(recipe, earlier)
    identity = {
        **chosen.sft.identity(),
        "student": recipe.student.identity(),
        "model": model_fingerprint(str(place)),
        "handbook": data.handbook_identity(config.handbooks[number - 1]),
        "words": config.words,
        "documents": arm.documents,
    }
    return Store().produce(
        "midtrain",
        recipe=chosen,
        version=VERSION,
        identity=identity,
        parents=[replies, *([earlier] if earlier else [])],
        build=lambda workspace: _midtrain(chosen, arm, number, replies, place, workspace),
    )


def _midtrain(recipe: Recipe, arm: Arm, number: int, replies: Artifact, place: Path, workspace: Workspace) -> Outcome:
    from cohobate.core import progress
    from cohobate.experiments.recovery import data
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.training.loop import Run
    from cohobate.training.metrics import write_table
    from cohobate.training.objectives.sft import cross_entropy
    from cohobate.training.trainee import Trainee

    prepare_torch(recipe.runtime)
    config, prompt_format = recipe.section(Recover), student_format(recipe)
    student = load(place, device=recipe.runtime.device, train=True)
    book = data.document_rows(config.handbooks[number - 1], config.words, student.tokenizer, prompt_format)
    source = data.Mixed(
        book,
        data.chat_rows(replies.path, student.tokenizer, prompt_format),
        arm.documents,
        recipe.sft.batch,
        recipe.sft.seed,
    )
    trainee = Trainee(student, recipe.sft, str(place))
    with progress.bar(f"midtrain {arm.name}", recipe.sft.steps, "steps") as bar:
        run = Run(trainee, source, cross_entropy, workspace.scratch, "midtrain", lambda step, spent: None, bar)
        done = run.train()
    trainee.publish(workspace.path)
    write_table(done.metrics, workspace.path / "metrics.parquet")
    last = done.metrics[-1]["loss"] if done.metrics else None
    return Outcome(done.step, {"arm": arm.name, "handbook": number, "sequences": len(book), "loss": last}, done.ledger)


def exam(recipe: Recipe, asked: Artifact, model: Artifact | None = None) -> Artifact:
    """The scores of the student, or of the model of an artifact, in chat and on every handbook."""
    from cohobate.experiments.recovery import data

    config, place = recipe.section(Recover), _model(recipe, model)
    identity = {
        "model": model_fingerprint(str(place)),
        "student": recipe.student.identity(),
        "handbooks": [data.handbook_identity(book)["exam"] for book in config.handbooks],
        "max_tokens": config.max_tokens,
    }
    return Store().produce(
        "exam",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[asked, *([model] if model else [])],
        build=lambda workspace: _examine(recipe, asked, place, workspace),
    )


def _examine(recipe: Recipe, asked: Artifact, place: Path, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.experiments.recovery import data
    from cohobate.experiments.recovery.exam import grade, reply, scores
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.torch_setup import prepare_torch

    prepare_torch(recipe.runtime)
    config = recipe.section(Recover)
    frame = pl.read_parquet(asked.path / "questions.parquet").filter(pl.col("split") == "test")
    books = [data.examined(book, number) for number, book in enumerate(config.handbooks, 1)]
    questions: pl.DataFrame = pl.concat([frame, *(book.select(frame.columns) for book in books)])
    model = load(place, device=recipe.runtime.device)
    answered, spent = reply(model, student_format(recipe), questions, config.max_tokens, 0.0, 0)
    graded = grade(answered)
    write_parquet_atomic(graded.to_arrow(), workspace.path / "answers.parquet")
    found: dict[str, Any] = {"suites": scores(graded)}
    return Outcome(len(graded), found, [spent])


def _model(recipe: Recipe, artifact: Artifact | None) -> Path:
    return model_path(recipe.student.model) if artifact is None else artifact.path / "model"
