"""Where the questions come from."""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from cohobate.config.base import EXECUTION, Count, Positive, Section, Share


class Columns(Section):
    """The names that a questions file gives to its columns."""

    question: str = "question"
    """The question's text."""
    gold_answer: str = "gold_answer"
    """The right answer."""
    id: str | None = None
    """A unique name of the question; None: the hash of its text."""


class Fractions(Section):
    """Shares of a questions file, drawn by the hash of the question; they add up to 1."""

    train: Share = 0.4
    fresh: Share = 0.4
    validation: Share = 0.05
    test: Share = 0.15

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.fresh + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        return self


class Questions(Section):
    """Where the questions come from: the embedded world, or a file."""

    source: Literal["world", "file"] = "world"
    """world: the generator that ships with cohobate. file: `path`."""
    path: Annotated[str | None, EXECUTION] = None
    """A .parquet, .jsonl or .csv file; its content, not its place, is what counts."""
    columns: Columns = Columns()
    """Column names of the file."""
    split: Fractions = Fractions()
    """Shares of the file's questions, unless it has a `split` column."""
    train: Count = 1500
    """World: questions that the teacher answers for SFT."""
    fresh: Count = 8000
    """World: questions for on-policy distillation, seen by nobody before."""
    validation: Count = 400
    """World: questions for evaluation points during training."""
    test: Count = 2000
    """World: held-out test questions."""
    hard: Count = 500
    """World: test questions with more operations than any in training."""
    min_depth: Positive = 2
    """World: fewest operations of a question."""
    max_depth: Positive = 4
    """World: most operations of a question."""
    hard_depth: tuple[Positive, Positive] = (5, 6)
    """World: fewest and most operations of a hard question."""
    story: Share = 0.3
    """World: share of questions told as a short story."""
    seed: int = 0
    """Seed of the draw, and of the split of a file."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and self.path is None:
            raise ValueError("source = 'file' needs a path")
        if self.source == "world" and self.path is not None:
            raise ValueError("path is set but source is 'world'; set source = 'file' or drop the path")
        if self.min_depth > self.max_depth:
            raise ValueError(f"min_depth {self.min_depth} is above max_depth {self.max_depth}")
        if self.source == "world" and self.hard and self.hard_depth[0] <= self.max_depth:
            raise ValueError("hard_depth must begin above max_depth: hard questions are out of range")
        return self
