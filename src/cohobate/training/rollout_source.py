"""Batches for on-policy training: questions -> the student's rollouts -> rewards and the teacher's scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.core.answer_parsing import parse
from cohobate.core.conversation import Query, queries
from cohobate.evaluation.verifiers.verdict import NO_FINAL_ANSWER, Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.models.chat_template import question_ids, student_format
from cohobate.models.logprobs import TokenScores
from cohobate.models.model_cost import cost_of
from cohobate.models.privileged import Shown, share_of_mentions
from cohobate.models.special_tokens import decode
from cohobate.models.thoughts import completed, opening_of
from cohobate.store import compute_ledger
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.training.epochs import epoch_batch
from cohobate.training.metrics import repetition
from cohobate.training.objectives.base import on_policy
from cohobate.training.objectives.length import length_advantages, prices
from cohobate.training.prefetch import Prefetch
from cohobate.training.rollout_log import RolloutLog
from cohobate.training.samplers import Sampler
from cohobate.training.scoring.base import Scorer, ScoringInput
from cohobate.training.trainee import Trainee
from cohobate.training.types import Rollout, ScoredRollout, Source, StepBatch

# Characters of a verdict's reason that the teacher is shown.
_LONGEST_REASON = 2000


@dataclass(frozen=True)
class _Share:
    """A process's share of a batch of rollouts, and the seconds that each part of making it took."""

    rollouts: list[ScoredRollout]
    seconds: dict[str, float]


