"""Stages of the single-prompt experiment: the one prompt, triples without rationales, held-out scores, the table."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Single
from cohobate.core.answer_forms import form_identity
from cohobate.core.errors import QuestionsError
from cohobate.experiments.single_prompt.arms import START, ArmExam
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 2
TABLE_VERSION = 3


def choose_prompt(recipe: Recipe, questions: Artifact) -> Artifact:
    """Questions with the one prompt alone in the splits train and fresh, and the validation split as it is."""
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={"single": recipe.section(Single).question},
        parents=[questions],
        build=lambda workspace: _choose_prompt(recipe, questions, workspace),
    )


def _choose_prompt(recipe: Recipe, questions: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import scan_table, write_table
    from cohobate.core.schema import QUESTIONS

    frame = scan_table(questions.path / "questions.parquet", QUESTIONS).collect()
    fresh, position = frame.filter(pl.col("split") == "fresh"), recipe.section(Single).question
    if position >= len(fresh):
        raise QuestionsError(
            f"{questions.id} has {len(fresh)} fresh questions, so there is no single.question {position}"
        )
    chosen = fresh[position : position + 1]
    parts = [chosen, chosen.with_columns(split=pl.lit("train")), frame.filter(pl.col("split") == "validation")]
    prompt = pl.concat(parts)
    write_table(prompt, QUESTIONS, workspace.path / "questions.parquet")
    return Outcome(len(prompt), {"question": chosen["question"][0], "gold_answer": chosen["gold_answer"][0]})


def without_rationales(recipe: Recipe, triples: Artifact) -> Artifact:
    """The triples of the start: the share `single.bare`, drawn by the hash of the question, is the answer only."""
    if not recipe.section(Single).bare:
        return triples
    return Store().produce(
        "triples",
        recipe=recipe,
        version=VERSION,
        identity={"bare": recipe.section(Single).bare},
        parents=[triples],
        build=lambda workspace: _without_rationales(recipe, triples, workspace),
    )


def _without_rationales(recipe: Recipe, triples: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import scan_table, write_table
    from cohobate.core.schema import TRIPLES

    frame = scan_table(triples.path / "triples.parquet", TRIPLES).collect()
    share = recipe.section(Single).bare
    drawn = pl.Series([_uniform(question) < share for question in frame["question_id"]], dtype=pl.Boolean)
    cut = drawn & frame["answer"].is_not_null()
    frame = frame.with_columns(
        response=pl.when(cut).then("Answer: " + pl.col("answer")).otherwise("response"),
        rationale=pl.when(cut).then(None).otherwise("rationale"),
        rationale_source=pl.when(cut).then(None).otherwise("rationale_source"),
    )
    write_table(frame, TRIPLES, workspace.path / "triples.parquet")
    # The answers are the same, and so are their verdicts.
    for name in ("verdicts", "aggregates", "failures"):
        shutil.copy(triples.path / f"{name}.parquet", workspace.path / f"{name}.parquet")
    return Outcome(len(frame), {"without_rationale": int(cut.sum())})


def _uniform(question: str) -> float:
    """A hash of the question's id in [0, 1), which does not depend on the other questions."""
    return int.from_bytes(hashlib.sha256(f"bare\0{question}".encode()).digest()[:8], "big") / 2**64


def measure_held_out(recipe: Recipe, questions: Artifact, model: Artifact) -> Artifact:
    """Greedy and sampled scores of a trained student on held-out questions."""
    from cohobate.evaluation.verifiers import verify

    config = recipe.evaluation
    identity = {
        "limit": recipe.section(Single).limit,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
        "student": recipe.student.identity(),
        "format": [recipe.sft.format, recipe.sft.separator],
        "verifier": {**verify.identity(recipe.triples.verifier), **form_identity(recipe.teacher.answer)},
    }
    return Store().produce(
        "exam",
        recipe=recipe,
        version=VERSION,
        identity={"single": identity},
        parents=[questions, model],
        build=lambda workspace: _measure_held_out(recipe, questions, model, workspace),
    )


