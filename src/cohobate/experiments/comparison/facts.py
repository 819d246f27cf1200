"""Types of comparison.json, which the findings write and the page reads."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Decoding = Literal["greedy", "sampled"]
Verdict = Literal["better", "worse", "unclear"]
Cost = Literal["flops", "teacher_flops", "student_flops", "step"]
COSTS: tuple[Cost, ...] = ("flops", "teacher_flops", "student_flops", "step")
"""Costs of training: FLOPs of both models, of each, and gradient steps; evaluation is left out."""


class Score(TypedDict):
    """Accuracy on n questions, with its 95% Wilson interval."""

    n: int
    accuracy: float
    low: float
    high: float


Scores = dict[Decoding, Score]


class Spread(TypedDict):
    """Mean over seeds with its 95% interval; low and high are None where it has no bounds, as for a single seed."""

    mean: float
    low: float | None
    high: float | None


class Gain(Spread):
    """Difference in accuracy to the start over seeds, its interval paired by question, and the verdict of both."""

    questions_low: float
    questions_high: float
    verdict: Verdict


class Ratio(Spread):
    """Ratio of two costs; bound: `mean` is a lower bound, since not all seeds reached the target."""

    bound: bool


class Spent(TypedDict):
    """A cost by its name: FLOPs, or gradient steps."""

    flops: float
    teacher_flops: float
    student_flops: float
    step: float


class CurvePoint(Spent):
    """An evaluation point of a student: its accuracy on n validation questions, and what training had cost by then."""

    decoding: str
    n: int
    accuracy: float
    low: float
    high: float


class PointFacts(CurvePoint):
    """An evaluation point with its student."""

    method: str
    seed: int


class StartFacts(TypedDict):
    """The student that the methods go on from; ids of artifacts."""

    id: str
    evaluation: str
    triples: str
    scores: Scores


class RunFacts(Spent):
    """A trained student: ids of its artifacts, its scores, and what it cost from where its costs count."""

    method: str
    seed: int
    student: str
    evaluation: str
    triples: str
    scores: Scores
    validation: float
    alarm: str | None
    seconds: float


class MethodFacts(Spent):
    """A method over its seeds; costs are means."""

    method: str
    about: str
    stage: str
    start: str
    seeds: int
    n: int
    scores: dict[Decoding, Spread]
    gain: dict[Decoding, Gain]
    alarms: int


class TargetFacts(TypedDict):
    """Number of a method's seeds that reached an accuracy, and their cost; paid is None unless all did."""

    target: float
    cost: Cost
    method: str
    reached: int
    seeds: int
    paid: Spread | None
    spent: float
    ratio: Ratio | None


class DifferenceFacts(TypedDict):
    """A method's accuracy less that of another one, seed by seed."""

    method: str
    against: str
    seeds: int
    greedy: NotRequired[Spread]
    sampled: NotRequired[Spread]


class DistanceFacts(TypedDict):
    """Reverse KL in nats per token, and share of tokens that both choose: of base, start, or a method over its seeds.

    accuracy: greedy, of the same students. n: questions.
    """

    model: str
    seeds: int
    n: int
    reverse_kl: Spread
    agreement: Spread
    accuracy: Spread | None


class ArtifactFacts(TypedDict):
    """An artifact of the start, as the page lists it."""

    id: str
    seconds: float
    created_at: str
    fingerprint: str


class Facts(TypedDict):
    """Everything that the tables, the figures and the page of a comparison show."""

    title: str
    description: str
    split: str
    decodings: list[Decoding]
    seeds: int
    reference: str
    start: StartFacts
    base: Scores
    teacher: Scores
    methods: list[MethodFacts]
    from_start: list[str]
    from_base: list[str]
    reached: list[TargetFacts]
    differences: list[DifferenceFacts]
    distances: list[DistanceFacts]
    runs: list[RunFacts]
    points: list[PointFacts]
    made: list[ArtifactFacts]
