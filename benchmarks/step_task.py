"""The task that all contenders of `benchmarks.step` do: models, questions, and the sizes of a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_TOKENS = 96
LEARNING_RATE = 1e-7
GROUP = 8


@dataclass(frozen=True)
class Task:
    """Input of a contender: folders of the models, rows {question, response}, and the size of a step.

    repeats: sequences per question in a step.
    """

    student: Path
    teacher: Path
    rows: list[dict[str, str]]
    sequences: int
    steps: int
    repeats: int = 1

    def batches(self) -> Iterator[list[dict[str, str]]]:
        """The rows of each step, each `repeats` times, from the start again when they run out."""
        for step in range(self.steps):
            places = range(step * self.sequences, (step + 1) * self.sequences)
            yield [self.rows[place // self.repeats % len(self.rows)] for place in places]


def prepare(folder: Path) -> list[str]:
    """The folders of the student after SFT and of the teacher's responses, by the stages of the arithmetic recipe."""
    os.environ["COHOBATE_DATA"] = str(folder)
    from cohobate.config.load import load_recipe
    from cohobate.stages import questions, sft, triples

    recipe = load_recipe("arithmetic", ["runtime.threads=1", "sft.evaluate_questions=16"])
    question_set = questions.write(recipe)
    answers = triples.write(recipe, question_set)
    return [str(sft.train(recipe, answers, question_set).path), str(answers.path)]


def task_of(sft: str, triples: str, sequences: int, steps: int, repeats: int = 1) -> Task:
    import polars as pl

    from cohobate.models.loading import model_path

    frame = (
        pl.read_parquet(Path(triples) / "triples.parquet").filter(~pl.col("truncated")).select("question", "response")
    )
    rows = list(frame.iter_rows(named=True))
    return Task(Path(sft) / "model", model_path("world/teacher"), rows, sequences, steps, repeats)


def reward(response: str) -> float:
    """A reward that costs nothing and differs within a group."""
    return float(len(response) % 5)
