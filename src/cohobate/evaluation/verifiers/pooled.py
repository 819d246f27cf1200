"""Verifiers that can hang or crash: they run in worker processes, which can be killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.core import interrupts
from cohobate.evaluation.verifiers.pool import Job, Payload, run
from cohobate.evaluation.verifiers.verdict import Case, Verdict


@dataclass(frozen=True)
class PooledVerifier:
    """A verifier that sends the cases that it cannot decide at once to the workers of a pool."""

    name: str
    version: int
    settings: Mapping[str, Any]
    job: Job

    def at_once(self, case: Case) -> Verdict | None:
        """The verdict that needs no worker, or None."""
        raise NotImplementedError

    def payload(self, case: Case) -> Payload:
        """The strings that a worker is sent; equal payloads are judged once."""
        raise NotImplementedError

    def check(self) -> None:
        """Nothing can be wrong."""

    def watch(self, verdicts: Sequence[Verdict | None]) -> None:
        """Called whenever a worker gives a verdict, with those of all payloads so far, in order; may raise."""

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order; the same ones with any number of workers.

        Raises VerifierError when the verifier cannot be loaded, and what `watch` raises.
        """
        verdicts = [self.at_once(case) for case in cases]
        positions: dict[Payload, list[int]] = {}
        for position, case in enumerate(cases):
            if verdicts[position] is None:
                positions.setdefault(self.payload(case), []).append(position)
        done(len(cases) - sum(map(len, positions.values())))
        payloads = list(positions)
        from_workers: list[Verdict | None] = [None] * len(payloads)
        for number, verdict in run(self.job, payloads) if payloads else ():
            from_workers[number] = verdict
            for position in positions[payloads[number]]:
                verdicts[position] = verdict
            done(len(positions[payloads[number]]))
            interrupts.check()
            self.watch(from_workers)
        assert all(verdict is not None for verdict in verdicts)
        return [verdict for verdict in verdicts if verdict is not None]
