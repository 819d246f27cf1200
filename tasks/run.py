"""From the command line or a deployment to a flow and back: recipe, run record, signals, exit codes.

0 done; 2 a user's mistake; 3 refused by the gate; 130 interrupted and 1 failed, both resumable with `cohobate resume`.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run

from cohobate.config import Recipe
from cohobate.config.load import load_recipe, make_recipe
from cohobate.core import interrupts
from cohobate.core.errors import CohobateError
from cohobate.core.progress import listening, say
from cohobate.experiments.comparison.page import print_comparison
from cohobate.report.console import print_findings, print_scores
from cohobate.store import runs
from cohobate.store.artifacts import STAGES, Artifact
from tasks import run_log
from tasks.heartbeat import alive
from tasks.secrets import keys_from_blocks
from tasks.server.ephemeral import tie_server_to_this_process

# Stages that end with a page to read; the findings of an experiment are told as well.
_EXPERIMENTS = ("judge", "recovery", "single")
_PAGES = ("report", *_EXPERIMENTS)
_AS_JSON = "COHOBATE_JSON"
_finished: list[Artifact] = []
_RUN = "COHOBATE_RUN_ID"


def resolved(recipe: Recipe | str) -> Recipe:
    """The recipe itself, or the one of that name or path."""
    return load_recipe(recipe) if isinstance(recipe, str) else recipe


def run_until(pipeline: Iterator[Artifact], until: str | None, recipe: Recipe | None = None) -> list[Artifact]:
    """Run the stages of `pipeline` up to and including `until` (None: all); says what each one came to.

    recipe: what the run is recorded with, if the command line has not recorded it; None: it is not recorded.
    """
    os.environ["COHOBATE_FLOW_RUN_ID"] = str(flow_run.id or "")
    tie_server_to_this_process()
    _finished.clear()
    with (
        interrupts.remembered(),
        _recorded(recipe, until or STAGES[-1]),
        listening(run_log.RunLog()),
        alive(),
        run_log.told(_finished),
    ):
        run_log.close_lost_tasks()
        keys_from_blocks(recipe)
        for artifact in pipeline:
            _finished.append(artifact)
            runs.add(os.environ.get(_RUN), artifact.id)
            seconds = artifact.manifest.seconds
            say(f"{artifact.stage:<10} {'cached' if artifact.cached else f'{seconds:6.1f} s'}  {artifact.path}")
            if artifact.stage == until:
                break
        _close()
    return list(_finished)


@contextmanager
def _recorded(recipe: Recipe | None, until: str) -> Iterator[None]:
    """A run of a deployment has a record like one of the command line, and a retry of it goes on with the same one."""
    if recipe is None or _RUN in os.environ:
        yield
        return
    flow = str(flow_run.flow_name or "distill")
    record = runs.begin(recipe, until, flow=flow, flow_run_id=str(flow_run.id or "") or None)
    os.environ[_RUN] = record.id
    try:
        with _ending(record):
            yield
    finally:
        del os.environ[_RUN]


@contextmanager
def _ending(record: runs.RunRecord) -> Iterator[None]:
    """Write into the record how the block ends."""
    status: runs.Status = "failed"
    reason: str | None = None
    try:
        yield
        status = "done"
    except (KeyboardInterrupt, TerminationSignal):
        status = "interrupted"
        raise
    except Exception as caught:
        reason = run_log.words(caught)
        raise
    finally:
        runs.end(record, status, [artifact.id for artifact in _finished], reason)


def _close() -> None:
    """What a person wants to know first: how good each model is, and where to read on."""
    if _finished and _finished[-1].stage == "comparison":
        print_comparison(_finished[-1], as_json=bool(os.environ.get(_AS_JSON)))
        return
    for artifact in _finished:
        if artifact.stage == "evaluation":
            print_scores(artifact)
        if artifact.stage in _EXPERIMENTS:
            print_findings(artifact)
        if artifact.stage in _PAGES:
            print(f"report: {artifact.path / 'index.html'}", flush=True)


def run_flow(flow: Callable[..., Any], argv: Sequence[str]) -> int:
    """Parse `argv`, run `flow`, and return the exit code; every error is said in one sentence."""
    try:
        recipe, until = _parse(argv, flow.__name__)
        record = runs.begin(recipe, until, flow=flow.__name__)
    except CohobateError as error:
        return _fail(error)
    os.environ[_RUN] = record.id
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _ending(record):
            flow(recipe=recipe, until=until)
        return 0
    except (KeyboardInterrupt, TerminationSignal):
        say(f"interrupted; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 130
    except CohobateError as caught:
        return _fail(caught)
    except Exception:
        traceback.print_exc()
        say(f"failed; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 1


def _parse(argv: Sequence[str], flow: str) -> tuple[Recipe, str]:
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow}")
    parser.add_argument("recipe", nargs="?", help="path or name of a recipe")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    parser.add_argument("--resume", metavar="RUN", help="run again with the recipe of this run")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, where it is a table")
    arguments = parser.parse_args(argv)
    if arguments.json:
        os.environ[_AS_JSON] = "1"
    if arguments.resume:
        record = runs.to_resume(arguments.resume)
        return make_recipe(record.recipe, f"run {record.id}"), record.until
    if not arguments.recipe:
        parser.error("a recipe is needed")
    return load_recipe(arguments.recipe, arguments.set), arguments.until


def _fail(error: CohobateError) -> int:
    print(f"cohobate: {error}", file=sys.stderr)
    return error.exit_code


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
