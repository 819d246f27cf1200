"""Policy: a tiny policy reinforced by a judge -> policy.safetensors, judged, answers, metrics, preferences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, TinyPolicySettings
from cohobate.core.errors import QuestionsError
from cohobate.evaluation.verifiers import judge
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 1
# Of the section, what only the study of noisy judges reads.
STUDY = ("study_noise", "study_seeds")
# The policy is examined on its own questions, and on those that it has never seen where there are any.
LEARNT, UNSEEN = ("train", "fresh"), ("validation", "test", "hard")


def train(recipe: Recipe, questions: Artifact) -> Artifact:
    """Train the tiny policy of `recipe` on the training questions. Raises RecipeError without a section [policy]."""
    config = recipe.section(TinyPolicySettings)
    identity = {name: value for name, value in config.identity().items() if name not in STUDY}
    if config.judge is not None:
        identity["judge"] = judge.identity(config.judge)
    return Store().produce(
        "policy",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[questions],
        build=lambda workspace: _build(config, questions, workspace),
    )


def parts(questions: Artifact) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The questions that the policy learns, and those that it never sees."""
    import polars as pl

    frame = pl.read_parquet(questions.path / "questions.parquet")
    learnt, unseen = (frame.filter(pl.col("split").is_in(names)) for names in (LEARNT, UNSEEN))
    if learnt.is_empty():
        raise QuestionsError(f"{questions.id} has no training question; raise questions.split.train")
    return learnt, unseen


def _build(config: TinyPolicySettings, questions: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.tiny_policy import preferences, reinforce, verdicts
    from cohobate.experiments.tiny_policy.model import NAME

    learnt, unseen = parts(questions)
    answers = verdicts.possible_answers(config, pl.concat([learnt, unseen]), questions.id)
    judged = verdicts.judge_all(config, learnt, answers, workspace.fingerprint)
    found = reinforce.learn(config, learnt["question"].to_list(), answers, judged.rewards())
    found.policy.save(workspace.path / NAME)
    judged.table.write_parquet(workspace.path / "judged.parquet", compression="zstd")
    pl.DataFrame(found.metrics).write_parquet(workspace.path / "metrics.parquet", compression="zstd")
    examined = {"own": reinforce.greedy(found.policy, learnt), "unseen": reinforce.greedy(found.policy, unseen)}
    frames = [frame.with_columns(pl.lit(name).alias("questions")) for name, frame in examined.items()]
    pl.concat(frames).write_parquet(workspace.path / "answers.parquet", compression="zstd")
    pairs = preferences.preferences(found.policy, judged.table)
    lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    (workspace.path / "preferences.jsonl").write_text(lines, encoding="utf-8")
    metrics: dict[str, Any] = {
        "answers": len(answers),
        "greedy": {name: reinforce.score(frame) for name, frame in examined.items() if len(frame)},
        "saved_at": found.saved_at,
        "improved": found.improved,
        "running_reward": found.metrics[-1]["running"],
        "judge_right": verdicts.accuracy(judged.table),
        "judge": judged.counts,
        "preferences": len(pairs),
    }
    return Outcome(len(learnt), metrics, judged.ledger)
