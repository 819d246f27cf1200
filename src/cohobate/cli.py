"""The command line: run, resume, ls, show, verify, diff, preflight.

A recipe is read before anything heavy is imported, so that a mistake is answered at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cohobate.errors import CohobateError

app = typer.Typer(
    help=__doc__.splitlines()[0] if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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

    _become_flow(["--resume", runs.to_resume(name).id])


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
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="An artifact's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show an artifact: its manifest, and some of its rows."""
    from cohobate.listing import print_artifact
    from cohobate.store import Store

    artifact = Store().find(name)
    if as_json:
        print(artifact.manifest.model_dump_json(indent=2))
    else:
        print_artifact(artifact)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="ARTIFACT", help="Id of the triples, or its beginning.")],
    verifier: Annotated[
        str | None, typer.Option(metavar="NAME", help="exact, numeric, math, or your own as module:function.")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="numeric: largest relative difference.")] = None,
    seconds: Annotated[float | None, typer.Option(help="math and your own: processor time of an answer.")] = None,
    majority: Annotated[
        bool | None,
        typer.Option("--majority/--no-majority", help="Judge by the majority answer where gold is missing."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="math and your own: processes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge triples again by another verifier; the verdicts are an artifact of their own, and no teacher is asked."""
    from cohobate.relabel import movements, relabel
    from cohobate.store import Store

    given = {
        "name": verifier,
        "tolerance": tolerance,
        "seconds": seconds,
        "majority": majority,
        "workers": workers,
    }
    triples = Store().find(name)
    labels = relabel(triples, {key: value for key, value in given.items() if value is not None})
    made, moved = labels.manifest, movements(triples, labels)
    if as_json:
        print(
            json.dumps({"id": labels.id, "path": str(labels.path), "metrics": made.metrics, "moved": moved}, indent=2)
        )
    else:
        from cohobate.report.comparison import print_labels

        assert isinstance(made.metrics, dict)
        print_labels(labels.id, made.metrics, moved)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Triples or labels: the old ones.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Triples or labels: the new ones.")],
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with 3 where B is worse than A beyond the interval.")
    ] = False,
    allow: Annotated[float, typer.Option(min=0, max=1, help="Gate: by how much B may be worse.")] = 0.0,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML page too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two sets of triples: pass rates, answers, lengths, tokens, cost."""
    from cohobate import compare
    from cohobate.errors import GateError
    from cohobate.report.comparison import print_diff, write_page
    from cohobate.store import Store

    store = Store()
    found = compare.compare(compare.read(store.find(first)), compare.read(store.find(second)))
    found["gate"] = compare.gate(found, allow) if gate else None
    if page:
        write_page(found, page)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_diff(found)
    if gate and not found["gate"]["passed"]:
        raise GateError(f"{found['b']['id']} does not pass the gate: {'; '.join(found['gate']['reasons'])}")


@app.command()
def preflight(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Check everything that can be checked before anything is spent."""
    from cohobate.preflight import check, print_checks
    from cohobate.recipes import load_recipe

    checks = check(load_recipe(recipe, overrides or []))
    print_checks(checks)
    if not all(item.passed for item in checks):
        raise typer.Exit(2)


def _become_flow(arguments: list[str]) -> NoReturn:
    """Replace this process by the flow: same process id, so that signals reach the work itself."""
    # In a terminal our own lines tell the story; Prefect's log still goes to its server.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    root = str(Path(__file__).parents[2])
    if (Path(root) / "flows").is_dir():
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "flows.distill", *arguments])


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
