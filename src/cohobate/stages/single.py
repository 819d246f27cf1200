"""Single: the one prompt as a question set, held-out scores, and the page of the single-prompt experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.errors import QuestionsError
from cohobate.single import MANY, ONE, SFT, START, Scored, section
from cohobate.store import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.report.experiment import Page

VERSION = 1


def one_prompt(recipe: Recipe, questions: Artifact) -> Artifact:
    """The one prompt alone, both to train on and fresh; the validation questions stay as they are."""
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={"single": section(recipe).question},
        parents=[questions],
        build=lambda workspace: _write_one(recipe, questions, workspace),
    )


def _write_one(recipe: Recipe, questions: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.schema import QUESTIONS
    from cohobate.tables import write_table

    frame = pl.read_parquet(questions.path / "questions.parquet")
    fresh, place = frame.filter(pl.col("split") == "fresh"), section(recipe).question
    if place >= len(fresh):
        raise QuestionsError(f"{questions.id} has {len(fresh)} fresh questions, so there is no single.question {place}")
    chosen = fresh[place : place + 1]
    parts = [chosen, chosen.with_columns(split=pl.lit("train")), frame.filter(pl.col("split") == "validation")]
    asked = pl.concat(parts)
    write_table(asked, QUESTIONS, workspace.path / "questions.parquet")
    return Outcome(len(asked), {"question": chosen["question"][0], "gold_answer": chosen["gold_answer"][0]})


def held_out(recipe: Recipe, questions: Artifact, model: Artifact) -> Artifact:
    """Greedy and sampled scores of a trained student on held-out questions."""
    from cohobate import verify

    config = recipe.evaluation
    identity = {
        "limit": section(recipe).limit,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
        "student": recipe.student.identity(),
        "format": [recipe.sft.format, recipe.sft.separator],
        "verifier": verify.identity(recipe.triples.verifier),
    }
    return Store().produce(
        "exam",
        recipe=recipe,
        version=VERSION,
        identity={"single": identity},
        parents=[questions, model],
        build=lambda workspace: _measure(recipe, questions, model, workspace),
    )


def _measure(recipe: Recipe, questions: Artifact, model: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.chat import student_format
    from cohobate.evaluation import Exam, answer, summarise
    from cohobate.files import write_parquet_atomic
    from cohobate.ledger import ModelCost, entry, total
    from cohobate.rollouts import Decoding
    from cohobate.runtime import prepare_torch
    from cohobate.students import load

    prepare_torch(recipe)
    config = recipe.evaluation
    frame = pl.read_parquet(questions.path / "questions.parquet").filter(pl.col("split") == "test")
    asked = frame.head(section(recipe).limit)
    student = load(model.path / "model", device=recipe.runtime.device)
    found: dict[str, Any] = {}
    frames, spent = [], []
    for decoding, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        exam = Exam(
            Decoding(config.max_tokens, temperature), 1, config.seed, config.batch_size, recipe.triples.verifier
        )
        answers = answer(student, student_format(recipe), asked, exam)
        lengths = answers["prompt_tokens"].to_list(), answers["tokens"].to_list()
        spent.append(entry("single", "student", "evaluation", ModelCost.of(student.config), *lengths))
        frames.append(answers.with_columns(decoding=pl.lit(decoding)))
        found[decoding] = {name: summarise(answers)[name] for name in ("n", "accuracy", "low", "high", "mean_tokens")}
    write_parquet_atomic(pl.concat(frames).to_arrow(), workspace.path / "answers.parquet")
    return Outcome(len(asked), found, total(spent))


def write(recipe: Recipe, prompt: Artifact, found: Sequence[Scored]) -> Artifact:
    """The table and page of the exams `found`."""
    return Store().produce(
        "single",
        recipe=recipe,
        version=VERSION,
        identity={"places": [[one.arm, one.seed] for one in found], **section(recipe).identity()},
        parents=[prompt, *(one.exam for one in found)],
        build=lambda workspace: _build(recipe, prompt, found, workspace),
    )


def _build(recipe: Recipe, prompt: Artifact, found: Sequence[Scored], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.report import experiment
    from cohobate.single import summarise

    rows = []
    for one in found:
        metrics = one.exam.manifest.metrics
        assert isinstance(metrics, dict)
        for decoding, score in metrics.items():
            rows.append({"arm": one.arm, "seed": one.seed, "decoding": decoding, **score})
    pl.DataFrame(rows).write_parquet(workspace.path / "scores.parquet", compression="zstd")
    lines = summarise(rows)
    made = _page(recipe, prompt, lines, [prompt, *(one.exam for one in found)])
    (workspace.path / "index.html").write_text(experiment.html(made), encoding="utf-8")
    (workspace.path / "report.md").write_text(experiment.markdown(made), encoding="utf-8")
    return Outcome(len(rows), {"lines": lines})


def _page(recipe: Recipe, prompt: Artifact, lines: list[dict[str, Any]], artifacts: list[Artifact]) -> Page:
    from cohobate.report.experiment import Dot, Page, Table, spread

    config, asked = section(recipe), prompt.manifest.metrics
    assert isinstance(asked, dict)
    header = ["arm", "seeds", "greedy", "sampled", "tokens an answer"]
    cells = [
        [ln["arm"], str(ln["seeds"]), spread(ln["greedy"]), spread(ln["sampled"]), f"{ln['mean_tokens']:.1f}"]
        for ln in lines
    ]
    dots = [
        Dot(ln["arm"], name, *(ln[name][part] for part in ("mean", "low", "high")))
        for name in ("greedy", "sampled")
        for ln in lines
        if abs(ln[name]["low"]) != float("inf")
    ]
    means = {ln["arm"]: ln["greedy"]["mean"] for ln in lines}
    said = [
        f"The one prompt is: {asked['question']} Each arm makes {config.steps} steps of {config.rollouts} sequences "
        "from the same start.",
        f"Held-out questions, greedy: the start {means[START]:.1%}; OPD on one prompt {means[ONE]:.1%} "
        f"({100 * (means[ONE] - means[START]):+.1f} points), OPD on many prompts {means[MANY]:.1%} "
        f"({100 * (means[MANY] - means[START]):+.1f}), SFT on the teacher's answers to the one prompt {means[SFT]:.1%} "
        f"({100 * (means[SFT] - means[START]):+.1f}).",
    ]
    about = "Mean over seeds with 95% interval (Student's t); of the start that of the questions (Wilson)."
    return Page(
        recipe.report.title or f"One prompt, many samples: {recipe.name}",
        said,
        [Table("Held-out accuracy", header, cells, about)],
        dots,
        "Accuracy on held-out questions, with 95% interval.",
        artifacts,
    )