def _measure_held_out(recipe: Recipe, questions: Artifact, model: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.evaluation.accuracy import Exam, answer, summarise
    from cohobate.evaluation.samplers import open_sampler
    from cohobate.models.chat_template import student_format
    from cohobate.models.model_cost import cost_of
    from cohobate.models.sampling.sampler import Decoding
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.store.compute_ledger import entry, total

    prepare_torch(recipe.runtime)
    config = recipe.evaluation
    frame = pl.read_parquet(questions.path / "questions.parquet").filter(pl.col("split") == "test")
    held_out = frame.head(recipe.section(Single).limit)
    scores: dict[str, Any] = {}
    given: dict[str, pl.DataFrame] = {}
    with closing(open_sampler(recipe, model.path / "model", "student")) as student:
        for decoding, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            exam = Exam(Decoding(config.max_tokens, temperature), 1, config.seed, recipe.triples.verifier)
            given[decoding] = answer(student, student_format(recipe), held_out, exam)
    frames, spent = [], []
    for decoding, answers in given.items():
        lengths = answers["prompt_tokens"].to_list(), answers["tokens"].to_list()
        spent.append(entry("single", "student", "evaluation", cost_of(student.model.config), *lengths))
        frames.append(answers.with_columns(decoding=pl.lit(decoding)))
        summary = summarise(answers)
        accuracy = summary.accuracy.as_row("accuracy")
        with_rationale = _has_rationale(recipe, answers).sum() / len(answers)
        scores[decoding] = {
            "n": summary.n,
            **accuracy,
            "mean_tokens": summary.mean_tokens,
            "worked_out": with_rationale,
        }
    write_parquet_atomic(pl.concat(frames).to_arrow(), workspace.path / "answers.parquet")
    return Outcome(len(held_out), scores, total(spent))


def _has_rationale(recipe: Recipe, answers: pl.DataFrame) -> pl.Series:
    """Whether each answer has a rationale."""
    import polars as pl

    from cohobate.core.answer_parsing import parse, parse_plain

    config = recipe.sft
    read = parse if config.format == "chat" else partial(parse_plain, separator=config.separator)
    return pl.Series([read(text).rationale is not None for text in answers["response"]], dtype=pl.Boolean)


def write_table(recipe: Recipe, prompt: Artifact, exams: Sequence[ArmExam]) -> Artifact:
    """Table and page of all exams."""
    return Store().produce(
        "single",
        recipe=recipe,
        version=TABLE_VERSION,
        identity={"places": [[each.arm, each.seed] for each in exams], **recipe.section(Single).identity()},
        parents=[prompt, *(part for each in exams for part in (each.exam, each.model))],
        build=lambda workspace: _write_table(recipe, prompt, exams, workspace),
    )


def _write_table(recipe: Recipe, prompt: Artifact, exams: Sequence[ArmExam], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.single_prompt.page import page, summarise
    from cohobate.report import experiment

    rows = [
        {
            "arm": each.arm,
            "seed": each.seed,
            "decoding": decoding,
            **_losses(each),
            "right_of_worked_out": _correct_with_rationale(recipe, each.exam, decoding),
            **score,
        }
        for each in exams
        for decoding, score in each.exam.manifest.named_metrics.items()
    ]
    pl.DataFrame(rows).write_parquet(workspace.path / "scores.parquet", compression="zstd")
    arms = summarise(rows)
    experiment.write(page(recipe, prompt, arms, [prompt, *(each.exam for each in exams)]), workspace.path)
    return Outcome(len(rows), {"lines": [arm.as_row() for arm in arms]})


def _losses(exam: ArmExam) -> dict[str, float | None]:
    """Loss of the first and the last step; None for the start, whose triples are others."""
    import polars as pl

    if exam.arm == START:
        return {"first_loss": None, "last_loss": None}
    losses = pl.read_parquet(exam.model.path / "metrics.parquet")["loss"]
    return {"first_loss": losses[0], "last_loss": losses[-1]}


def _correct_with_rationale(recipe: Recipe, exam: Artifact, decoding: str) -> float | None:
    """Share of correct answers among those with a rationale; None where none has one."""
    import polars as pl

    answers = pl.read_parquet(exam.path / "answers.parquet").filter(pl.col("decoding") == decoding)
    answers = answers.filter(_has_rationale(recipe, answers))
    return float((answers["verdict"] == "correct").sum()) / len(answers) if len(answers) else None
