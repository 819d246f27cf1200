"""Build distillation datasets, distil language models, and look at what came out.

All commands, in the order of the help. They import what they need when they run, so that a mistake is reported at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cohobate import __version__
from cohobate.cli import completion, dataset, doctor, fetch, init, policy, recipe, report, run, server, show, store
from cohobate.core.errors import CohobateError

COMMANDS: dict[str, Callable[..., None]] = {
    "init": init.init,
    "doctor": doctor.doctor,
    "run": run.run,
    "resume": run.resume,
    "compare": run.compare,
    "estimate": recipe.estimate,
    "fetch": fetch.fetch,
    "recover": run.recover,
    "single-prompt": run.single_prompt,
    "gather": run.gather,
    "suites": recipe.suites,
    "up": server.up,
    "deploy": server.deploy,
    "free": server.free,
    "promote": store.promote,
    "ls": store.list_artifacts,
    "gc": store.gc,
    "preflight": recipe.preflight,
    "show": show.show,
    "page": show.page,
    "report": report.report,
    "verify": dataset.verify,
    "diff": dataset.diff,
    "curate": dataset.curate,
    "export": dataset.export,
    "publish": dataset.publish,
    "completion": completion.completion,
}
GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "serve": ("Serve a recipe's model with vLLM.", {"teacher": recipe.serve_teacher}),
    "policy": (
        "A tiny policy that a judge reinforces: train it, ask it.",
        {"train": run.train_policy, "answer": policy.answer_with_policy},
    ),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cohobate {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of `cohobate` itself."""


app = typer.Typer(
    help=__doc__.splitlines()[0] if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback(help=app.info.help)(options)
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, (description, commands) in GROUPS.items():
    group = typer.Typer(help=description, no_args_is_help=True)
    app.add_typer(group, name=name)
    for subname, command in commands.items():
        group.command(subname)(command)


def main(argv: list[str] | None = None) -> Any:
    """Entry point: an error is one sentence, and its exit code says whose it is."""
    completion.prepare()
    try:
        app(argv, prog_name="cohobate")
    except CohobateError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has gone (`cohobate ls | head`), so nothing is left to print.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
