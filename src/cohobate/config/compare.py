"""Methods that go on from one student, and how they are compared."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from cohobate.config.base import Experiment
from cohobate.core.settings import EXECUTION, Positive, Section, Share

# Where a method may begin, beside another method: the student of the recipe's own [sft], or the base student.
START, BASE = "start", "base"
Changes = dict[str, JsonValue]


def _nameable(methods: dict[str, Any]) -> dict[str, Any]:
    for name in methods:
        if not name.replace("_", "").isalnum() or name in (START, BASE):
            raise ValueError(f"'{name}' cannot name a method; take letters, digits and _, but not {START} or {BASE}")
    return methods


class Method(Section):
    """One way to train a student: what it begins with, and what it changes in the recipe."""

    stage: Literal["sft", "opd"] = "opd"
    """The stage that trains it."""
    start: str = START
    """The student that it begins with. start: the recipe's own SFT student, the same for all methods and seeds. base:
    the base student, as it is before any training. Or another method, whose student of the same seed it is."""
    triples: Changes = {}
    """Changes of [triples]: other triples than those of the start."""
    sft: Changes = {}
    """Changes of [sft]."""
    opd: Changes = {}
    """Changes of [opd]."""
    against: str | None = None
    """Another method that begins likewise: the difference to it, seed by seed, is shown."""
    about: str = ""
    """For people, on the page."""


class Compare(Experiment):
    """Methods over several seeds, measured alike."""

    key: ClassVar[str] = "compare"
    shipped: ClassVar[str] = "compare"

    methods: Annotated[dict[str, Method], Field(min_length=1), AfterValidator(_nameable)]
    """By name."""
    only: tuple[str, ...] = ()
    """The methods that are run, and those they begin with; empty: all."""
    seeds: Positive = 3
    """Students of each method: its stage's seed, and so many less one after it."""
    reference: str | None = None
    """The method that the others' compute is divided by; None: the first."""
    targets: tuple[Share, ...] = (0.7, 0.75, 0.8, 0.85, 0.9)
    """Validation accuracies that are asked for: what did it cost to get there?"""
    distance: Positive | None = None
    """Test questions on whose sampled answers the students' reverse KL to the teacher, and their agreement with it, are
    measured; None: they are not."""
    parallel: Annotated[Positive, EXECUTION] = 1
    """Students trained at a time, each in a process of its own."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        references = {"only": self.only, "reference": [self.reference] if self.reference else []}
        for field, names in references.items():
            for name in names:
                self._require(name, field)
        for name, method in self.methods.items():
            if method.against:
                self._require(method.against, f"methods.{name}.against")
            if method.start not in (START, BASE):
                self._require(method.start, f"methods.{name}.start")
            if method.start == BASE and method.stage != "sft":
                raise ValueError(f"methods.{name} begins with the base student, so its stage must be sft")
            self._refuse_circle(name)
        return self

    def _require(self, name: str, where: str) -> None:
        if name not in self.methods:
            raise ValueError(f"{where}: there is no method '{name}'; there are {', '.join(self.methods)}")

    def _refuse_circle(self, name: str) -> None:
        path, at = [name], self.methods[name].start
        while at in self.methods:
            if at in path:
                raise ValueError(f"methods.{name}: it begins with itself, by way of {' and '.join(path)}")
            path.append(at)
            at = self.methods[at].start
