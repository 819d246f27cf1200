"""Single: the one prompt as a question set, held-out scores, and the page of the single-prompt experiment."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, Single
from cohobate.core.errors import QuestionsError
from cohobate.experiments.single_prompt.arms import START, Scored
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

    from cohobate.report.experiment import Page

VERSION = 2


def one_prompt(recipe: Recipe, questions: Artifact) -> Artifact:
    """The one prompt alone, both to train on and fresh; the validation questions stay as they are."""
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={"single": recipe.section(Single).question},
        parents=[questions],
        build=lambda workspace: _write_one(recipe, questions, workspace),
    )


def _write_one(recipe: Recipe, questions: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS

    frame = pl.read_parquet(questions.path / "questions.parquet")
    fresh, place = frame.filter(pl.col("split") == "fresh"), recipe.section(Single).question
    if place >= len(fresh):
        raise QuestionsError(f"{questions.id} has {len(fresh)} fresh questions, so there is no single.question {place}")
    chosen = fresh[place : place + 1]
    parts = [chosen, chosen.with_columns(split=pl.lit("train")), frame.filter(pl.col("split") == "validation")]
    asked = pl.concat(parts)
    write_table(asked, QUESTIONS, workspace.path / "questions.parquet")
    return Outcome(len(asked), {"question": chosen["question"][0], "gold_answer": chosen["gold_answer"][0]})


def bare(recipe: Recipe, triples: Artifact) -> Artifact:
    """The triples of the start: `single.bare` of them, by the hash of the question, without their rationales."""
    if not recipe.section(Single).bare:
        return triples
    return Store().produce(
        "triples",
        recipe=recipe,
        version=VERSION,
        identity={"bare": recipe.section(Single).bare},
        parents=[triples],
        build=lambda workspace: _write_bare(recipe, triples, workspace),
    )


def _write_bare(recipe: Recipe, triples: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core.parquet import write_table
    from cohobate.core.schema import TRIPLES

    frame = pl.read_parquet(triples.path / "triples.parquet")
    share = recipe.section(Single).bare
    drawn = pl.Series([_place(question) < share for question in frame["question_id"]], dtype=pl.Boolean)
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


def _place(question: str) -> float:
    """Where the question stands in 0..1, whatever its recipe's other questions."""
    return int.from_bytes(hashlib.sha256(f"bare\0{question}".encode()).digest()[:8], "big") / 2**64


