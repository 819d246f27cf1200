"""What a person says before a recipe is proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config.load import apply
from cohobate.core.errors import RecipeError
from cohobate.stages.hardware import HERE


@dataclass(frozen=True)
class Wishes:
    """questions: as questions.path. teacher: a folder, a shipped name, ollama:MODEL, or the address of a server.

    student: a folder or a shipped name. teacher_model, key_env, price: of a server; price in USD per million tokens of
    prompt and response. question_column, gold_column, verifier: in place of what would be guessed. gpu: as
    `hardware` takes it. overrides: `section.key=value` over the proposal.
    """

    questions: str
    teacher: str
    student: str
    teacher_model: str | None = None
    key_env: str | None = None
    price: tuple[float, float] | None = None
    question_column: str | None = None
    gold_column: str | None = None
    verifier: str | None = None
    gpu: str = HERE
    nightly: bool = False
    overrides: Sequence[str] = ()

    def of_questions(self) -> dict[str, Any]:
        """The settings of [questions] among the overrides. Raises RecipeError for an override that is none."""
        given: dict[str, Any] = {}
        for override in self.overrides:
            apply(given, override)
        section = given.get("questions", {})
        if not isinstance(section, dict):
            raise RecipeError(f"--set questions={section}: [questions] is a section; set its keys")
        return section
