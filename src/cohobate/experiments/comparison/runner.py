"""Making the students of a plan: each from what it begins with, each measured by itself, nothing twice.

How a stage is run is the caller's: a flow brings Prefect tasks, a process that works ahead brings the stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cohobate.config import Recipe
from cohobate.config.compare import BASE, START
from cohobate.core.fingerprint import hash_value
from cohobate.experiments.comparison.plan import Run, plan
from cohobate.store.artifacts import Artifact


@dataclass(frozen=True)
class Makers:
    """What runs the stages; each takes the arguments of the stage's own function."""

    triples: Callable[..., Artifact]
    sft: Callable[..., Artifact]
    opd: Callable[..., Artifact]
    evaluation: Callable[..., Artifact]


@dataclass(frozen=True)
class Trained:
    """A student with what it learnt from and what it can do. triples: those of its recipe, learnt from or not."""

    run: Run
    triples: Artifact
    student: Artifact
    scores: Artifact


@dataclass
class Course:
    """The students of `recipe` on `questions`."""

    recipe: Recipe
    questions: Artifact
    makers: Makers
    _made: dict[Any, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runs = plan(self.recipe)
        self._by_name = {(run.method, run.seed): run for run in self.runs}

    def triples(self, recipe: Recipe) -> Artifact:
        """The triples of a run's recipe; runs with the same settings share them."""
        key = hash_value(recipe.triples.identity())
        return self._once(("triples", key), lambda: self.makers.triples(recipe, self.questions))

    def all_triples(self) -> list[Artifact]:
        """The triples of the start, then those that some runs have instead."""
        found = [self.triples(recipe) for recipe in (self.recipe, *(run.recipe for run in self.runs))]
        return list({artifact.fingerprint: artifact for artifact in found}.values())

    def start(self) -> Artifact:
        """The student that the methods go on from."""
        return self._once(START, lambda: self.makers.sft(self.recipe, self.triples(self.recipe), self.questions))

    def start_scores(self) -> Artifact:
        """The start beside base and teacher."""
        return self._once("scores", lambda: self.makers.evaluation(self.recipe, self.questions, [self.start()]))

    def student(self, run: Run) -> Artifact:
        """The student of `run`, after the one that it begins with."""
        return self._once(("student", run.method, run.seed), lambda: self._train(run))

    def scores(self, run: Run) -> Artifact:
        """What the student of `run` can do."""
        make = self.makers.evaluation
        return self._once(
            ("scores", run.method, run.seed),
            lambda: make(run.recipe, self.questions, [self.student(run)], alone=True),
        )

    def trained(self) -> list[Trained]:
        """All students of the plan."""
        return [Trained(run, self.triples(run.recipe), self.student(run), self.scores(run)) for run in self.runs]

    def needs(self, run: Run) -> Run | None:
        """The run that `run` goes on from, if it is one of the plan."""
        return self._by_name.get((run.start, run.seed))

    def _train(self, run: Run) -> Artifact:
        triples, before = self.triples(run.recipe), self.needs(run)
        if run.start == BASE:
            return self.makers.sft(run.recipe, triples, self.questions)
        begun = self.student(before) if before else self.start()
        if run.stage == "sft":
            return self.makers.sft(run.recipe, triples, self.questions, begun)
        return self.makers.opd(run.recipe, begun, self.questions, triples)

    def _once(self, key: Any, make: Callable[[], Artifact]) -> Artifact:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
