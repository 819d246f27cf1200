"""Build distillation datasets, distil language models, and look at what came out.

The pipeline's own commands stand here, those that show artifacts in looking, those that work on triples in
data_commands. A recipe is read before anything heavy is imported, so that a mistake is answered at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cohobate import data_commands, looking
from cohobate.errors import CohobateError

app = typer.Typer(
    help=__doc__.splitlines()[0] if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

serve = typer.Typer(help="Serve a recipe's model with vLLM.", no_args_is_help=True)
app.add_typer(serve, name="serve")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Path or name of a recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    until: Annotated[str, typer.Option(metavar="STAGE", help="Stop after this stage.")] = "report",
) -> None:
    """Run a recipe's stages; what is in the store is not made again."""
    from cohobate.errors import RecipeError
    from cohobate.recipes import load_recipe
    from cohobate.store import STAGES

    load_recipe(recipe, overrides or [])
    if until not in STAGES:
        raise RecipeError(f"--until {until}: the stages are {', '.join(STAGES)}")
    changes = [part for override in overrides or [] for part in ("--set", override)]
    _become_flow([recipe, *changes, "--until", until])


@app.command()
def resume(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or its beginning.")] = None,
) -> None:
    """Go on with a run that was interrupted or failed: the newest, or the one named."""
    from cohobate import runs

    record = runs.to_resume(name)
    _become_flow(["--resume", record.id], record.flow)


@app.command()
def compare(
    recipe: RecipeName = "compare",
    methods: Annotated[
        list[str] | None, typer.Option("--method", metavar="NAME", help="Only this method; may be given again.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Students of each method.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train students by several methods from one start, over several seeds: accuracy and compute side by side."""
    from cohobate.recipes import load_recipe
    from cohobate.studies.plan import plan

    changes = [*(overrides or [])]
    changes += [f"compare.only={json.dumps(methods)}"] if methods else []
    changes += [f"compare.seeds={seeds}"] if seeds else []
    plan(load_recipe(recipe, changes))  # a mistake in any method is said before Prefect is loaded
    given = [part for change in changes for part in ("--set", change)]
    _become_flow([recipe, *given, *(["--json"] if as_json else [])], "compare")


@serve.command()
def teacher(
    recipe: RecipeName,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; else that of teacher.base_url on this machine, else a free one."),
    ] = None,
) -> None:
    """Serve the teacher of a recipe with `vllm serve`, until Ctrl+C."""
    from cohobate.recipes import load_recipe
    from cohobate.serving import serve_until_stopped

    serve_until_stopped(load_recipe(recipe, overrides or []), host=host, port=port)


@app.command(name="ls")
def list_artifacts(as_json: AsJson = False) -> None:
    """List the artifacts."""
    from cohobate.listing import artifact_rows, print_rows

    rows = artifact_rows()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_rows(rows)


@app.command()
def preflight(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Check everything that can be checked before anything is spent."""
    from cohobate.preflight import check, print_checks
    from cohobate.recipes import load_recipe

    checks = check(load_recipe(recipe, overrides or []))
    print_checks(checks)
    if not all(item.passed for item in checks):
        raise typer.Exit(2)


for command in (*looking.COMMANDS, *data_commands.COMMANDS):
    app.command()(command)


def _become_flow(arguments: list[str], flow: str = "distill") -> NoReturn:
    """Replace this process by the flow: same process id, so that signals reach the work itself."""
    # In a terminal our own lines tell the story; Prefect's log still goes to its server.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    root = str(Path(__file__).parents[2])
    if (Path(root) / "flows").is_dir():
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"flows.{flow}", *arguments])


def main(argv: list[str] | None = None) -> Any:
    """Entry point: errors are one sentence, and the exit code says whose they are."""
    try:
        app(argv)
    except CohobateError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has gone (`cohobate ls | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
