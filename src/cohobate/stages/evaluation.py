"""Evaluation: base, students and teacher on the same questions -> answers.parquet; scores in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.core.answer_forms import form_identity
from cohobate.core.errors import QuestionsError
from cohobate.evaluation.verifiers import verify
from cohobate.models.loading import model_fingerprint, model_path
from cohobate.models.template_revision import template_revision
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace
from cohobate.store.manifest import PROMOTED, Score

if TYPE_CHECKING:
    import polars as pl

    from cohobate.evaluation.samplers import ModelSampler, Role
    from cohobate.store.compute_ledger import LedgerEntry

VERSION = 2


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate. role: whose prompt it is given; recipe: with a single teacher, where it is one."""

    name: str
    path: Path
    role: Role
    recipe: Recipe


def evaluate(
    recipe: Recipe,
    questions: Artifact,
    students: Sequence[Artifact],
    *,
    alone: bool = False,
    before: Artifact | None = None,
) -> Artifact:
    """Evaluate the base student, each of `students`, and the teacher unless it is behind an endpoint.

    alone: without base and teacher, which the evaluation of another student contains already. before: the promoted
    student, whose answers to the same questions the gate compares with; it is called `promoted`.
    """
    outside = {} if alone else {"base": model_fingerprint(recipe.student.model)}
    prompts: dict[str, Any] = {
        "student": {
            **recipe.student.identity(),
            **template_revision(model_path(recipe.student.model), recipe.student),
        },
        "format": [recipe.sft.format, recipe.sft.separator],
    }
    verifier = {**verify.identity(recipe.triples.verifier), **form_identity(recipe.teacher.answer)}
    candidates = _candidates(recipe, students, alone=alone)
    for each in candidates:
        if each.role == "teacher":
            teacher = each.recipe.teacher
            outside[each.name] = model_fingerprint(teacher.model)
            prompts[each.name] = {**teacher.identity(), **template_revision(each.path, teacher)}
    if before:
        candidates = [Candidate(PROMOTED, before.path / "model", "student", recipe), *candidates]
    return Store().produce(
        "evaluation",
        recipe=recipe,
        version=VERSION,
        identity={
            **recipe.evaluation.identity(),
            **{"models": outside, "prompts": prompts, "verifier": verifier},
            **({PROMOTED: before.fingerprint} if before else {}),
        },
        parents=[questions, *students, *([before] if before else [])],
        build=lambda workspace: _build(recipe, questions, candidates, workspace),
    )


