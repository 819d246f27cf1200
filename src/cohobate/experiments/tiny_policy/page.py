"""The page of the tiny policy: its accuracy, how often its judge is right, and what noisy judges do to it."""

from __future__ import annotations

from collections.abc import Sequence

from cohobate.config import TinyPolicySettings
from cohobate.core.formatting import percent_interval
from cohobate.experiments.tiny_policy.noise_study import EACH_TIME, SAME_PAIRS, Condition
from cohobate.report.experiment import Dot, Page, Table
from cohobate.store.artifacts import Artifact

_PAIRS = {"all": "all pairs", "right": "right answers", "wrong": "wrong answers"}


def page(config: TinyPolicySettings, questions: Artifact, policy: Artifact, conditions: Sequence[Condition]) -> Page:
    """Sentences, tables and figure; `policy` is the artifact of the trained policy."""
    series = (
        ("its own questions", [(condition, condition.own) for condition in conditions]),
        ("questions never seen", [(condition, condition.unseen) for condition in conditions]),
    )
    dots = [
        Dot(_label(condition), name, accuracy)
        for name, values in series
        for condition, accuracy in values
        if accuracy is not None and config.study_seeds > 1
    ]
    return Page(
        f"A tiny policy and its judge: {policy.path.name}",
        _sentences(policy, conditions),
        [*([_noise(conditions)] if conditions else []), _rightness(policy)],
        dots,
        "Greedy accuracy: mean over seeds, with 95% interval.",
        [questions, policy],
    )


def _label(condition: Condition) -> str:
    return "always right" if not condition.noise else f"{condition.noise:.0%} wrong, {condition.errors}"


def _sentences(policy: Artifact, conditions: Sequence[Condition]) -> list[str]:
    metrics = policy.manifest.named_metrics
    own, unseen, judge = metrics["greedy"]["own"], metrics["greedy"].get("unseen"), metrics["judge"]
    judge_name = f"the judge {judge['model']}" if judge else "the exact verifier as judge"
    of_unseen = f", and {unseen['accuracy']:.1%} of {unseen['n']} that it never saw" if unseen else ""
    sentences = [
        f"With {judge_name} the policy answers {own['accuracy']:.1%} of its own {own['n']} questions rightly "
        f"[{own['low']:.1%}, {own['high']:.1%}]{of_unseen}."
    ]
    if judge:
        tokens = f"{judge['prompt_tokens']:,} + {judge['completion_tokens']:,} tokens"
        cost = "" if judge["cost_usd"] is None else f", {judge['cost_usd']:.2f} USD"
        sentences.append(f"The judge gave {judge['replies']:,} replies ({tokens}{cost}).")
    if not metrics["improved"]:
        sentences.append("Its running reward never rose above the start, so the policy after the last step was kept.")
    for noise in sorted({condition.noise for condition in conditions if condition.noise}):
        means = {each.errors: each.own.mean for each in conditions if each.noise == noise and each.own}
        sentences.append(
            f"With {noise:.0%} wrong verdicts it learns {means[SAME_PAIRS]:.1%} of its own questions if the same pairs "
            f"are judged wrong each time, as by a model at temperature 0, and {means[EACH_TIME]:.1%} if the wrong "
            "verdicts are drawn each time."
        )
    return sentences


def _noise(conditions: Sequence[Condition]) -> Table:
    rows = [
        [
            f"{condition.noise:.0%}",
            condition.errors if condition.noise else "–",
            str(condition.seeds),
            percent_interval(condition.own),
            percent_interval(condition.unseen),
            f"{condition.running.mean:+.2f}" if condition.running else "–",
        ]
        for condition in conditions
    ]
    header = ["flipped verdicts", "errors", "seeds", "own questions", "never seen", "running reward"]
    about = "Greedy accuracy, mean over seeds with 95% interval (Student's t). The rest of the verdicts are right."
    return Table("A noisy judge", header, rows, about)


def _rightness(policy: Artifact) -> Table:
    right = policy.manifest.named_metrics["judge_right"]
    rows = [
        [
            label,
            f"{right[key]['n']:,}",
            f"{right[key]['share']:.1%}",
            f"{right[key]['low']:.1%}–{right[key]['high']:.1%}",
        ]
        for key, label in _PAIRS.items()
    ]
    rows += [[f"unusable reply: {kind}", f"{count:,}", "", ""] for kind, count in right["unusable"].items()]
    about = (
        "Against the exact verifier, over every answer of every question. A reply other than +1 or -1 is not right; it "
        "counts as -1 in training."
    )
    return Table("How often the judge is right", ["pairs", "number", "right", "95% interval"], rows, about)
