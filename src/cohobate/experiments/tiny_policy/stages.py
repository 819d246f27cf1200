"""Stages of the tiny policy: it is reinforced by a judge, and noisy judges are studied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe, TinyPolicySettings
from cohobate.core.errors import ModelError, QuestionsError
from cohobate.evaluation.verifiers import judge
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 1
STUDY_VERSION = 1
# Settings that only the study reads.
_OF_STUDY = ("study_noise", "study_seeds")
# Splits that the policy is trained on, and splits that it is examined on besides.
_TRAINED, _UNSEEN = ("train", "fresh"), ("validation", "test", "hard")


def train(recipe: Recipe, questions: Artifact) -> Artifact:
    """Train the tiny policy of `recipe` on the training questions. Raises RecipeError without a section [policy].

    Writes policy.safetensors, judged.parquet, metrics.parquet, answers.parquet and preferences.jsonl.
    """
    config = recipe.section(TinyPolicySettings)
    identity = {name: value for name, value in config.identity().items() if name not in _OF_STUDY}
    if config.judge is not None:
        identity["judge"] = judge.identity(config.judge)
    return Store().produce(
        "policy",
        recipe=recipe,
        version=VERSION,
        identity=identity,
        parents=[questions],
        build=lambda workspace: _train(config, questions, workspace),
    )


def _train(config: TinyPolicySettings, questions: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.experiments.tiny_policy import reinforce, verdicts
    from cohobate.experiments.tiny_policy.model import NAME
    from cohobate.experiments.tiny_policy.preferences import preference_pairs

    own, unseen = _splits(questions)
    if own.is_empty():
        raise QuestionsError(f"{questions.id} has no training question; raise questions.split.train")
    answers = verdicts.possible_answers(config, pl.concat([own, unseen]), questions.id)
    judged = verdicts.judge_all(config, own, answers, workspace.fingerprint)
    trained = reinforce.train(config, own["question"].to_list(), answers, judged.rewards())
    trained.policy.save(workspace.path / NAME)
    judged.table.write_parquet(workspace.path / "judged.parquet", compression="zstd")
    pl.DataFrame(trained.metrics).write_parquet(workspace.path / "metrics.parquet", compression="zstd")
    splits = {"own": own, "unseen": unseen}
    greedy = {name: reinforce.answer_greedily(trained.policy, split) for name, split in splits.items()}
    frames = [frame.with_columns(pl.lit(name).alias("questions")) for name, frame in greedy.items()]
    pl.concat(frames).write_parquet(workspace.path / "answers.parquet", compression="zstd")
    pairs = preference_pairs(trained.policy, judged.table)
    lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    (workspace.path / "preferences.jsonl").write_text(lines, encoding="utf-8")
    metrics: dict[str, Any] = {
        "answers": len(answers),
        "greedy": {name: reinforce.score(frame) for name, frame in greedy.items() if len(frame)},
        "saved_at": trained.saved_at,
        "improved": trained.improved,
        "running_reward": trained.metrics[-1]["running"],
        "judge_right": verdicts.accuracy(judged.table),
        "judge": judged.counts,
        "preferences": len(pairs),
    }
    return Outcome(len(own), metrics, judged.ledger)


def study(recipe: Recipe, questions: Artifact, policy: Artifact) -> Artifact:
    """Compare judges with several shares of flipped verdicts, over seeds, and write the page about `policy` and them.

    Writes runs.parquet, index.html and report.md.
    """
    config = recipe.section(TinyPolicySettings)
    return Store().produce(
        "judge",
        recipe=recipe,
        version=STUDY_VERSION,
        identity=config.identity(),
        parents=[questions, policy],
        build=lambda workspace: _study(config, questions, policy, workspace),
    )


def _study(config: TinyPolicySettings, questions: Artifact, policy: Artifact, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress
    from cohobate.experiments.tiny_policy import noise_study, verdicts
    from cohobate.experiments.tiny_policy.page import page
    from cohobate.report import experiment

    own, unseen = _splits(questions)
    answers = verdicts.possible_answers(config, pl.concat([own, unseen]), questions.id)
    rows = []
    policies = len(noise_study.conditions(config)) * config.study_seeds
    with progress.bar("judge", policies, "policies") as bar:
        for row in noise_study.runs(config, own, unseen, answers):
            rows.append(row)
            bar.advance()
    if rows:
        pl.DataFrame(rows).write_parquet(workspace.path / "runs.parquet", compression="zstd")
    conditions = noise_study.summarise(rows)
    experiment.write(page(config, questions, policy, conditions), workspace.path)
    return Outcome(len(rows), {"conditions": [condition.as_row() for condition in conditions]})


def answer(name: str, texts: Sequence[str]) -> list[dict[str, float]]:
    """A trained policy's probability of each answer to each text, the likeliest first.

    name: a .safetensors file, or a policy artifact's id or its beginning. Raises ModelError for anything else.
    """
    from cohobate.experiments.tiny_policy.model import NAME, load

    path = Path(name)
    if path.suffix != ".safetensors":
        artifact = Store().open(name)
        if artifact.stage != "policy":
            raise ModelError(f"{artifact.id} holds no tiny policy; `cohobate policy train RECIPE` makes one")
        path = artifact.path / NAME
    return load(path).choose(texts)


def _splits(questions: Artifact) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The questions that the policy is trained on, and those that it never sees."""
    import polars as pl

    frame = pl.read_parquet(questions.path / "questions.parquet")
    own, unseen = (frame.filter(pl.col("split").is_in(names)) for names in (_TRAINED, _UNSEEN))
    return own, unseen