class RolloutSource(Source):
    """Rollouts of a step, each sampled, scored and judged once.

    A batch of rollouts serves `opd.updates` steps, and the log counts these batches. Questions may bring the token ids
    of a ghost, a given response to them (column ghost_ids).

    With opd.overlap the batch of step k + 1 is made in a thread while step k learns, by exactly the policy before
    update k. No snapshot is taken before that batch is persisted, so a resumed run learns from the same rollouts.
    """

    def __init__(
        self,
        recipe: Recipe,
        trainee: Trainee,
        scorer: Scorer | None,
        questions: pl.DataFrame,
        log: RolloutLog,
        sampler: Sampler,
    ) -> None:
        self.config, self.verifier, self.world = recipe.opd, recipe.triples.verifier, trainee.world
        self.trainee, self.student, self.prompt_format = trainee, trainee.student, student_format(recipe)
        self.objective, self.scorer, self.log, self.sampler = on_policy(recipe.opd), scorer, log, sampler
        self.prefetch: Prefetch[_Share] = Prefetch(self._stop)
        self.questions, self.queries = questions.to_dicts(), queries(questions)
        self.shown = Shown.of(recipe) if scorer is not None else Shown()
        self.shown_values = self.shown.rows(questions)
        self.cost = cost_of(self.student.model.config)
        self._last: tuple[int, Sequence[ScoredRollout]] | None = None

    def batch(self, step: int) -> StepBatch:
        """The sequences of `step`: from the log if its rollouts were persisted, else sampled, scored and judged now."""
        number, update = divmod(step, self.config.updates)
        rollouts, seconds = self._of_batch(number)
        learnt = self.learnt(step, rollouts)
        if self.config.overlap:
            self._look_ahead(number + 1)
        if update:  # the first step of a batch of rollouts has their cost and statistics
            return learnt
        ledger, statistics = self._ledger(number, rollouts), self._statistics(rollouts)
        return StepBatch(learnt.rows, [*ledger, *learnt.ledger], {**statistics, **learnt.statistics}, seconds)

    def _of_batch(self, number: int) -> tuple[Sequence[ScoredRollout], dict[str, float]]:
        """The rollouts of a batch, and the seconds that were spent on them now."""
        if self._last is not None and self._last[0] == number:  # an update before has had them scored
            return self._last[1], {}
        self._last = None  # the scores of another batch need no memory while those of this one are made
        rollouts, seconds = self._replay(number), dict[str, float]()
        # All ranks make it, or none does.
        if self.world.total(int(rollouts is None)) or rollouts is None:
            rollouts, seconds = self._make(number)
        if self.config.updates > 1:
            self._last = (number, rollouts)
        return rollouts, seconds

    def learnt(self, step: int, rollouts: Sequence[ScoredRollout]) -> StepBatch:
        """The sequences of `step` that are this process's, made of its batch of rollouts."""
        rows = self.world.share(self.objective.sequences(self._priced(rollouts)))
        return StepBatch([row.first(self.config.train_tokens) for row in rows])

    def _priced(self, rollouts: Sequence[ScoredRollout]) -> list[ScoredRollout]:
        if self.config.length is None:
            return list(rollouts)
        advantages = length_advantages(self.config, [len(item.rollout.response_ids) for item in rollouts])
        return [replace(item, length_advantage=own) for item, own in zip(rollouts, advantages, strict=True)]

    def holds(self, step: int) -> bool:
        """Whether the rollouts of `step` are logged, and with opd.overlap those that were begun in it persisted."""
        number = step // self.config.updates
        ahead = number + 1
        if not self.config.overlap or ahead * self.config.updates >= self.config.steps:
            return self.log.holds(number)
        rows = set(range(self.config.prompts * self.config.group))
        return self.log.holds(number) and (self.log.holds(ahead) or self.log.read_unscored(ahead).keys() >= rows)

    def forget(self, step: int) -> None:
        """Drop the teacher's scores of rollouts that no step from `step` on needs."""
        if self.scorer is not None:
            self.scorer.forget(step // self.config.updates)

    def settle(self) -> None:
        """Wait for the batch that is under way: the weights of its policy are gone after the next update."""
        self.prefetch.wait()

    def close(self) -> None:
        self.prefetch.close()

    def _replay(self, number: int) -> list[ScoredRollout] | None:
        """The batch from log and scorer; None where rollouts or scores are missing."""
        rollouts = self.log.read(number)
        if rollouts is None:
            return None
        return self._scored(number, rollouts, lambda scorer, inputs: scorer.load(number, inputs))

    def _make(self, number: int) -> tuple[list[ScoredRollout], dict[str, float]]:
        """Make and log the batch, and measure the seconds; other processes' rollouts have the part that is logged."""
        started = time.perf_counter()
        share = self.prefetch.take(number) or self._begin(number)()
        wait = {"wait": time.perf_counter() - started} if self.config.overlap else {}
        rollouts = self.world.join([item.logged() for item in share.rollouts])
        if self.world.first and not self.log.holds(number):  # of a replay only the scores are made again
            self.log.append(number, rollouts)
        self.world.wait()
        own = {item.rollout.row: item for item in share.rollouts}
        return [own.get(item.rollout.row, item) for item in rollouts], {**share.seconds, **wait}

    def _look_ahead(self, number: int) -> None:
        """Begin to make this process's share of a batch to come, unless it is persisted."""
        if number < self.config.steps and self._replay(number) is None:
            self.prefetch.start(number, self._begin(number))

    def _begin(self, number: int) -> Callable[[], _Share]:
        """Fix the policy of a batch; the function returned makes this process's share of it, in any thread."""
        sample = self._sample(number)

        def make() -> _Share:
            started = time.perf_counter()
            rollouts = sample()
            seconds = {"rollout": time.perf_counter() - started}
            if self.objective.rewarded or self.shown.uses_feedback:
                rollouts = self._judged(number, rollouts)
            started = time.perf_counter()
            scored = self._scored(number, rollouts, lambda scorer, inputs: scorer.score(number, inputs))
            assert scored is not None
            return _Share(scored, {**seconds, "score": time.perf_counter() - started})

        return make

    def _stop(self) -> None:
        self.sampler.close()
        if self.scorer is not None:
            self.scorer.stop()

    def _chosen(self, number: int) -> list[int]:
        """The question's number for each row of a batch of rollouts: seeded epochs over all, each for a group."""
        chosen = epoch_batch(self.config.seed, number, self.config.prompts, len(self.questions))
        return [i for i in chosen for _ in range(self.config.group)]

    def _questions_of(self, number: int) -> list[dict[str, Any]]:
        return [self.questions[i] for i in self._chosen(number)]

    def _queries_of(self, number: int) -> list[Query]:
        return [self.queries[i] for i in self._chosen(number)]

    def _sample(self, number: int) -> Callable[[], list[Rollout]]:
        """A function that gives this process's rollouts; those that are persisted are not sampled again."""
        rows = self.world.share(range(self.config.prompts * self.config.group))
        logged = self.log.read(number)
        persisted = self.log.read_unscored(number) if logged is None else {item.row: item for item in logged}
        if all(row in persisted for row in rows):
            return lambda: [persisted[row] for row in rows]
        return self._roll_out(number, rows)

    def _roll_out(self, number: int, rows: Sequence[int]) -> Callable[[], list[Rollout]]:
        """A function that samples a response for each of `rows`, and persists it."""
        tokenizer, every, each_query = self.student.tokenizer, self._questions_of(number), self._queries_of(number)
        questions = [every[row] for row in rows]
        prompts = [question_ids(tokenizer, each_query[row], self.prompt_format) for row in rows]
        groups = [row % self.config.group for row in rows]
        # The row's number is part of the key: a question may come up twice.
        named = zip(rows, questions, groups, strict=True)
        keys = [f"{number}/{row}/{question['question_id']}/{index}" for row, question, index in named]
        draw = self.sampler.begin(prompts, keys)

        def roll_out() -> list[Rollout]:
            rollouts = [
                Rollout(
                    step=number,
                    row=row,
                    question_id=question["question_id"],
                    sample_index=index,
                    prompt_ids=prompt,
                    response_ids=response.response_ids,
                    text=completed(decode(tokenizer, response.response_ids), opening_of(tokenizer, prompt)),
                    sampler_logprobs=response.logprobs,
                    finish_reason=response.finish_reason,
                    ghost_ids=question.get("ghost_ids"),
                    teacher=question.get("teacher"),
                )
                for row, question, index, prompt, response in zip(rows, questions, groups, prompts, draw(), strict=True)
            ]
            self.log.append_unscored(number, self.world.rank, rollouts)
            return rollouts

        return roll_out

    def _judged(self, number: int, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """`rollouts` with their rewards, and with feedback where the teacher is shown it."""
        questions, cases = self._questions_of(number), []
        for item in rollouts:
            question, answer = questions[item.row], parse(item.text, form=self.prompt_format.answer).answer
            cases.append(Case(answer, question["gold_answer"], item.truncated, question["question"], item.text))
        verdicts = verdicts_of(self.verifier, cases)
        judged = zip(rollouts, verdicts, strict=True)
        if not self.shown.uses_feedback:
            return [replace(item, reward=reward_of(verdict)) for item, verdict in judged]
        return [replace(item, reward=reward_of(v), feedback=feedback_of(v)) for item, v in judged]

    def _scored(
        self,
        number: int,
        rollouts: Sequence[Rollout],
        ask: Callable[[Scorer, list[ScoringInput]], list[TokenScores] | None],
    ) -> list[ScoredRollout] | None:
        """`rollouts` with the teacher's scores, where there is one; `ask` has them from the scorer, or None."""
        if self.scorer is None:
            return [ScoredRollout(item) for item in rollouts]
        inputs = self._inputs(self.scorer, number, rollouts)
        scores = ask(self.scorer, inputs)
        if scores is None:
            return None
        prompts = [self.scorer.prompt_tokens(item) for item in inputs]
        return [ScoredRollout(*parts) for parts in zip(rollouts, scores, prompts, strict=True)]

    def _inputs(self, scorer: Scorer, number: int, rollouts: Sequence[Rollout]) -> list[ScoringInput]:
        """What is scored of a batch of rollouts, each by the teacher of its question."""
        chosen = self._chosen(number)
        return [
            ScoringInput(item.row, self._asked(scorer, chosen[item.row], item), item.response_ids, item.teacher)
            for item in rollouts
        ]

    def _asked(self, scorer: Scorer, question: int, rollout: Rollout) -> Query:
        """What the teacher is asked where it scores an answer to this question; the feedback is as long as fits."""
        own, values = self.queries[question], self.shown_values[question]
        if rollout.feedback is None:
            return self.shown.query(own, values)
        query = self.shown.query(own, values, rollout.feedback)
        if scorer.has_room(ScoringInput(rollout.row, query, rollout.response_ids, rollout.teacher)):
            return query
        return self.shown.query(own, values, rollout.feedback.partition(" ")[0])

    def _ledger(self, number: int, rollouts: Sequence[ScoredRollout]) -> list[LedgerEntry]:
        prompts = [len(item.rollout.prompt_ids) for item in rollouts]
        responses = [len(item.rollout.response_ids) for item in rollouts]
        entries = [compute_ledger.entry("opd", "student", "rollout", self.cost, prompts, responses)]
        if self.scorer is not None:
            under = [item.teacher_prompt_tokens for item in rollouts if item.teacher_prompt_tokens is not None]
            inputs = self._inputs(self.scorer, number, [item.rollout for item in rollouts])
            entries += self.scorer.entries("opd", inputs, under)
        return entries

    def _statistics(self, scored: Sequence[ScoredRollout]) -> dict[str, float]:
        """Mean response length in tokens, shares that were cut and repeated, and where there are such: the teacher's
        log-probability of the ends, and the reward, as means.
        """
        rollouts = [item.rollout for item in scored]
        rewards = [item.reward for item in rollouts if item.reward is not None]
        ends = [float(item.teacher.logprobs[-1]) for item in scored if item.teacher and not item.rollout.truncated]
        lengths = [len(item.response_ids) for item in rollouts]
        priced = self.config.length is not None
        context = self.shown.context
        return {
            "mean_length": sum(lengths) / len(rollouts),
            **({"length_price": sum(prices(self.config, lengths)) / len(rollouts)} if priced else {}),
            "truncated": sum(item.truncated for item in rollouts) / len(rollouts),
            "repetition": repetition([item.response_ids for item in rollouts]),
            **({"end_logprob": sum(ends) / len(ends)} if ends else {}),
            **({"mean_reward": sum(rewards) / len(rewards)} if rewards else {}),
            **({"mentions": share_of_mentions([item.text for item in rollouts], context.mentions)} if context else {}),
        }


def feedback_of(verdict: Verdict) -> str:
    """A verdict in words: its label, and in brackets the reason."""
    if verdict.reason is None:
        return verdict.label
    return f"{verdict.label} ({verdict.reason.strip()[:_LONGEST_REASON]})"


def reward_of(verdict: Verdict) -> float | None:
    """1 for a right answer, 0 for a wrong one and for a response that ended without one, else None: no verdict."""
    if verdict == NO_FINAL_ANSWER:
        return 0.0
    return {"correct": 1.0, "incorrect": 0.0}.get(verdict.label)
