"""`cohobate init`: a recipe for somebody's own questions, teacher, student and machine."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cohobate.cli.arguments import Overrides

if TYPE_CHECKING:
    from cohobate.stages.proposal import Proposal, Wishes

_CRON = "0 2 * * *"


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The recipe to write.")] = Path("recipe.toml"),
    questions: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Parquet, CSV or JSONL: a file, folder, glob, address, or hf:NAME."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="TEACHER", help="A model folder, ollama:MODEL, or the address of an OpenAI-compatible server."
        ),
    ] = None,
    student: Annotated[str | None, typer.Option(metavar="MODEL", help="A model folder, or world/base.")] = None,
    teacher_model: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name at the server.")] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the server's key.")
    ] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="IN OUT", min=0, help="USD per million tokens of prompt and of response."),
    ] = None,
    question_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column with the questions.")] = None,
    gold_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the right answers; -: none.")
    ] = None,
    verifier: Annotated[
        str | None, typer.Option(metavar="NAME", help="How answers are compared; else by what the gold ones are.")
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="here (this machine), rtx-4090, l40s, a100, h100, h200 or cpu-core.")
    ] = "here",
    nightly: Annotated[
        bool | None, typer.Option("--nightly/--once", help="For every night, with a gate; or to be run by hand.")
    ] = None,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    preflight: Annotated[
        bool, typer.Option("--preflight/--no-preflight", help="Check the recipe, which sends a server a request.")
    ] = True,
) -> None:
    """Write a commented recipe for your own questions, say what it will take, and check it.

    What is not given is asked for at a terminal.
    """
    name = _free_name(file, force)
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    _require(asks, {"--questions": questions, "--teacher": teacher, "--student": student})
    questions = questions or typer.prompt("Questions (a file, a folder, hf:OWNER/NAME)")
    teacher = teacher or typer.prompt("Teacher (a model folder, ollama:MODEL, or http://HOST:PORT/v1)")
    student = student or typer.prompt("Student (a model folder, or world/base)")
    if nightly is None:
        nightly = asks and typer.confirm("Build the dataset again every night?", default=False)
    from cohobate.stages.proposal import Wishes, propose  # not before a mistake in the flags is reported

    wishes = Wishes(
        questions=_from_here(questions, file),
        teacher=_from_here(teacher, file),
        student=_from_here(student, file),
        teacher_model=teacher_model,
        key_env=key_env,
        price=price,
        question_column=question_column,
        gold_column=gold_column,
        verifier=verifier,
        gpu=gpu,
        nightly=nightly,
        overrides=overrides or (),
    )
    proposal = propose(_with_columns(wishes) if asks else wishes, name)
    _write(file, proposal, wishes, force)
    if not _report(file, proposal, check=preflight):
        raise typer.Exit(2)


def _free_name(file: Path, force: bool) -> str:
    """The recipe's name by that of its file. Raises RecipeError for a file that is there, or cannot be a recipe."""
    from cohobate.core.errors import RecipeError

    if file.suffix != ".toml" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", file.stem):
        raise RecipeError(
            f"{file}: a recipe's file is called NAME.toml, with letters, digits, dots and hyphens in NAME"
        )
    if file.is_dir() or (file.exists() and not force):
        raise RecipeError(f"{file} is there already; give another name, or --force to replace it")
    return file.stem


def _require(asks: bool, needed: dict[str, str | None]) -> None:
    """Raise RecipeError where something is missing that nobody can be asked for."""
    from cohobate.core.errors import RecipeError

    missing = [option for option, value in needed.items() if not value]
    if missing and not asks:
        raise RecipeError(f"init needs {' and '.join(missing)} where it is not at a terminal and cannot ask; give them")


def _from_here(name: str, file: Path) -> str:
    """`name`, in full where it is a path of the working folder and the recipe is written into another one."""
    name = name.strip()
    if "://" in name or Path(name).is_absolute() or file.resolve().parent == Path.cwd():
        return name
    return str(Path(name).resolve()) if Path(name).exists() else name


def _with_columns(wishes: Wishes) -> Wishes:
    """The same with the columns that a person confirms or corrects."""
    from dataclasses import replace

    from cohobate.stages.proposal import guessed

    columns = guessed(wishes)
    typer.echo(f"columns: {', '.join(columns.names)}")
    question = typer.prompt("Column with the questions", default=columns.columns["question"])
    gold = typer.prompt("Column with the right answers (none: -)", default=columns.columns.get("gold_answer", "-"))
    return replace(wishes, question_column=question, gold_column=gold)


def _write(file: Path, proposal: Proposal, wishes: Wishes, force: bool) -> None:
    """The file, which is never half there. Raises RecipeError where it cannot be written."""
    from cohobate.core.atomic_files import replacing
    from cohobate.core.errors import RecipeError

    commands = [(f"cohobate run {file} --dry-run", "what it will take, before anything is spent")]
    commands += [(f"cohobate run {file}", "")]
    if wishes.nightly:
        commands += [("cohobate up", "a Prefect server, in another terminal")]
        commands += [(f'cohobate deploy {file} --cron "{_CRON}"', "every night at two, UTC")]
    width = max(len(command) for command, _ in commands) + 4
    lines = [f"    {command:<{width}}{'# ' if why else ''}{why}" for command, why in commands]
    head = [f"Written by `cohobate init` for {proposal.hardware.words}.", "", *lines]
    try:
        if file.exists() and not force:  # since it was looked for
            raise FileExistsError
        with replacing(file) as temporary:
            temporary.write_text(proposal.draft.text(head), encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"{file} cannot be written ({error.strerror or 'it is there already'}); give another"
        ) from None


def _report(file: Path, proposal: Proposal, *, check: bool) -> bool:
    """Print what was written, the estimate, and the checks of preflight; whether these passed."""
    from cohobate.cli.estimate_view import print_lines
    from cohobate.config.load import load_recipe
    from cohobate.stages.estimate import estimate
    from cohobate.stages.preflight import check as findings_of
    from cohobate.stages.preflight import print_findings

    recipe = load_recipe(str(file))
    print(f"wrote {file}\n")
    machine = proposal.hardware.machine
    print_lines(recipe, estimate(recipe, machine, questions=proposal.training_questions), machine)
    passed = True
    if check:
        print()
        findings = findings_of(recipe)
        print_findings(findings)
        passed = all(finding.passed for finding in findings)
    print(f"\nnext: cohobate run {file}" if passed else f"\nmend that, then: cohobate preflight {file}")
    return passed
