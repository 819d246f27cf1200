"""Batches for on-policy training: questions -> the student's rollouts -> what teacher and verifier say to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.core.answer_parsing import parse
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import judge
from cohobate.models.chat_template import decode, question_ids, student_format
from cohobate.models.sampling.sampler import Sampled
from cohobate.store import ledger
from cohobate.store.ledger import LedgerEntry, ModelCost
from cohobate.training.methods import Logged, Method
from cohobate.training.metrics import repetition
from cohobate.training.prefetch import Ahead
from cohobate.training.rollout_log import RolloutLog
from cohobate.training.samplers import Sampler
from cohobate.training.scoring.local import Asked, Known, Scores
from cohobate.training.trainee import Trainee
from cohobate.training.triple_source import permutation
from cohobate.training.types import Source, StepBatch


@dataclass(frozen=True)
class _Made:
    """What a process made of its share of a batch: rollouts, what the teacher said to each, and how long it took."""

    rows: Logged
    scores: dict[int, Known]
    seconds: dict[str, float]


class RolloutSource(Source):
    """Rollouts of a step, sampled, scored and judged once and for all.

    Each serves `opd.updates` steps; the log counts the batches of rollouts. Questions may bring the token ids of a
    ghost, a response that others have written to them (column ghost_ids).

    With opd.overlap the batch of step k + 1 is made in a thread while step k learns: its policy is that before update
    k, exactly. No snapshot is taken before it is persisted, so a run that goes on from there learns from the same.
    """

    def __init__(
        self,
        recipe: Recipe,
        trainee: Trainee,
        method: Method,
        scores: Scores | None,
        questions: pl.DataFrame,
        log: RolloutLog,
        sampler: Sampler,
    ) -> None:
        self.config, self.verifier, self.world = recipe.opd, recipe.triples.verifier, trainee.world
        self.trainee, self.student, self.prompt_format = trainee, trainee.student, student_format(recipe)
        self.method, self.scores, self.log = method, scores, log
        self.sampler = sampler
        self.ahead: Ahead[_Made] = Ahead(self._stop)
        self.questions = questions.to_dicts()
        self.cost = ModelCost.of(self.student.model.config)

    def batch(self, step: int) -> StepBatch:
        """The rows of `step`: from the log if they were persisted, else sampled, scored and judged now."""
        place, update = divmod(step, self.config.updates)
        seconds: dict[str, float] = {}
        logged = self.log.read(place)
        scores = self._kept(place, logged) if logged else None
        # All ranks make it, or none does.
        if self.world.total(int(logged is None or scores is None)):
            logged, scores = self._make(place, logged, seconds)
        assert logged is not None and scores is not None
        rows = self.world.share(self.method.learn(logged, scores))
        rows = [row.first(self.config.train_tokens) for row in rows]
        if self.config.overlap:
            self._look_ahead(place + 1)
        if update:  # the rollouts are paid for and told of by their first step
            return StepBatch(rows)
        return StepBatch(rows, self._ledger(logged), self._statistics(logged), seconds)

    def forget(self, step: int) -> None:
        """Drop what the teacher said to the rollouts that no step from `step` on needs."""
        if self.scores is not None:
            self.scores.forget(step // self.config.updates)

    def settle(self) -> None:
        """Until the batch that is under way is kept: its policy's weights are gone after the next update."""
        self.ahead.wait()

    def close(self) -> None:
        self.ahead.close()

    def _make(self, place: int, logged: Logged | None, seconds: dict[str, float]) -> tuple[Logged, dict[int, Known]]:
        started = time.perf_counter()
        made = self.ahead.take(place) or self._begin(place, logged)()
        seconds |= made.seconds
        if self.config.overlap:
            seconds["wait"] = time.perf_counter() - started
        logged = self.world.join(made.rows)
        if self.world.first:
            self.log.append(place, logged)
        self.world.wait()
        return logged, made.scores

    def _look_ahead(self, place: int) -> None:
        """Begin to make this process's share of a batch that is to come, unless it is there."""
        logged = self.log.read(place) if place < self.config.steps else []
        if logged is None or self._kept(place, logged) is None:
            self.ahead.start(place, self._begin(place, logged))

    def _begin(self, place: int, logged: Logged | None) -> Callable[[], _Made]:
        """Fix the policy of a batch; what is returned makes this process's share of it, in any thread."""
        sampled = self._sampled(place, logged)

        def make() -> _Made:
            started = time.perf_counter()
            mine = sampled()
            seconds = {"rollout": time.perf_counter() - started}
            if self.method.rewarded:
                self._reward(mine)
            started = time.perf_counter()
            scores = self._score(place, mine)
            return _Made(mine, scores, {**seconds, "score": time.perf_counter() - started})

        return make

    def _stop(self) -> None:
        self.sampler.close()
        if self.scores is not None:
            self.scores.stop()

    def _kept(self, place: int, logged: Logged) -> dict[int, Known] | None:
        """What the teacher said to this process's share of `logged`, as far as the log does not hold it."""
        if self.scores is None or not self.scores.needs.kept:
            return {}
        rows = [item["row"] for item in self.world.share(logged)]
        found = self.scores.kept(place, rows)
        return None if found is None else dict(zip(rows, found, strict=True))

    def _chosen(self, place: int) -> list[dict[str, Any]]:
        """The questions of a batch of rollouts: seeded epochs over all of them."""
        places = range(place * self.config.prompts, (place + 1) * self.config.prompts)
        count = len(self.questions)
        return [self.questions[permutation(self.config.seed, at // count, count)[at % count]] for at in places]

    def _sampled(self, place: int, logged: Logged | None) -> Callable[[], Logged]:
        """What gives the rollouts of this process: what is logged or held of them is not sampled again."""
        everything = [(question, group) for question in self._chosen(place) for group in range(self.config.group)]
        asked = self.world.share(list(enumerate(everything)))
        known = self.log.held(place) if logged is None else {row["row"]: row for row in logged}
        if not all(row in known for row, _ in asked):
            return self._roll_out(place, asked)
        told = ("question", "gold_answer")  # which the log does not repeat
        mine = [{**known[row], **{name: question[name] for name in told}} for row, (question, _) in asked]
        return lambda: mine

    def _roll_out(self, place: int, asked: Sequence[tuple[int, tuple[dict[str, Any], int]]]) -> Callable[[], Logged]:
        """What samples, and holds, a response to each (row, (question, number in its group))."""
        student = self.student
        prompts = [
            question_ids(student.tokenizer, question["question"], self.prompt_format) for _, (question, _) in asked
        ]
        # The row's number is part of the name: a question may come up twice.
        keys = [f"{place}/{row}/{question['question_id']}/{group}" for row, (question, group) in asked]
        draw = self.sampler.begin(prompts, keys)

        def roll_out() -> Logged:
            mine = self._rows(place, asked, prompts, draw())
            self.log.hold(place, self.world.rank, mine)
            return mine

        return roll_out

    def _rows(
        self,
        place: int,
        asked: Sequence[tuple[int, tuple[dict[str, Any], int]]],
        prompts: Sequence[list[int]],
        sampled: Sequence[Sampled],
    ) -> Logged:
        """The rows of the log, not scored yet."""
        return [
            {
                "step": place,
                "row": row,
                "question_id": question["question_id"],
                "question": question["question"],
                "gold_answer": question["gold_answer"],
                "ghost_ids": question.get("ghost_ids"),
                "sample_index": group,
                "prompt_ids": prompt,
                "response_ids": response.response_ids,
                "text": decode(self.student.tokenizer, response.response_ids),
                "sampler_logprobs": response.logprobs,
                "teacher_logprobs": None,
                "teacher_spans": None,
                "teacher_prompt_tokens": None,
                "finish_reason": response.finish_reason,
                "reward": None,
            }
            for (row, (question, group)), prompt, response in zip(asked, prompts, sampled, strict=True)
        ]

    def _reward(self, mine: Logged) -> None:
        """1 for a right answer, 0 for a wrong one, none where the verifier cannot tell."""
        cases = [
            Case(
                parse(row["text"]).answer,
                row["gold_answer"],
                row["finish_reason"] == "length",
                row["question"],
                row["text"],
            )
            for row in mine
        ]
        for row, verdict in zip(mine, judge(self.verifier, cases), strict=True):
            row["reward"] = {"correct": 1.0, "incorrect": 0.0}.get(verdict.label)

    def _score(self, place: int, mine: Logged) -> dict[int, Known]:
        """Add the teacher's log-probabilities to `mine`; return all that it said, by the rows' numbers."""
        if self.scores is None:
            return {}
        asked = [Asked(row["row"], row["question"], row["response_ids"]) for row in mine]
        found = self.scores.score(place, asked)
        for row, known in zip(mine, found, strict=True):
            row["teacher_prompt_tokens"] = self.scores.prompt_tokens(row["question"])
            row["teacher_logprobs"] = known["teacher_logprobs"].tolist()
            row["teacher_spans"] = known["teacher_spans"].tolist() if "teacher_spans" in known else None
        return {row["row"]: known for row, known in zip(mine, found, strict=True)}

    def _ledger(self, logged: Logged) -> list[LedgerEntry]:
        prompts = [len(item["prompt_ids"]) for item in logged]
        responses = [len(item["response_ids"]) for item in logged]
        entries = [ledger.entry("opd", "student", "rollout", self.cost, prompts, responses)]
        if self.scores is not None:
            read = [self.scores.response_tokens(item["response_ids"]) for item in logged]
            entries.append(self.scores.entry("opd", [item["teacher_prompt_tokens"] for item in logged], read))
        return entries

    def _statistics(self, logged: Logged) -> dict[str, float]:
        """Mean response length in tokens, shares that were cut and repeated, and the mean reward where there is one."""
        count = len(logged)
        rewards = [item["reward"] for item in logged if item["reward"] is not None]
        return {
            "mean_length": sum(len(item["response_ids"]) for item in logged) / count,
            "truncated": sum(item["finish_reason"] == "length" for item in logged) / count,
            "repetition": repetition([item["response_ids"] for item in logged]),
            **({"mean_reward": sum(rewards) / len(rewards)} if rewards else {}),
        }
