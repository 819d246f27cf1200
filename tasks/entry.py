"""From the command line to a flow and back: recipe, run record, signals, exit codes.

0 done; 2 a user's mistake; 130 interrupted and 1 failed, both resumable with `cohobate resume`.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run

from cohobate import interrupts, runs
from cohobate.config import Recipe
from cohobate.errors import CohobateError
from cohobate.listing import print_comparison, print_scores
from cohobate.progress import say
from cohobate.recipes import load_recipe, make_recipe
from cohobate.store import STAGES, Artifact
from tasks.ephemeral import tie_server_to_this_process

_AS_JSON = "COHOBATE_JSON"
_finished: list[Artifact] = []


def resolved(recipe: Recipe | str) -> Recipe:
    """The recipe itself, or the one of that name or path."""
    return load_recipe(recipe) if isinstance(recipe, str) else recipe


def run_until(pipeline: Iterator[Artifact], until: str) -> list[Artifact]:
    """Run the stages of `pipeline` up to and including `until`; says what each one came to."""
    os.environ["COHOBATE_FLOW_RUN_ID"] = str(flow_run.id or "")
    tie_server_to_this_process()
    _finished.clear()
    with interrupts.remembered():
        for artifact in pipeline:
            _finished.append(artifact)
            seconds = artifact.manifest.seconds
            say(f"{artifact.stage:<10} {'cached' if artifact.cached else f'{seconds:6.1f} s'}  {artifact.path}")
            if artifact.stage == until:
                break
    _close()
    return list(_finished)


def _close() -> None:
    """What a person wants to know first: how good each model is, and where to read on."""
    if _finished and _finished[-1].stage == "comparison":
        print_comparison(_finished[-1], as_json=bool(os.environ.get(_AS_JSON)))
        return
    for artifact in _finished:
        if artifact.stage == "evaluation":
            print_scores(artifact)
        if artifact.stage == "report":
            print(f"report: {artifact.path / 'index.html'}", flush=True)


def run_flow(flow: Callable[..., Any], argv: Sequence[str]) -> int:
    """Parse `argv`, run `flow`, and return the exit code; every error is said in one sentence."""
    try:
        recipe, until = _parse(argv, flow.__name__)
        record = runs.begin(recipe, until, flow=flow.__name__)
    except CohobateError as error:
        return _fail(error)
    os.environ["COHOBATE_RUN_ID"] = record.id
    signal.signal(signal.SIGTERM, _interrupt)
    status: runs.Status = "failed"
    reason: str | None = None
    try:
        flow(recipe=recipe, until=until)
        status = "done"
        return 0
    except (KeyboardInterrupt, TerminationSignal):
        status = "interrupted"
        say(f"interrupted; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 130
    except CohobateError as caught:
        reason = str(caught)
        return _fail(caught)
    except Exception as caught:
        reason = f"{type(caught).__name__}: {caught}"
        traceback.print_exc()
        say(f"failed; everything finished is kept. Go on with: cohobate resume {record.id}")
        return 1
    finally:
        runs.end(record, status, [artifact.id for artifact in _finished], reason)


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
