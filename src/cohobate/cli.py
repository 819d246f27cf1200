"""The command line: run, resume, ls, show, curate, export, preflight.

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
TriplesName = Annotated[str, typer.Argument(metavar="ARTIFACT", help="A triples artifact's id, or its beginning.")]
PassRate = Annotated[
    str | None, typer.Option(metavar="LOW:HIGH", help="Only questions whose pass rate is in this range.")
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
def curate(
    name: TriplesName,
    max_tokens: Annotated[int | None, typer.Option(help="Longest response kept.")] = None,
    keep_truncated: Annotated[bool, typer.Option("--keep-truncated", help="Keep responses that were cut.")] = False,
    min_words: Annotated[int, typer.Option(help="Shortest question kept.")] = 0,
    max_words: Annotated[int | None, typer.Option(help="Longest question kept.")] = None,
    pass_rate: PassRate = None,
    ngrams: Annotated[
        list[int], typer.Option("--ngram", help="So many words in common with an evaluation question; 0: any.")
    ] = [13],  # noqa: B006 - typer reads it, nobody changes it
    against: Annotated[
        list[str], typer.Option(metavar="SPLIT", help="Evaluation splits that may not be learnt from.")
    ] = ["validation", "test", "hard"],  # noqa: B006
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep repeated questions.")] = False,
    near_duplicates: Annotated[
        float, typer.Option(metavar="SHARE", help="Common part of the word trigrams of near-duplicates; 0: keep them.")
    ] = 0.8,
) -> None:
    """Take out repeated, contaminated and unfit samples; they are kept beside, each with its reason."""
    from cohobate.curation.curate import curate, settings
    from cohobate.listing import print_artifact
    from cohobate.selection import window
    from cohobate.store import Store

    config = settings(
        max_tokens=max_tokens,
        keep_truncated=keep_truncated,
        min_words=min_words,
        max_words=max_words,
        pass_rate=window(pass_rate),
        ngrams=[n for n in ngrams if n],
        against=against,
        duplicates=not keep_duplicates,
        near_duplicates=near_duplicates,
    )
    print_artifact(curate(Store().find(name), config))


@app.command()
def export(
    name: TriplesName,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="messages, prompt-completion, alpaca, sharegpt, text, preference, preference-text or parquet.",
        ),
    ],
    policy: Annotated[str, typer.Option(help="all, correct, first_correct or shortest_correct.")] = "correct",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to; else exports/ of the data.")] = None,
    per_question: Annotated[int | None, typer.Option(min=1, help="At most so many rows a question.")] = None,
    pass_rate: PassRate = None,
    reasoning: Annotated[str, typer.Option(help="think: rationale in tags; field: in reasoning_content.")] = "think",
    separator: Annotated[str | None, typer.Option(help="text: between question, rationale and answer.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Whose verdicts count, if there are several.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
) -> None:
    """Write triples in a format that other trainers read, with a dataset card."""
    from cohobate.export.run import Request, default_folder, export, selection
    from cohobate.store import Store

    request = Request(form, selection(policy, per_question, pass_rate), verifier, reasoning, separator)
    artifact = Store().find(name)
    folder = default_folder(artifact, request) if out is None else out
    made = export(artifact, request, folder, force=force)
    print(f"{folder}: {made.written.rows:,} rows of {artifact.id}")


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