def held_out(recipe: Recipe, questions: Artifact, model: Artifact) -> Artifact:
    """Greedy and sampled scores of a trained student on held-out questions."""
    from cohobate.evaluation.verifiers import verify

    config = recipe.evaluation
    identity = {
        "limit": recipe.section(Single).limit,
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

    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.evaluation.accuracy import Exam, answer, summarise
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.sampling.sampler import Decoding
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.store.ledger import ModelCost, entry, total

    prepare_torch(recipe.runtime)
    config = recipe.evaluation
    frame = pl.read_parquet(questions.path / "questions.parquet").filter(pl.col("split") == "test")
    asked = frame.head(recipe.section(Single).limit)
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
        summary = summarise(answers)
        accuracy = summary.accuracy.as_row("accuracy")
        found[decoding] = {"n": summary.n, **accuracy, "mean_tokens": summary.mean_tokens}
        found[decoding]["worked_out"] = _is_worked_out(recipe, answers).sum() / len(answers)
    write_parquet_atomic(pl.concat(frames).to_arrow(), workspace.path / "answers.parquet")
    return Outcome(len(asked), found, total(spent))


def _is_worked_out(recipe: Recipe, answers: pl.DataFrame) -> pl.Series:
    """Which of the answers hold a rationale."""
    import polars as pl

    from cohobate.core.answer_parsing import parse, parse_plain

    config = recipe.sft
    read = parse if config.format == "chat" else partial(parse_plain, separator=config.separator)
    return pl.Series([read(text).rationale is not None for text in answers["response"]], dtype=pl.Boolean)


def write(recipe: Recipe, prompt: Artifact, found: Sequence[Scored]) -> Artifact:
    """The table and page of the exams `found`."""
    return Store().produce(
        "single",
        recipe=recipe,
        version=VERSION,
        identity={"places": [[one.arm, one.seed] for one in found], **recipe.section(Single).identity()},
        parents=[prompt, *(part for one in found for part in (one.exam, one.model))],
        build=lambda workspace: _build(recipe, prompt, found, workspace),
    )


def _build(recipe: Recipe, prompt: Artifact, found: Sequence[Scored], workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.single_prompt.arms import summarise
    from cohobate.report import experiment

    rows = []
    for one in found:
        for decoding, score in one.exam.manifest.named_metrics.items():
            right = {"right_of_worked_out": _right_of_worked_out(recipe, one.exam, decoding)}
            rows.append({"arm": one.arm, "seed": one.seed, "decoding": decoding, **_losses(one), **right, **score})
    pl.DataFrame(rows).write_parquet(workspace.path / "scores.parquet", compression="zstd")
    lines = summarise(rows)
    made = _page(recipe, prompt, lines, [prompt, *(one.exam for one in found)])
    (workspace.path / "index.html").write_text(experiment.html(made), encoding="utf-8")
    (workspace.path / "report.md").write_text(experiment.markdown(made), encoding="utf-8")
    return Outcome(len(rows), {"lines": lines})


def _losses(one: Scored) -> dict[str, float | None]:
    """The loss of the first and the last step; none of the start, whose triples are other ones."""
    import polars as pl

    if one.arm == START:
        return {"first_loss": None, "last_loss": None}
    losses = pl.read_parquet(one.model.path / "metrics.parquet")["loss"]
    return {"first_loss": losses[0], "last_loss": losses[-1]}


def _right_of_worked_out(recipe: Recipe, exam: Artifact, decoding: str) -> float | None:
    """Share of right ones among the answers that hold a rationale; None where none does."""
    import polars as pl

    answers = pl.read_parquet(exam.path / "answers.parquet").filter(pl.col("decoding") == decoding)
    worked = answers.filter(_is_worked_out(recipe, answers))
    return float((worked["verdict"] == "correct").sum()) / len(worked) if len(worked) else None


def _page(recipe: Recipe, prompt: Artifact, lines: list[dict[str, Any]], artifacts: list[Artifact]) -> Page:
    from cohobate.core.formatting import percent, percent_interval
    from cohobate.core.statistics import Interval
    from cohobate.experiments.single_prompt.arms import DECODINGS, PARTS
    from cohobate.report.experiment import Dot, Page, Table

    config, asked = recipe.section(Single), prompt.manifest.named_metrics
    header = ["arm", "seeds", "greedy", "sampled", "worked out", "right of those", "loss", "tokens an answer"]
    cells = [
        [
            *(ln["arm"], str(ln["seeds"]), *(percent_interval(Interval.from_row(ln[name])) for name in DECODINGS)),
            *(" / ".join(percent(ln[name][part]) for name in DECODINGS) for part in PARTS),
            "" if ln["first_loss"] is None else f"{ln['first_loss']:.2f} to {ln['last_loss']:.3f}",
            f"{ln['mean_tokens']:.1f}",
        ]
        for ln in lines
    ]
    dots = [
        Dot(ln["arm"], name, accuracy)
        for name in DECODINGS
        for ln in lines
        if (accuracy := Interval.from_row(ln[name])).bounded
    ]
    means = {ln["arm"]: ln["greedy"]["mean"] for ln in lines}
    gained = [f"{arm} {mean:.1%} ({100 * (mean - means[START]):+.1f} points)" for arm, mean in means.items()]
    said = [
        f"The one prompt is: {asked['question']} Each arm makes {config.steps} steps of {config.rollouts} sequences "
        "from the same start.",
        *([_said_of_bare(config.bare)] if config.bare else []),
        f"Held-out questions, greedy: the start {means[START]:.1%}; {'; '.join(gained[1:])}.",
    ]
    about = (
        "Mean over seeds with 95% interval (Student's t); of the start that of the questions (Wilson). Worked out: "
        "answers with a rationale, and how many of those are right; greedy / sampled. Loss: first and last step, "
        "reverse KL of OPD on its rollouts, cross-entropy of SFT, nats a token."
    )
    return Page(
        recipe.report.title or f"One prompt, many samples: {recipe.name}",
        said,
        [Table("Held-out accuracy", header, cells, about)],
        dots,
        "Accuracy on held-out questions, with 95% interval.",
        artifacts,
    )


def _said_of_bare(share: float) -> str:
    return (
        f"Of {share:.0%} of its triples the start has learnt the answer without the rationale; the teacher of the arms "
        "always works it out."
    )
