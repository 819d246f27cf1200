"""Students of a comparison trained ahead of the flow, several at a time, each in a process of its own.

    python -m cohobate.experiments.comparison.parallel_runs JOB

is one worker: it reads a run's number from each line of its input, trains and measures that run, and reports it.

Whatever a worker does not finish - an error, a kill - the flow does itself afterwards, from where it stopped: the store
is all that they share. A run is told to a worker only when the one that it begins with is done.
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

from cohobate.config import Recipe
from cohobate.core import interrupts, progress, slots
from cohobate.core.atomic_files import read_json, write_json_atomic
from cohobate.core.processes import Group
from cohobate.experiments.comparison.plan import Run, compare_section
from cohobate.experiments.comparison.runner import Course, Makers
from cohobate.stages import evaluation, opd, sft, triples
from cohobate.store.artifacts import Artifact, NotMadeError, data_root, only_looking

STAGES = Makers(triples.write, sft.train, opd.train, evaluation.evaluate)
_SECONDS = 0.5


def work(recipe: Recipe, questions: Artifact) -> None:
    """Train and measure the students that are not in the store yet, `compare.parallel` at a time.

    The triples of all of them, and the start, must be there. Errors are said, and left to who trains them next.
    """
    course = Course(recipe, questions, STAGES)
    missing = _missing(course)
    processes = min(compare_section(recipe).parallel, len(missing))
    if processes < 2:
        return
    bar_of = progress.bar("students", len(missing), "students")
    # One slot for all of them: they share what one build would have.
    with slots.held(f"students of {recipe.name}"), bar_of as bar, _workers(recipe, questions, processes) as workers:
        _Crew(course, missing, workers, bar).work()


def _missing(course: Course) -> list[Run]:
    """The runs that lack their student or its scores, in the plan's order."""
    with only_looking():
        return [run for run in course.runs if not _is_there(course, run)]


def _is_there(course: Course, run: Run) -> bool:
    try:
        course.scores(run)
    except NotMadeError:
        return False
    return True


@contextmanager
def _workers(recipe: Recipe, questions: Artifact, count: int) -> Iterator[list[Group]]:
    """`count` processes that wait for runs, stopped at the end of the block."""
    cores = len(os.sched_getaffinity(0))
    env = {"OMP_NUM_THREADS": str(max(1, cores // count)), **os.environ}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cohobate-")))
        job = {"recipe": recipe.model_dump(mode="json"), "questions": {**vars(questions), "path": str(questions.path)}}
        write_json_atomic(folder / "job.json", job)
        command = [sys.executable, "-m", "cohobate.experiments.comparison.parallel_runs", str(folder / "job.json")]
        logs = [data_root() / "logs" / f"{recipe.name}-worker-{number}.log" for number in range(1, count + 1)]
        yield [stack.enter_context(Group(command, env=env, log=log, piped=True)) for log in logs]


class _Crew:
    """Workers, the runs that wait for one, and those that have one."""

    def __init__(self, course: Course, missing: Sequence[Run], workers: Sequence[Group], bar: progress.Bar) -> None:
        self.course, self.bar = course, bar
        self.waiting, self.idle = list(missing), list(workers)
        self.busy: dict[int, Run] = {}
        self.failed: set[Run] = set()
        self.replies = selectors.DefaultSelector()
        for worker in workers:
            self.replies.register(_out(worker), selectors.EVENT_READ, worker)

    def work(self) -> None:
        """Until every run is done or has failed, or all workers are gone."""
        with self.replies:
            while True:
                self._hand_out()
                if not self.busy:
                    return
                for key, _ in self.replies.select(_SECONDS):
                    self._hear(key.data)
                interrupts.check()

    def _hand_out(self) -> None:
        """Give each idle worker the first run whose beginning is there; drop those whose beginning has failed."""
        for run in list(self.waiting):
            before = self.course.needs(run)
            if before in self.failed:
                self.waiting.remove(run)
                self.failed.add(run)
            elif self.idle and before not in (*self.waiting, *self.busy.values()):
                self.waiting.remove(run)
                self._give(self.idle.pop(0), run)

    def _give(self, worker: Group, run: Run) -> None:
        assert worker.process.stdin is not None
        self.busy[worker.process.pid] = run
        with suppress(BrokenPipeError):  # that it is gone shows at its output
            worker.process.stdin.write(f"{self.course.runs.index(run)}\n".encode())
            worker.process.stdin.flush()

    def _hear(self, worker: Group) -> None:
        said = _out(worker).readline()
        run = self.busy.pop(worker.process.pid, None)
        if said:
            self.idle.append(worker)
        else:
            self.replies.unregister(_out(worker))
            self.idle = [other for other in self.idle if other is not worker]
        if run is None:
            return
        reply = json.loads(said) if said else {"error": "its process ended"}
        if "error" in reply:
            self.failed.add(run)
            progress.say(f"{run.name}: {reply['error']}; it is tried again at the end")
        else:
            self.bar.advance(1, f"{run.name}: {reply['scores']}")


def _out(worker: Group) -> Any:
    return worker.process.stdout


def main() -> None:
    """One worker."""
    out, sys.stdout = sys.stdout, sys.stderr  # nothing but replies may come out where they are awaited
    job = read_json(Path(sys.argv[1]))
    questions = Artifact(**{**job["questions"], "path": Path(job["questions"]["path"])})
    course = Course(Recipe.model_validate(job["recipe"]), questions, STAGES)
    for line in sys.stdin:
        run = course.runs[int(line)]
        try:
            reply = {"scores": _in_brief(course.scores(run))}
        except Exception as error:
            reply = {"error": str(error) or type(error).__name__}
        print(json.dumps(reply), file=out, flush=True)


def _in_brief(scores: Artifact) -> str:
    first = scores.manifest.metrics[0]  # type: ignore[index]
    return f"{first['accuracy']:.1%} {first['split']}, {first['decoding']}"


if __name__ == "__main__":
    main()