def _build(recipe: Recipe, questions: Artifact, candidates: list[Candidate], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress, schema
    from cohobate.core.parquet import write_table
    from cohobate.evaluation.accuracy import judge_ledger
    from cohobate.models.torch_setup import prepare_torch

    prepare_torch(recipe.runtime)
    suites = _with_room(recipe, _suites(recipe, questions), candidates)
    questions_per_candidate = sum(map(len, suites.values()))
    samples = {"greedy": 1, "sampled": recipe.evaluation.samples}
    responses = len(candidates) * questions_per_candidate * sum(samples[d] for d in recipe.evaluation.decodings)
    with progress.bar("evaluation", responses, "answers") as bar:
        frames = [frame for candidate in candidates for frame in _measure(recipe, candidate, suites, workspace, bar)]
    answers = pl.concat(frames)
    write_table(answers, schema.ANSWERS, workspace.path / "answers.parquet")
    every_question = pl.concat(suites.values())
    judging = judge_ledger(recipe.triples.verifier, every_question, answers, "evaluation", workspace.fingerprint)
    ledger = [*_ledger(candidates, answers), *judging]
    return Outcome(len(answers), ledger=ledger, scores=_scores(recipe, answers))


def _candidates(recipe: Recipe, students: Sequence[Artifact], *, alone: bool) -> list[Candidate]:
    trained = [Candidate(student.stage, student.path / "model", "student", recipe) for student in students]
    if alone:
        return trained
    base = Candidate("base", model_path(recipe.student.model), "student", recipe)
    teachers = [
        Candidate(recipe.label(name), model_path(own.teacher.model), "teacher", own)
        for name, own in recipe.by_teacher.items()
        if own.teacher.is_folder  # others are paid by the token: their triples show their accuracy
    ]
    return [base, *trained, *teachers]


def _suites(recipe: Recipe, questions: Artifact) -> dict[str, pl.DataFrame]:
    """The questions of each split that has any."""
    import polars as pl

    frame = pl.read_parquet(questions.path / "questions.parquet")
    suites: dict[str, pl.DataFrame] = {}
    for split in recipe.evaluation.splits:
        chosen = frame.filter(pl.col("split") == split)
        limit = recipe.evaluation.limit
        if len(chosen):
            suites[split] = chosen if limit is None else chosen.head(limit)
    if not suites:
        raise QuestionsError(
            f"{questions.id} has no question to evaluate on in {', '.join(recipe.evaluation.splits)}; give some in "
            "questions.split, or for documents in questions.documents.exam, or run with --until before evaluation"
        )
    return suites


def _with_room(recipe: Recipe, suites: dict[str, pl.DataFrame], candidates: list[Candidate]) -> dict[str, pl.DataFrame]:
    """The suites without the questions whose prompts fill a candidate's context: all answer the same questions."""
    from cohobate.models.context_room import set_aside
    from cohobate.models.loading import outline

    models = [
        (outline(each.path, template=getattr(each.recipe, each.role).template), _prompt_format(each))
        for each in candidates
    ]
    fitting = {split: set_aside(f"evaluation, {split}", rows, models) for split, rows in suites.items()}
    fitting = {split: rows for split, rows in fitting.items() if len(rows)}
    if not fitting:
        raise QuestionsError("every question to evaluate on fills the context of one of the models")
    return fitting


def _measure(
    recipe: Recipe,
    candidate: Candidate,
    suites: dict[str, pl.DataFrame],
    workspace: Workspace,
    bar: Any,
) -> list[pl.DataFrame]:
    """The answers of one candidate; a suite that an interrupted run has finished is read, not answered again."""
    import polars as pl

    from cohobate.core.sealed_files import is_whole, write_parquet_sealed
    from cohobate.evaluation.accuracy import Exam, answer
    from cohobate.evaluation.samplers import open_sampler
    from cohobate.models.sampling.sampler import Decoding

    config = recipe.evaluation
    sampler: ModelSampler | None = None
    frames = []
    with ExitStack() as stack:
        for split, questions in suites.items():
            for decoding in config.decodings:
                path = workspace.scratch / f"{candidate.name}-{split}-{decoding}.parquet"
                greedy = decoding == "greedy"
                samples = 1 if greedy else config.samples
                if is_whole(path):
                    bar.advance(len(questions) * samples)
                else:
                    if sampler is None:
                        sampler = stack.enter_context(
                            closing(open_sampler(candidate.recipe, candidate.path, candidate.role))
                        )
                    chosen = Decoding(config.max_tokens, 0 if greedy else config.temperature)
                    exam = Exam(chosen, samples, config.seed, recipe.triples.verifier, workspace.fingerprint)
                    answers = answer(sampler, _prompt_format(candidate), questions, exam, done=bar.advance)
                    write_parquet_sealed(answers.to_arrow(), path)
                bar.advance(0, f"{candidate.name} {split} {decoding}")
                labels = {"student": candidate.name, "split": split, "decoding": decoding}
                columns = {name: pl.lit(value) for name, value in labels.items()}
                frames.append(pl.read_parquet(path).with_columns(**columns))
    return frames


def _prompt_format(candidate: Candidate) -> Any:
    from cohobate.models.chat_template import student_format, teacher_format

    return (teacher_format if candidate.role == "teacher" else student_format)(candidate.recipe)


def _scores(recipe: Recipe, answers: pl.DataFrame) -> list[Score]:
    from cohobate.evaluation.accuracy import summarise

    suite = "arithmetic" if recipe.questions.source == "world" else "questions"
    scores = []
    for (student, split, decoding), group in answers.group_by("student", "split", "decoding", maintain_order=True):
        summary = summarise(group)
        scores.append(
            Score(
                student=str(student),
                suite=suite,
                split=str(split),
                decoding="greedy" if decoding == "greedy" else "sampled",
                seed=recipe.evaluation.seed,
                n=summary.n,
                accuracy=summary.accuracy,
                details=summary.details(),
            )
        )
    return scores


def _ledger(candidates: list[Candidate], answers: pl.DataFrame) -> list[LedgerEntry]:
    import polars as pl

    from cohobate.models.model_cost import cost_of_folder
    from cohobate.store.compute_ledger import entry, total

    entries = []
    for candidate in candidates:
        rows = answers.filter(pl.col("student") == candidate.name)
        lengths = rows["prompt_tokens"].to_list(), rows["tokens"].to_list()
        cost = cost_of_folder(candidate.path)
        model = candidate.name if candidate.role == "teacher" else candidate.role
        entries.append(entry("evaluation", model, "evaluation", cost, *lengths))
    return total(entries)
