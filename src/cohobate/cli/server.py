"""Commands of the Prefect server that cohobate starts: up, deploy, free."""

from __future__ import annotations

from typing import Annotated

import typer

from cohobate.cli.arguments import RecipeName
from cohobate.cli.programs import become


def up(
    status: Annotated[
        bool, typer.Option("--status", help="Only say what is up; exit with 1 if anything is not.")
    ] = False,
    gpu: Annotated[
        int | None, typer.Option(min=1, metavar="SLOTS", help="Builds at a time on GPUs (1; then as it was).")
    ] = None,
    lost_after: Annotated[
        int | None,
        typer.Option(
            min=60, metavar="SECONDS", help="Without a sign of life a run counts as Crashed (180; then as it was)."
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Undo what was changed or deleted of what `up` had made.")
    ] = False,
) -> None:
    """Start a Prefect server, a worker and the deployments of prefect.yaml, until Ctrl+C.

    What was changed on the server since - schedules, parameters, what is paused - stays, and is said.
    """
    options = {"--gpu": gpu, "--lost-after": lost_after}
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    flags = [name for name, on in (("--status", status), ("--reset", reset)) if on]
    become("tasks.server.up", [*flags, *given])


def deploy(
    recipe: RecipeName,
    flow: Annotated[
        str, typer.Option(metavar="FLOW", help="nightly, distill, compare, judge, recover or single-prompt.")
    ] = "nightly",
    cron: Annotated[
        str | None, typer.Option(metavar='"0 2 * * *"', help="When it runs by itself; without it on demand.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of --cron, such as Europe/Paris.")] = "UTC",
    name: Annotated[str | None, typer.Option(help="The deployment's name; else the recipe's.")] = None,
) -> None:
    """Make a deployment of a recipe on the server that `cohobate up` has started, from any folder."""
    options = {"--flow": flow, "--timezone": timezone, "--cron": cron, "--name": name}
    given = [f"{option}={value}" for option, value in options.items() if value is not None]
    become("tasks.server.deploy", [*given, "--", recipe])


def free(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Id or name of the flow run, or the run's own id.")],
    force: Annotated[bool, typer.Option("--force", help="Even if its process is still there.")] = False,
) -> None:
    """Set a run that hangs without its process to Crashed, so that it can be retried and lets others start."""
    become("tasks.server.repair_runs", ["free", name, *(["--force"] if force else [])])
