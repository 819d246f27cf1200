"""Validation during training: accuracy on the validation split against the compute spent so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Evaluation, Training, Verification
from cohobate.core import progress
from cohobate.core.errors import DamagedFileError
from cohobate.core.sealed_files import move_aside
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.evaluation import accuracy
from cohobate.evaluation.samplers import ModelSampler
from cohobate.models.chat_template import PromptFormat
from cohobate.models.context_room import set_aside
from cohobate.models.model_cost import cost_of
from cohobate.models.sampling.sampler import Decoding
from cohobate.store.compute_ledger import LedgerEntry, entry
from cohobate.training.metrics import flops_by_model


@dataclass
class Validation:
    """Measures the student at some steps, each as a point on disk that is not measured again."""

    sampler: ModelSampler
    prompt_format: PromptFormat
    questions: pl.DataFrame
    folder: Path
    stage: str
    evaluation: Evaluation
    verifier: Verification
    temperature: float = 0.0

    @classmethod
    def of(
        cls,
        sampler: ModelSampler,
        prompt_format: PromptFormat,
        questions: Path,
        config: Training,
        folder: Path,
        stage: str,
        evaluation: Evaluation,
        verifier: Verification,
    ) -> Validation:
        """Validation on the first `evaluate_questions` of the validation split in the artifact's folder `questions`."""
        frame = pl.read_parquet(questions / "questions.parquet")
        chosen = frame.filter(pl.col("split") == "validation").head(config.evaluate_questions)
        chosen = set_aside(f"{stage}, validation", chosen, [(sampler.model, prompt_format)])
        temperature = config.evaluate_temperature
        return cls(sampler, prompt_format, chosen, folder / "points", stage, evaluation, verifier, temperature)

    def __call__(self, step: int, spent: list[LedgerEntry]) -> None:
        """Measure the student at `step`, after the work in `spent`."""
        path = self._path(step)
        if self.holds(step):
            return
        decoding = Decoding(self.evaluation.max_tokens, self.temperature)
        exam = accuracy.Exam(decoding, 1, 0, self.verifier, self._mark(step))
        answers = accuracy.answer(self.sampler, self.prompt_format, self.questions, exam)
        summary = accuracy.summarise(answers)
        cost = cost_of(self.sampler.model.config)
        lengths = answers["prompt_tokens"].to_list(), answers["tokens"].to_list()
        paid = entry(self.stage, "student", "evaluation", cost, *lengths)
        point = {
            "step": step,
            "split": "validation",
            "decoding": "sampled" if self.temperature else "greedy",
            "n": summary.n,
            **summary.accuracy.as_row("accuracy"),
            **flops_by_model(spent),
        }
        progress.measured(self.stage, step, {"accuracy": summary.accuracy.mean})
        judged = accuracy.judge_ledger(self.verifier, self.questions, answers, self.stage, self._mark(step))
        write_sealed_json(path, {"point": point, "ledger": [item.as_dict() for item in (paid, *judged)]})

    def holds(self, step: int) -> bool:
        """Whether the point of `step` is there as it was written, or nothing is measured at all.

        One that was altered is reported, and moved aside.
        """
        path = self._path(step)
        if not path.exists():
            return self.questions.is_empty()
        try:
            _read(path)
        except DamagedFileError as error:
            progress.say(f"{error}; it is moved aside, and measured again")
            move_aside(path)
            return False
        return True

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.json"

    def _mark(self, step: int) -> str:
        """The name under which this point of this build asks the judge."""
        return f"points/{self.folder.parent.parent.name}/{step}"

    def points(self) -> tuple[list[dict[str, Any]], list[LedgerEntry]]:
        """All points in order of steps, and the ledger's entries for measuring them."""
        saved = [_read(path) for path in sorted(self.folder.glob("step-*.json"))]
        return [s["point"] for s in saved], [LedgerEntry(**item) for s in saved for item in s["ledger"]]


def _read(path: Path) -> dict[str, Any]:
    """A point and its ledger. Raises DamagedFileError."""
    values = read_sealed_json(path, unsealed=True)  # those of an earlier version have no seal
    if values.keys() != {"point", "ledger"}:
        raise DamagedFileError(f"{path} was altered after it was written")
    return values
