"""Training of a comparison's students in worker processes, several at a time, before the flow asks for them.

    python -m cohobate.experiments.comparison.parallel_runs JOB

is one worker. It reads the number of a run from each line of its input, trains and evaluates that run, and prints one
line of JSON. Flow and workers share nothing but the store: a run that a worker does not finish, because of an error or
a kill, is finished by the flow from where it stopped. A worker gets a run only when the one it goes on from is done.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cohobate.config import Compare, Recipe
from cohobate.core import context, interrupts, progress
from cohobate.core.atomic_files import read_json, write_json_atomic
from cohobate.core.processes import Group
from cohobate.experiments.comparison import distance
from cohobate.experiments.comparison.plan import StudentRun
from cohobate.experiments.comparison.runner import ComparisonRunner, StageFunctions
from cohobate.stages import evaluation, opd, sft, triples
from cohobate.store.artifacts import Artifact, NotInStoreError, data_root

STAGES = StageFunctions(triples.write, sft.train, opd.train, evaluation.evaluate, distance.measure)
_SECONDS = 0.5


def train_students(recipe: Recipe, questions: Artifact) -> None:
    """Train and evaluate the students that are not in the store yet, `compare.parallel` at a time.

    The triples of all of them, and the start, must be there. An error of a run is reported as progress and not raised.
    """
    runner = ComparisonRunner(recipe, questions, STAGES)
    missing = _missing(runner)
    processes = min(recipe.section(Compare).parallel, len(missing))
    if processes < 2:
        return
    bar_of = progress.bar("students", len(missing), "students")
    # One slot for all of them: they share what one build would have.
    slot = context.current().slot(f"students of {recipe.name}")
    with slot, bar_of as bar, _workers(recipe, questions, processes) as workers:
        _Scheduler(runner, missing, workers, bar).run()


def _missing(runner: ComparisonRunner) -> list[StudentRun]:
    """The runs whose student or scores are not in the store, in the plan's order."""
    with context.using(lookup_only=True):
        return [run for run in runner.runs if not _is_done(runner, run)]


def _is_done(runner: ComparisonRunner, run: StudentRun) -> bool:
    try:
        runner.scores(run)
    except NotInStoreError:
        return False
    return True


@contextmanager
def _workers(recipe: Recipe, questions: Artifact, count: int) -> Iterator[list[Group]]:
    """`count` processes that wait for runs, stopped at the end of the block."""
    cores = len(os.sched_getaffinity(0))
    env = {"OMP_NUM_THREADS": str(max(1, cores // count)), **context.environment()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cohobate-")))
        job = {"recipe": recipe.model_dump(mode="json"), "questions": {**vars(questions), "path": str(questions.path)}}
        write_json_atomic(folder / "job.json", job)
        command = [sys.executable, "-m", "cohobate.experiments.comparison.parallel_runs", str(folder / "job.json")]
        logs = [data_root() / "logs" / f"{recipe.name}-worker-{number}.log" for number in range(1, count + 1)]
        yield [stack.enter_context(Group(command, env=env, log=log, piped=True)) for log in logs]


class _Scheduler:
    """Gives runs to workers: runs that wait, workers that are idle, and the run of each busy worker by its pid."""

    def __init__(
        self, runner: ComparisonRunner, missing: Sequence[StudentRun], workers: Sequence[Group], bar: progress.Bar
    ) -> None:
        self.runner, self.bar = runner, bar
        self.waiting, self.idle = list(missing), list(workers)
        self.busy: dict[int, StudentRun] = {}
        self.failed: set[StudentRun] = set()
        self.replies = selectors.DefaultSelector()
        for worker in workers:
            self.replies.register(_output(worker), selectors.EVENT_READ, worker)

    def run(self) -> None:
        """Returns when every run is done or has failed, or all workers are gone."""
        with self.replies:
            while True:
                self._assign()
                if not self.busy:
                    return
                for key, _ in self.replies.select(_SECONDS):
                    self._receive(key.data)
                interrupts.check()

    def _assign(self) -> None:
        """Give each idle worker the first run whose predecessor is done; drop runs whose predecessor has failed."""
        for run in list(self.waiting):
            predecessor = self.runner.predecessor(run)
            if predecessor in self.failed:
                self.waiting.remove(run)
                self.failed.add(run)
            elif self.idle and predecessor not in (*self.waiting, *self.busy.values()):
                self.waiting.remove(run)
                self._send(self.idle.pop(0), run)

    def _send(self, worker: Group, run: StudentRun) -> None:
        assert worker.process.stdin is not None
        self.busy[worker.process.pid] = run
        with suppress(BrokenPipeError):  # a worker that is gone shows at its output
            worker.process.stdin.write(f"{self.runner.runs.index(run)}\n".encode())
            worker.process.stdin.flush()

    def _receive(self, worker: Group) -> None:
        """Read a worker's reply; an empty one means that its process has ended."""
        line = _output(worker).readline()
        run = self.busy.pop(worker.process.pid, None)
        if line:
            self.idle.append(worker)
        else:
            self.replies.unregister(_output(worker))
            self.idle = [other for other in self.idle if other is not worker]
        if run is None:
            return
        reply = json.loads(line) if line else {"error": "its process ended"}
        if "error" in reply:
            self.failed.add(run)
            progress.say(f"{run.name}: {reply['error']}; it is tried again at the end")
        else:
            self.bar.advance(1, f"{run.name}: {reply['scores']}")


def _output(worker: Group) -> Any:
    return worker.process.stdout


def main() -> None:
    """One worker."""
    out, sys.stdout = sys.stdout, sys.stderr  # standard output carries replies alone
    job = read_json(Path(sys.argv[1]))
    questions = Artifact(**{**job["questions"], "path": Path(job["questions"]["path"])})
    runner = ComparisonRunner(Recipe.model_validate(job["recipe"]), questions, STAGES)
    for line in sys.stdin:
        run = runner.runs[int(line)]
        try:
            reply = {"scores": _in_brief(runner.scores(run))}
        except Exception as error:
            reply = {"error": str(error) or type(error).__name__}
        print(json.dumps(reply), file=out, flush=True)


def _in_brief(scores: Artifact) -> str:
    first = scores.manifest.scores[0]
    return f"{first.accuracy.mean:.1%} {first.split}, {first.decoding}"


if __name__ == "__main__":
    main()
