"""Judge: how right the judge of a tiny policy is, and what a noisy one does -> runs.parquet, index.html, report.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, TinyPolicySettings
from cohobate.core.formatting import percent_interval
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.report.experiment import Page, Table

VERSION = 1


def study(recipe: Recipe, questions: Artifact, policy: Artifact) -> Artifact:
    """Compare judges of several shares of wrong verdicts, over seeds, and write the page about `policy` and them."""
    config = recipe.section(TinyPolicySettings)
    return Store().produce(
        "judge",
        recipe=recipe,
        version=VERSION,
        identity=config.identity(),
        parents=[questions, policy],
        build=lambda workspace: _build(config, questions, policy, workspace),
    )


def _build(config: TinyPolicySettings, questions: Artifact, policy: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import interrupts, progress
    from cohobate.experiments.tiny_policy import noise_study as study
    from cohobate.experiments.tiny_policy import verdicts
    from cohobate.report import experiment

    frame = pl.read_parquet(questions.path / "questions.parquet")
    unseen = pl.col("split").is_in(["validation", "test", "hard"])
    answers = verdicts.possible_answers(config, frame, questions.id)
    rows = []
    with progress.bar("judge", len(study.conditions(config)) * config.study_seeds, "policies") as bar:
        for row in study.runs(config, frame.filter(~unseen), frame.filter(unseen), answers):
            rows.append(row)
            bar.advance()
            interrupts.check()
    if rows:
        pl.DataFrame(rows).write_parquet(workspace.path / "runs.parquet", compression="zstd")
    found = study.summarise(rows)
    page = _page(config, questions, policy, found)
    (workspace.path / "index.html").write_text(experiment.html(page), encoding="utf-8")
    (workspace.path / "report.md").write_text(experiment.markdown(page), encoding="utf-8")
    return Outcome(len(rows), {"conditions": found})


def _page(config: TinyPolicySettings, questions: Artifact, policy: Artifact, found: list[dict[str, Any]]) -> Page:
    from cohobate.report.experiment import Dot, Page

    dots = [
        Dot(_line(row), name, row[key])
        for key, name in (("own", "its own questions"), ("unseen", "questions never seen"))
        for row in found
        if row[key] is not None and config.study_seeds > 1
    ]
    return Page(
        f"A tiny policy and its judge: {policy.path.name}",
        _sentences(policy, found),
        [*([_noise(found)] if found else []), _rightness(policy)],
        dots,
        "Greedy accuracy: mean over seeds, with 95% interval.",
        [questions, policy],
    )


def _line(row: dict[str, Any]) -> str:
    return "always right" if not row["noise"] else f"{row['noise']:.0%} wrong, {row['errors']}"


def _sentences(policy: Artifact, found: list[dict[str, Any]]) -> list[str]:
    from cohobate.experiments.tiny_policy.noise_study import ANEW, SAME

    made = policy.manifest.named_metrics
    own, judge = made["greedy"]["own"], made["judge"]
    who = f"the judge {judge['model']}" if judge else "the exact verifier as judge"
    said = [
        f"With {who} the policy answers {own['accuracy']:.1%} of its own {own['n']} questions rightly "
        f"[{own['low']:.1%}, {own['high']:.1%}]"
        + (
            f", and {made['greedy']['unseen']['accuracy']:.1%} of {made['greedy']['unseen']['n']} that it never saw."
            if "unseen" in made["greedy"]
            else "."
        )
    ]
    if judge:
        tokens = f"{judge['prompt_tokens']:,} + {judge['completion_tokens']:,} tokens"
        cost = "" if judge["cost_usd"] is None else f", {judge['cost_usd']:.2f} USD"
        said.append(f"The judge gave {judge['replies']:,} replies ({tokens}{cost}).")
    if not made["improved"]:
        said.append("Its running reward never rose above the start, so the policy after the last step was kept.")
    for noise in sorted({row["noise"] for row in found if row["noise"]}):
        own = {row["errors"]: row["own"].mean for row in found if row["noise"] == noise}
        said.append(
            f"With {noise:.0%} wrong verdicts it learns {own[SAME]:.1%} of its own questions if the same pairs are "
            f"judged wrong each time, as by a model at temperature 0, and {own[ANEW]:.1%} if each verdict errs anew."
        )
    return said


def _noise(found: list[dict[str, Any]]) -> Table:
    from cohobate.report.experiment import Table

    rows = [
        [
            f"{row['noise']:.0%}",
            row["errors"] if row["noise"] else "–",
            str(row["seeds"]),
            percent_interval(row["own"]),
            percent_interval(row["unseen"]),
            f"{row['running'].mean:+.2f}",
        ]
        for row in found
    ]
    header = ["verdicts turned round", "errors", "seeds", "own questions", "never seen", "running reward"]
    about = "Greedy accuracy, mean over seeds with 95% interval (Student's t). The rest of the verdicts are right."
    return Table("A noisy judge", header, rows, about)


def _rightness(policy: Artifact) -> Table:
    from cohobate.report.experiment import Table

    made = policy.manifest.named_metrics
    names = {"all": "all pairs", "right": "right answers", "wrong": "wrong answers"}
    right = made["judge_right"]
    rows = [
        [
            label,
            f"{right[key]['n']:,}",
            f"{right[key]['share']:.1%}",
            f"{right[key]['low']:.1%}–{right[key]['high']:.1%}",
        ]
        for key, label in names.items()
    ]
    rows += [[f"unusable reply: {kind}", f"{count:,}", "", ""] for kind, count in right["unusable"].items()]
    about = (
        "Against the exact verifier, over every answer of every question. A reply other than +1 or -1 is not right; it "
        "counts as -1 in training."
    )
    return Table("How often the judge is right", ["pairs", "number", "right", "95% interval"], rows, about)
