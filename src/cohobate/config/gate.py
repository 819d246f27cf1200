"""Limits of the gate: how much worse than the promoted artifacts the new ones may be."""

from typing import Annotated

from pydantic import Field

from cohobate.core.settings import EXECUTION, Section, Share

Limit = Annotated[Share, EXECUTION]


class Gate(Section):
    """Limits of rates are shares that are lost (0.05 is five of a hundred); a rate fails where all of its 95% interval
    is beyond its limit.

    Rates: pass rate, correct share, and the shares that are undecided, without an answer and truncated.
    """

    shared: Limit = 0.0
    """By how much a rate of the questions in both datasets may be worse."""
    overall: Limit = 0.05
    """By how much a rate of all of the new dataset may be worse than that of all of the old one."""
    new: Limit = 0.1
    """By how much a rate of the new questions alone may be worse than that of all of the old dataset."""
    margin: Limit = 0.15
    """By how much more than `shared` the pass rate and the correct share of the questions in both may be worse at the
    far end of the interval: few questions have a wide one, and do not pass by being few."""
    lengths: Annotated[float, Field(ge=0), EXECUTION] = 0.5
    """By how much the mean tokens of a response and characters of a rationale may change, in part of the old mean."""
    missing: Limit = 0.2
    """Largest share of the old questions that the new dataset may lack."""
    failures: Limit = 0.1
    """Largest share of failed requests, of all and of those about new questions."""
    student: Limit = 0.0
    """By how much the accuracy of the last student may be worse, by split and decoding."""
    student_margin: Limit = 0.5
    """As `margin`, beyond `student`."""

    probes: Limit = 0.1
    """By how much the share of the teacher's probes that differ may be above the share that differs by itself."""

    def loosened(self, allow: float) -> "Gate":
        """The same with limits of at least `allow`."""
        values = self.model_dump()
        limits = {name: max(value, allow) for name, value in values.items() if not name.endswith("margin")}
        return Gate.model_validate({**values, **limits})
