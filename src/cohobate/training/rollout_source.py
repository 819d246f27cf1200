"""Batches for on-policy distillation: fresh questions -> the student's rollouts -> the teacher's scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from cohobate import ledger, rollouts, scoring
from cohobate.batches import Row
from cohobate.chat import decode, question_ids, student_format, teacher_format
from cohobate.config import Recipe
from cohobate.files import replacing
from cohobate.ledger import LedgerEntry, ModelCost
from cohobate.students import LoadedModel
from cohobate.training.adapters import Trainee
from cohobate.training.base import StepBatch
from cohobate.training.measures import repetition
from cohobate.training.rollout_log import RolloutLog
from cohobate.training.triple_source import permutation

Logged = list[dict[str, Any]]


class RolloutSource:
    """Rollouts of a step, sampled and scored once and for all.

    The log keeps token ids and log-probabilities. The exact objective needs the teacher's whole distribution: it is
    kept as last hidden states (d numbers a token instead of V) in `scores` until a snapshot makes a replay of that
    step impossible.
    """

    def __init__(
        self,
        recipe: Recipe,
        trainee: Trainee,
        teacher: LoadedModel,
        questions: pl.DataFrame,
        log: RolloutLog,
        scores: Path,
    ) -> None:
        self.config, self.world = recipe.opd, trainee.world
        self.trainee, self.student, self.teacher = trainee, trainee.student, teacher
        self.student_form, self.teacher_form = student_format(recipe), teacher_format(recipe)
        self.questions = questions.select("question_id", "question").rows()
        self.log, self.scores = log, scores
        self.exact = recipe.opd.objective == "exact"
        self.costs = {
            "student": ModelCost.of(self.student.model.config),
            "teacher": ModelCost.of(teacher.model.config),
        }
        scores.mkdir(parents=True, exist_ok=True)

    def batch(self, step: int) -> StepBatch:
        """The rows of `step`: from the log if it was persisted, else sampled and scored now."""
        seconds: dict[str, float] = {}
        logged = self.log.read(step)
        hidden = self._saved_hidden(step, self.world.share(logged)) if logged else None
        # All ranks sample anew, or none does.
        missing = self.world.total(int(logged is None or (self.exact and hidden is None)))
        if missing or logged is None:
            started = time.perf_counter()
            mine = self._roll_out(step)
            seconds["rollout"] = time.perf_counter() - started
            started = time.perf_counter()
            hidden = self._score(mine)
            seconds["score"] = time.perf_counter() - started
            if self.exact:
                self._save_hidden(step, mine, hidden)
            logged = self.world.join(mine)
            if self.world.first:
                self.log.append(step, logged)
            self.world.wait()
        rows = self._rows(self.world.share(logged), hidden)
        return StepBatch(rows, self._ledger(logged), _statistics(logged), seconds)

    def forget(self, step: int) -> None:
        """Drop the teacher's hidden states of the steps before `step`."""
        for path in self.scores.glob(f"step-*-{self.world.rank}.safetensors"):
            if int(path.stem.split("-")[1]) < step:
                path.unlink()

    def _chosen(self, step: int) -> list[tuple[str, str]]:
        """The (question_id, question) of a step's prompts: seeded epochs over the fresh questions."""
        places = range(step * self.config.prompts, (step + 1) * self.config.prompts)
        count = len(self.questions)
        orders = (permutation(self.config.seed, place // count, count)[place % count] for place in places)
        return [self.questions[i] for i in orders]

    def _roll_out(self, step: int) -> Logged:
        config, student = self.config, self.student
        everything = [(q, group) for q in self._chosen(step) for group in range(config.group)]
        asked = self.world.share(list(enumerate(everything)))
        ids = {q: question_ids(student.tokenizer, q, self.student_form) for _, ((_, q), _) in asked}
        # The place in the step is part of the name: a question may come up twice in a step.
        keys = [f"{step}/{place}/{name}/{group}" for place, ((name, _), group) in asked]
        with self.trainee.precision():
            sampled = rollouts.sample(
                student.model,
                [ids[question] for _, ((_, question), _) in asked],
                rollouts.Decoding(config.max_tokens),
                rollouts.uniforms(config.seed, keys, config.max_tokens),
                eos_ids=student.eos_ids,
                pad_id=student.pad_id,
            )
        return [
            {
                "step": step,
                "row": row,
                "question_id": name,
                "question": question,
                "sample_index": group,
                "prompt_ids": ids[question],
                "response_ids": response.response_ids,
                "text": decode(student.tokenizer, response.response_ids),
                "sampler_logprobs": response.logprobs,
                "finish_reason": response.finish_reason,
                "reward": None,
            }
            for (row, ((name, question), group)), response in zip(asked, sampled, strict=True)
        ]

    def _score(self, logged: Logged) -> list[torch.Tensor]:
        """Add teacher_logprobs and teacher_prompt_tokens to `logged`; return the teacher's hidden states."""
        rows = []
        for item in logged:
            prompt = question_ids(self.teacher.tokenizer, item.pop("question"), self.teacher_form)
            item["teacher_prompt_tokens"] = len(prompt)
            rows.append(Row([*prompt, *item["response_ids"]], len(prompt)))
        budget = self.config.tokens_per_batch
        scores = scoring.score(self.teacher.model, rows, budget, self.teacher.pad_id)
        for item, score in zip(logged, scores, strict=True):
            item["teacher_logprobs"] = score.logprobs.tolist()
        return [score.hidden for score in scores]

    def _rows(self, logged: Logged, hidden: list[torch.Tensor] | None) -> list[Row]:
        rows = []
        for i, item in enumerate(logged):
            known = {
                "sampler_logprobs": torch.tensor(item["sampler_logprobs"]),
                "teacher_logprobs": torch.tensor(item["teacher_logprobs"]),
            }
            if self.exact and hidden is not None:
                known["teacher_hidden"] = hidden[i]
            rows.append(Row([*item["prompt_ids"], *item["response_ids"]], len(item["prompt_ids"]), known))
        return rows

    def _ledger(self, logged: Logged) -> list[LedgerEntry]:
        prompts = [len(item["prompt_ids"]) for item in logged]
        scored = [item["teacher_prompt_tokens"] for item in logged]
        responses = [len(item["response_ids"]) for item in logged]
        student, teacher = self.costs["student"], self.costs["teacher"]
        return [
            ledger.entry("opd", "student", "rollout", student, prompts, responses),
            ledger.entry("opd", "teacher", "scoring", teacher, scored, responses),
        ]

    def _save_hidden(self, step: int, mine: Logged, hidden: list[torch.Tensor]) -> None:
        found = {str(item["row"]): states for item, states in zip(mine, hidden, strict=True)}
        with replacing(self.scores / f"step-{step:06d}-{self.world.rank}.safetensors") as temporary:
            save_file(found, temporary)

    def _saved_hidden(self, step: int, mine: Logged) -> list[torch.Tensor] | None:
        """The hidden states of these rows, whichever ranks saved them; None if one is missing."""
        found: dict[str, torch.Tensor] = {}
        for path in self.scores.glob(f"step-{step:06d}-*.safetensors"):
            found |= load_file(path)
        rows = [str(item["row"]) for item in mine]
        return [found[row] for row in rows] if all(row in found for row in rows) else None


def _statistics(logged: Logged) -> dict[str, float]:
    """Mean response length in tokens, the share that was cut, the share of repeated 4-grams."""
    count = len(logged)
    return {
        "mean_length": sum(len(item["response_ids"]) for item in logged) / count,
        "truncated": sum(item["finish_reason"] == "length" for item in logged) / count,
        "repetition": repetition([item["response_ids"] for item in logged]),
    }
