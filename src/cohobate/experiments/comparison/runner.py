"""Training of a comparison's students: each from the student it goes on from, each evaluated alone, nothing twice.

The caller gives the functions that run the stages: a flow gives Prefect tasks, a worker process the stages themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cohobate.config import BASE, START, Compare, Recipe
from cohobate.core.fingerprint import hash_value
from cohobate.experiments.comparison.plan import StudentRun, plan
from cohobate.store.artifacts import Artifact


@dataclass(frozen=True)
class StageFunctions:
    """The functions that run the stages; each takes the arguments of the stage's own function."""

    triples: Callable[..., Artifact]
    sft: Callable[..., Artifact]
    opd: Callable[..., Artifact]
    evaluation: Callable[..., Artifact]
    distance: Callable[..., Artifact]


@dataclass(frozen=True)
class TrainedStudent:
    """A student and its scores. triples: those of its recipe, whether it learns from them or not."""

    run: StudentRun
    triples: Artifact
    student: Artifact
    scores: Artifact


@dataclass
class ComparisonRunner:
    """The artifacts of a comparison, each built when it is first asked for and remembered then."""

    recipe: Recipe
    questions: Artifact
    stages: StageFunctions
    _artifacts: dict[Any, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runs = plan(self.recipe)
        self._by_name = {(run.method, run.seed): run for run in self.runs}

    def triples(self, recipe: Recipe) -> Artifact:
        """The triples of a run's recipe; runs with the same settings share them."""
        key = hash_value(recipe.triples.identity())
        return self._once(("triples", key), lambda: self.stages.triples(recipe, self.questions))

    def all_triples(self) -> list[Artifact]:
        """The triples of the start, then those of runs that have others."""
        artifacts = [self.triples(recipe) for recipe in (self.recipe, *(run.recipe for run in self.runs))]
        return list({artifact.fingerprint: artifact for artifact in artifacts}.values())

    def start(self) -> Artifact:
        """The student that the methods go on from."""
        return self._once(START, lambda: self.stages.sft(self.recipe, self.triples(self.recipe), self.questions))

    def start_scores(self) -> Artifact:
        """The evaluation of the start beside base and teacher."""
        return self._once("scores", lambda: self.stages.evaluation(self.recipe, self.questions, [self.start()]))

    def student(self, run: StudentRun) -> Artifact:
        """The student of `run`, after the one that it goes on from."""
        return self._once(("student", run.method, run.seed), lambda: self._train(run))

    def scores(self, run: StudentRun) -> Artifact:
        """The evaluation of the student of `run` alone."""
        evaluate = self.stages.evaluation
        return self._once(
            ("scores", run.method, run.seed),
            lambda: evaluate(run.recipe, self.questions, [self.student(run)], alone=True),
        )

    def distances(self) -> list[tuple[str, Artifact]]:
        """By name, `base`, `start` and methods, the distance of each student to its teacher; none unless asked for."""
        if self.recipe.section(Compare).distance is None:
            return []
        measure = self.stages.distance
        students: list[tuple[str, Artifact | None]] = [(BASE, None), (START, self.start())]
        students += [(run.method, self.student(run)) for run in self.runs]
        return [
            (name, self._once(("distance", at), partial(measure, self.recipe, self.questions, student)))
            for at, (name, student) in enumerate(students)
        ]

    def trained(self) -> list[TrainedStudent]:
        """All students of the plan, in its order."""
        return [TrainedStudent(run, self.triples(run.recipe), self.student(run), self.scores(run)) for run in self.runs]

    def predecessor(self, run: StudentRun) -> StudentRun | None:
        """The run that `run` goes on from, if it is one of the plan."""
        return self._by_name.get((run.start, run.seed))

    def _train(self, run: StudentRun) -> Artifact:
        triples, predecessor = self.triples(run.recipe), self.predecessor(run)
        if run.start == BASE:
            return self.stages.sft(run.recipe, triples, self.questions)
        start = self.student(predecessor) if predecessor else self.start()
        if run.stage == "sft":
            return self.stages.sft(run.recipe, triples, self.questions, start)
        return self.stages.opd(run.recipe, start, self.questions, triples)

    def _once(self, key: Any, build: Callable[[], Artifact]) -> Artifact:
        if key not in self._artifacts:
            self._artifacts[key] = build()
        return self._artifacts[key]
