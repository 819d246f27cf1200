"""REINFORCE with a judge's +1 and -1, and a lock-in on what it rewarded: the loop of the classic tiny policy.

loss = mean over the step's answers of (-log p * r + lock_in * cross-entropy where r > 0); the policy is saved when the
running reward, keep * old + (1 - keep) * r, beats the best so far by `margin`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from cohobate.config import TinyPolicySettings
from cohobate.core.statistics import wilson
from cohobate.experiments.tiny_policy.model import TinyPolicy
from cohobate.experiments.tiny_policy.verdicts import turned
from cohobate.models.token_loss import Tokens
from cohobate.training.epochs import epoch_batch
from cohobate.training.objectives.judge import (
    JudgeReinforcement,
    improved,
    judge_advantages,
    lock_in_weights,
    running_reward,
)

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Learned:
    """The saved policy, the step it was saved after (the last one if its reward never rose), metrics of each step."""

    policy: TinyPolicy
    saved_at: int
    improved: bool
    metrics: list[Metrics]


def learn(
    config: TinyPolicySettings,
    questions: Sequence[str],
    answers: Sequence[str],
    rewards: Mapping[tuple[str, str], float],
) -> Learned:
    """Train a new policy on `questions`; `rewards` says +1 or -1 for each (question, answer)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = TinyPolicy(answers, config.words, config.embedding, config.hidden)
        best = copy.deepcopy(policy)
        optimizer = torch.optim.Adam(policy.parameters(), lr=config.lr)
        running = reached = 0.0
        saved_at, metrics = None, []
        for step in range(config.steps):
            asked = [questions[i] for i in epoch_batch(config.seed, step, config.batch, len(questions))]
            loss, given, entropy = _update(policy, optimizer, config, step, asked, rewards)
            running = running_reward(running, given, config.keep)
            if improved(running, reached, config.margin):
                best.load_state_dict(policy.state_dict())
                reached, saved_at = running, step + 1
            mean = sum(given) / len(given)
            metrics.append({"step": step, "loss": loss, "reward": mean, "running": running, "entropy": entropy})
    if saved_at is None:
        return Learned(policy.eval(), config.steps, False, metrics)
    return Learned(best.eval(), saved_at, True, metrics)


def greedy(policy: TinyPolicy, questions: pl.DataFrame) -> pl.DataFrame:
    """What the policy answers greedily: question, gold_answer, answer, probability, correct."""
    chosen = [next(iter(ranked.items())) for ranked in policy.choose(questions["question"].to_list())]
    return questions.select("question", "gold_answer").with_columns(
        pl.Series("answer", [answer for answer, _ in chosen], dtype=pl.String),
        pl.Series("probability", [probability for _, probability in chosen], dtype=pl.Float64),
        pl.Series("correct", [a == gold for (a, _), gold in zip(chosen, questions["gold_answer"], strict=True)]),
    )


def score(answered: pl.DataFrame) -> Metrics:
    """n, accuracy, low, high (95% Wilson) of `greedy`'s rows."""
    correct, n = int(answered["correct"].sum()), len(answered)
    return {"n": n, **wilson(correct, n).as_row("accuracy")}


def _update(
    policy: TinyPolicy,
    optimizer: torch.optim.Optimizer,
    config: TinyPolicySettings,
    step: int,
    asked: Sequence[str],
    rewards: Mapping[tuple[str, str], float],
) -> tuple[float, list[float], float]:
    """One step: sample, hear the judge, learn. Returns loss, the rewards in order, and the mean entropy."""
    logits = policy(asked)
    logprobs = logits.detach().log_softmax(-1)
    chosen = torch.multinomial(logprobs.exp(), 1).squeeze(-1)
    texts = [policy.answers[i] for i in chosen.tolist()]
    given = [
        rewards[pair] * (-1 if turned(config.seed, config.noise, *pair, *_occasion(config, step, place)) else 1)
        for place, pair in enumerate(zip(asked, texts, strict=True))
    ]
    tokens = Tokens(
        chosen,
        sampler_logprobs=logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1),
        advantages=judge_advantages([given], leave_one_out=False).values.flatten(),
        weights=lock_in_weights([given], config.lock_in).flatten(),
    )
    loss = JudgeReinforcement()(logits, tokens)["loss"] / len(asked)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach()), given, float(-(logprobs.exp() * logprobs).sum(-1).mean())


def _occasion(config: TinyPolicySettings, step: int, place: int) -> tuple[int, ...]:
    return (step, place) if config.noise_each_time else ()
