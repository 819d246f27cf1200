"""REINFORCE with a judge's +1 and -1, and a lock-in on rewarded answers: the loop of the classic tiny policy.

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
from cohobate.experiments.tiny_policy.verdicts import is_flipped
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
class TrainedPolicy:
    """The saved policy and the metrics of each step.

    saved_at: number of steps after which it was saved; all of them where its running reward never rose by the margin.
    """

    policy: TinyPolicy
    saved_at: int
    improved: bool
    metrics: list[Metrics]


def train(
    config: TinyPolicySettings,
    questions: Sequence[str],
    answers: Sequence[str],
    rewards: Mapping[tuple[str, str], float],
) -> TrainedPolicy:
    """Train a new policy on `questions`. rewards: +1 or -1 of each (question, answer)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = TinyPolicy(answers, config.words, config.embedding, config.hidden)
        best = copy.deepcopy(policy)
        optimizer = torch.optim.Adam(policy.parameters(), lr=config.lr)
        running = highest = 0.0
        saved_at, metrics = None, []
        for step in range(config.steps):
            batch = [questions[i] for i in epoch_batch(config.seed, step, config.batch, len(questions))]
            loss, step_rewards, entropy = _update(policy, optimizer, config, step, batch, rewards)
            running = running_reward(running, step_rewards, config.keep)
            if improved(running, highest, config.margin):
                best.load_state_dict(policy.state_dict())
                highest, saved_at = running, step + 1
            mean = sum(step_rewards) / len(step_rewards)
            metrics.append({"step": step, "loss": loss, "reward": mean, "running": running, "entropy": entropy})
    if saved_at is None:
        return TrainedPolicy(policy.eval(), config.steps, False, metrics)
    return TrainedPolicy(best.eval(), saved_at, True, metrics)


def answer_greedily(policy: TinyPolicy, questions: pl.DataFrame) -> pl.DataFrame:
    """The policy's likeliest answer to each question: question, gold_answer, answer, probability, correct."""
    chosen = [next(iter(ranked.items())) for ranked in policy.choose(questions["question"].to_list())]
    return questions.select("question", "gold_answer").with_columns(
        pl.Series("answer", [answer for answer, _ in chosen], dtype=pl.String),
        pl.Series("probability", [probability for _, probability in chosen], dtype=pl.Float64),
        pl.Series("correct", [a == gold for (a, _), gold in zip(chosen, questions["gold_answer"], strict=True)]),
    )


def score(answers: pl.DataFrame) -> Metrics:
    """{n, accuracy, low, high} (95% Wilson) of the rows of `answer_greedily`."""
    correct, n = int(answers["correct"].sum()), len(answers)
    return {"n": n, **wilson(correct, n).as_row("accuracy")}


def _update(
    policy: TinyPolicy,
    optimizer: torch.optim.Optimizer,
    config: TinyPolicySettings,
    step: int,
    questions: Sequence[str],
    rewards: Mapping[tuple[str, str], float],
) -> tuple[float, list[float], float]:
    """One step: sample an answer per question, judge, update. Returns loss, rewards in order, mean entropy in nats."""
    logits = policy(questions)
    logprobs = logits.detach().log_softmax(-1)
    chosen = torch.multinomial(logprobs.exp(), 1).squeeze(-1)
    texts = [policy.answers[i] for i in chosen.tolist()]
    step_rewards = []
    for place, pair in enumerate(zip(questions, texts, strict=True)):
        key = (*pair, step, place) if config.noise_each_time else pair
        step_rewards.append(rewards[pair] * (-1 if is_flipped(config.seed, config.noise, *key) else 1))
    tokens = Tokens(
        chosen,
        sampler_logprobs=logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1),
        advantages=judge_advantages([step_rewards], leave_one_out=False).values.flatten(),
        weights=lock_in_weights([step_rewards], config.lock_in).flatten(),
    )
    loss = JudgeReinforcement()(logits, tokens)["loss"] / len(questions)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach()), step_rewards, float(-(logprobs.exp() * logprobs).sum(-1).mean())
