"""Suites: a model on files of questions and on tasks of lm-evaluation-harness -> answers.parquet, harness.json."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Suite
from cohobate.core.answer_forms import form_identity
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.models.loading import model_fingerprint, model_path
from cohobate.models.template_revision import template_revision
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace
from cohobate.store.manifest import Score

if TYPE_CHECKING:
    import polars as pl

    from cohobate.evaluation.samplers import ModelSampler
    from cohobate.store.compute_ledger import LedgerEntry

VERSION = 2


def measure(recipe: Recipe, name: str) -> Artifact:
    """The suites of `recipe` on the model `name`: a training artifact's id or its beginning, a folder, a shipped name.

    Raises RecipeError without a suite, QuestionsError for a file that is not there, ModelError for no model.
    """
    from cohobate.evaluation import lm_eval
    from cohobate.evaluation.pass_at_k import questions
    from cohobate.evaluation.verifiers import verify
    from cohobate.sources.read import identity as questions_identity

    if not recipe.suites and recipe.harness is None:
        raise RecipeError(f"recipe {recipe.name} names no suite; add [[suites]] or [harness], as the recipe aime has")
    folder, artifact = _model(name)
    suites = [{**suite.identity(), "content": questions_identity(questions(suite))} for suite in recipe.suites]
    identity: dict[str, Any] = {
        "model": model_fingerprint(str(folder)),
        "student": {**recipe.student.identity(), **template_revision(folder, recipe.student)},
        "suites": suites,
        "verifier": {**verify.identity(recipe.triples.verifier), **form_identity(recipe.teacher.answer)},
    }
    if recipe.harness is not None:
        identity["harness"] = lm_eval.identity(recipe.harness)
    return Store().produce(
        "suites",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[artifact] if artifact else [],
        build=lambda workspace: _build(recipe, folder, artifact, workspace),
    )


def _model(name: str) -> tuple[Path, Artifact | None]:
    """The folder of the model, and the artifact that it belongs to, if any."""
    if (Path(name) / "config.json").is_file() or name.startswith("world/"):
        return model_path(name), None
    artifact = Store().open(name)
    if not (artifact.path / "model").is_dir():
        raise RecipeError(f"{artifact.id} holds no model; sft, opd and midtrain artifacts do")
    return artifact.path / "model", artifact


def _build(recipe: Recipe, folder: Path, artifact: Artifact | None, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress
    from cohobate.core.atomic_files import write_json_atomic, write_parquet_atomic
    from cohobate.evaluation import lm_eval
    from cohobate.evaluation.samplers import open_sampler
    from cohobate.models.rendering import template_variables
    from cohobate.models.torch_setup import prepare_torch

    prepare_torch(recipe.runtime)
    student = artifact.stage if artifact else folder.name
    scores: list[Score] = []
    ledger: list[LedgerEntry] = []
    frames = []
    if recipe.suites:
        suites = [(suite, _questions(recipe, suite, folder)) for suite in recipe.suites]
        with closing(open_sampler(recipe, folder, "student")) as sampler:
            for suite, questions in suites:
                frame, spent = _answer(recipe, suite, questions, sampler, workspace)
                frames.append(frame.with_columns(suite=pl.lit(suite.name)))
                scores.append(_score(student, suite, frame))
                ledger += spent
        write_parquet_atomic(pl.concat(frames).to_arrow(), workspace.path / "answers.parquet")
    if recipe.harness is not None:
        progress.say(f"harness: {', '.join(recipe.harness.tasks)}")
        results = lm_eval.run(recipe.harness, folder, recipe.runtime.device, template_variables(folder, recipe.student))
        write_json_atomic(workspace.path / "harness.json", results)
        scores += lm_eval.scores(student, results)
    return Outcome(sum(map(len, frames)), ledger=ledger, scores=scores)


def _questions(recipe: Recipe, suite: Suite, folder: Path) -> pl.DataFrame:
    """The questions of a suite that the model has room for; read before the model, which takes longer to start."""
    from cohobate.evaluation.pass_at_k import read_suite
    from cohobate.models.chat_template import student_format
    from cohobate.models.context_room import set_aside
    from cohobate.models.loading import outline
    from cohobate.stages.preflight import require_templates

    questions = read_suite(suite)
    require_templates(recipe, questions, str(folder))
    model = outline(folder, template=recipe.student.template)
    questions = set_aside(f"suites, {suite.name}", questions, [(model, student_format(recipe))])
    if questions.is_empty():
        raise QuestionsError(f"every question of the suite {suite.name} fills the context of '{folder}'")
    return questions


def _answer(
    recipe: Recipe, suite: Suite, questions: pl.DataFrame, sampler: ModelSampler, workspace: Workspace
) -> tuple[pl.DataFrame, list[LedgerEntry]]:
    from cohobate.core import progress
    from cohobate.evaluation.accuracy import Exam, answer, judge_ledger
    from cohobate.models.chat_template import student_format
    from cohobate.models.model_cost import cost_of
    from cohobate.models.sampling.sampler import Decoding
    from cohobate.store.compute_ledger import entry

    decoding = Decoding(suite.max_tokens, suite.temperature, suite.top_p, suite.top_k)
    verifier = recipe.triples.verifier
    exam = Exam(decoding, suite.samples, suite.seed, verifier, workspace.fingerprint)
    with progress.bar(suite.name, len(questions) * suite.samples, "answers") as bar:
        frame = answer(sampler, student_format(recipe), questions, exam, done=bar.advance)
    lengths = frame["prompt_tokens"].to_list(), frame["tokens"].to_list()
    spent = entry("suites", "student", "evaluation", cost_of(sampler.model.config), *lengths)
    return frame, [spent, *judge_ledger(verifier, questions, frame, "suites", workspace.fingerprint)]


def _score(student: str, suite: Suite, answers: pl.DataFrame) -> Score:
    from cohobate.evaluation.pass_at_k import score

    average = score(answers)
    return Score(
        student=student,
        suite=suite.name,
        split="test",
        decoding="sampled" if suite.temperature else "greedy",
        seed=suite.seed,
        n=average.n,
        accuracy=average.accuracy,
        questions=average.questions,
        k=average.k,
        details={"pass_at": {str(j): share.as_row("share") for j, share in average.pass_at.items()}},
    )
