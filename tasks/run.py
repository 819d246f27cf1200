"""The frame of every flow, on the command line and in a deployment: recipe, run record, signals, exit codes.

Exit codes: 0 done; 2 a user's mistake; 3 refused by the gate; 4 awaiting a teacher that answers later, 130 interrupted
and 1 failed, which `cohobate resume` goes on with.
"""

import argparse
import inspect
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec

import httpx
from prefect import Flow, flow
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.hashing import file_hash

from cohobate.config import Recipe
from cohobate.config.load import load_recipe, make_recipe
from cohobate.core import context, interrupts, launch
from cohobate.core.errors import AwaitingError, CohobateError
from cohobate.core.progress import say
from cohobate.experiments.comparison.page import print_comparison
from cohobate.report.console import print_findings, print_scores
from cohobate.report.tracking import Tracking, tracked
from cohobate.stages.preflight import require_present
from cohobate.store import runs
from cohobate.store.artifacts import STAGES, Artifact
from tasks import run_log
from tasks.best_effort import attempt
from tasks.heartbeat import stay_running
from tasks.naming import run_name, tag_run
from tasks.notify import notify
from tasks.parameters import refuse_functions
from tasks.secrets import keys_from_blocks
from tasks.server import connection, ephemeral
from tasks.stage_task import awaiting

# Stages that end with a page to read; the findings of an experiment are printed as well.
_EXPERIMENTS = ("judge", "recovery", "single")
_PAGES = ("report", *_EXPERIMENTS)
# Flows that train one student: the curves of several would be one in a tracker's run.
_TRACKED = ("distill", "nightly", "regenerate", "evaluate", "sharded")

# From the first interrupt to the end, at most. A server that is lost, or a library that does not return, takes longer.
_END_SECONDS = 4.0

P = ParamSpec("P")
FlowFunction = Callable[P, list[Artifact]]


def cohobate_flow(**options: Any) -> Callable[[FlowFunction[P]], Flow[P, list[Artifact]]]:
    """`prefect.flow` with what all flows share: the store holds their results, a run is called by its recipe, what it
    was at ends with it, a run whose teacher answers later ends as Awaiting, and a webhook hears of what is not done.
    """

    def frame(function: FlowFunction[P]) -> Flow[P, list[Artifact]]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except AwaitingError as error:
                return awaiting(error)

        as_flow = flow(
            version=file_hash(inspect.getfile(function)),  # as Prefect has it of a function that is not wrapped
            persist_result=False,
            flow_run_name=run_name,
            on_failure=[notify],
            on_crashed=[run_log.close_tasks_of, notify],
            **options,
        )
        return as_flow(run)

    return frame


def resolved(recipe: Recipe | str) -> Recipe:
    """The recipe itself, or the one of that name or path. Raises RecipeError as `refuse_functions`."""
    if isinstance(recipe, str):
        return load_recipe(recipe)
    refuse_functions(recipe)
    return recipe


def run_recipe(
    pipeline: Callable[[Recipe], Iterator[Artifact]], recipe: Recipe | str, until: str | None = None
) -> list[Artifact]:
    """Run the pipeline of a recipe, given whole or by its name or path; otherwise as `run_stages`."""
    chosen = resolved(recipe)
    return run_stages(pipeline(chosen), chosen, until)


def run_stages(stages: Iterator[Artifact], recipe: Recipe, until: str | None = None) -> list[Artifact]:
    """Run the stages up to and including `until` (None: all), and print a line for each and the scores at the end.

    recipe: what the run is recorded with, if the command line has not recorded it.
    """
    finished: list[Artifact] = []
    with (
        interrupts.remembered(),
        context.using(flow_run_id=_flow_run_id()),
        _recorded(recipe, until or STAGES[-1]) as run_id,
        context.listening(run_log.RunLog()),
        stay_running(),
        run_log.run_page(finished),
    ):
        run_log.close_lost_tasks()
        attempt(tag_run, recipe=recipe)
        require_present(recipe, until or STAGES[-1])
        keys_from_blocks(recipe)
        with _tracked(recipe, run_id) as tracking:
            for artifact in stages:
                finished.append(artifact)
                tracking.finished(artifact)
                runs.add_artifact(run_id, artifact.id)
                seconds = artifact.manifest.seconds
                say(f"{artifact.stage:<10} {'cached' if artifact.cached else f'{seconds:6.1f} s'}  {artifact.path}")
                if artifact.stage == until:
                    break
        _print_results(finished)
    return finished


def _tracked(recipe: Recipe, run_id: str) -> AbstractContextManager[Tracking]:
    """The trackers of the recipe, for the run of a flow that they are for."""
    flow = flow_run.flow_name
    if not recipe.tracking.to or flow in _TRACKED:
        return tracked(recipe, run_id)
    say(f"tracking: the flow {flow} trains several students, which its page compares; trackers do not get them")
    return nullcontext(Tracking([]))


def _flow_run_id() -> str | None:
    return str(flow_run.id) if flow_run.id else None


@contextmanager
def _recorded(recipe: Recipe, until: str) -> Iterator[str]:
    """The id of the run's record: the one of the command line, or a new one for a deployment's run.

    A retry of a deployment's run goes on with the same record.
    """
    if run_id := context.current().run_id:
        yield run_id
        return
    record = runs.begin(recipe, until, flow=str(flow_run.flow_name or "distill"), flow_run_id=_flow_run_id())
    with context.using(run_id=record.id), _ending(record):
        yield record.id


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
    except AwaitingError as caught:
        status, reason = "awaiting", str(caught)
        raise
    except Exception as caught:
        reason = run_log.error_message(caught)
        raise
    finally:
        runs.end(record, status, reason)


def _print_results(finished: Sequence[Artifact]) -> None:
    """Print the scores of each model, the findings of an experiment, and the path of each page."""
    if finished and finished[-1].stage == "comparison":
        print_comparison(finished[-1], as_json=context.current().as_json)
        return
    for artifact in finished:
        if artifact.stage == "evaluation":
            print_scores(artifact)
        if artifact.stage in _EXPERIMENTS:
            print_findings(artifact)
        if artifact.stage in _PAGES:
            print(f"report: {artifact.path / 'index.html'}", flush=True)


def run_flow(flow: Flow[..., list[Artifact]], argv: Sequence[str]) -> int:
    """Parse `argv`, run `flow`, and return the exit code; every error is reported in one sentence.

    The flow runs on the server that PREFECT_API_URL names, else on a short-lived one of its own. Of the processes that
    torchrun started the first runs it; the others only train with that one.
    """
    if launch.rank():
        from cohobate.stages.follow import follow

        try:
            follow()
        except CohobateError as error:
            return error.exit_code  # the first process says it
        return 0
    name = flow.fn.__name__
    stops = "until" in inspect.signature(flow.fn).parameters
    try:
        recipe, until, as_json = _parse(argv, name, stops=stops)
        require_present(recipe, until)
        on_server = connection.connect()
        record = runs.begin(recipe, until, flow=name)
    except CohobateError as error:
        return _fail(error)
    farewell = _Farewell(record)
    interrupts.end_within(_END_SECONDS, farewell.at_last)
    try:
        with context.using(run_id=record.id, as_json=as_json), _ending(record):
            interrupts.install(signal.SIGTERM)
            if not on_server:
                ephemeral.start()
            flow(recipe=recipe, **({"until": until} if stops else {}))
        if launch.size() > 1:
            from cohobate.training import launched

            launched.release()
        return 0
    except (KeyboardInterrupt, TerminationSignal):
        farewell.say()
        interrupts.skip_teardown()
        return interrupts.EXIT_CODE
    except CohobateError as caught:
        return _fail(caught)
    except httpx.TransportError as lost:
        say(f"the Prefect server at {PREFECT_API_URL.value()} does not answer any more ({type(lost).__name__})")
        say(f"failed; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 1
    except Exception:
        traceback.print_exc()
        say(f"failed; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 1
    finally:
        farewell.silent = True


class _Farewell:
    """What an interrupted run says, once: how to go on."""

    def __init__(self, record: runs.RunRecord) -> None:
        self.record, self.silent = record, False

    def say(self) -> None:
        if not self.silent:
            self.silent = True
            text = f"interrupted; everything finished is kept. Go on with: cohobate resume {self.record.id}"
            print(text, file=sys.stderr, flush=True)

    def at_last(self) -> None:
        """For the end without the main thread, if that has not come so far."""
        if not self.silent:
            self.say()
            runs.end(self.record, "interrupted")


def _parse(argv: Sequence[str], flow: str, *, stops: bool) -> tuple[Recipe, str, bool]:
    """The recipe, the last stage, and whether to print JSON. stops: the flow can end after an earlier stage."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow}")
    parser.add_argument("recipe", nargs="?", help="path or name of a recipe")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    if stops:
        parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    parser.add_argument("--resume", metavar="RUN", help="run again with the recipe of this run")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, where it is a table")
    arguments = parser.parse_args(argv)
    if arguments.resume:
        record = runs.to_resume(arguments.resume)
        return make_recipe(record.recipe, f"run {record.id}"), record.until, arguments.json
    if not arguments.recipe:
        parser.error("a recipe is needed")
    until = arguments.until if stops else STAGES[-1]
    return load_recipe(arguments.recipe, arguments.set), until, arguments.json


def _fail(error: CohobateError) -> int:
    print(f"cohobate: {error}", file=sys.stderr)
    return error.exit_code
