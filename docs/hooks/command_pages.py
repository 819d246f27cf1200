"""The page of the commands, made of the command line itself: usage, description, arguments and options of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from cohobate.cli.main import app

# typer has a click of its own, whose classes it does not give out.
Command: TypeAlias = Any

PAGE = "reference/commands.md"
OPENING = "Written from the command line when this site is built; `cohobate COMMAND --help` prints the same."


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those of the folder docs."""
    program = typer.main.get_command(app)
    lines = ["# Commands", "", OPENING, ""]
    for name, command in _commands("cohobate", program):
        lines += _about(name, command)
    files.append(File.generated(config, PAGE, content="\n".join(lines)))
    return files


def _commands(name: str, command: Command) -> Iterator[tuple[str, Command]]:
    """A command and those below it, by the words that are typed for them."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for subname, subcommand in below.items():
        yield from _commands(f"{name} {subname}", subcommand)


def _about(name: str, command: Command) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *map(_plain, command.collect_usage_pieces(context))])
    yield from (f"## {name}", "", f"    {usage}", "", " ".join((command.help or "").split()), "")
    records = [parameter.get_help_record(context) for parameter in command.params]
    if rows := [record for record in records if record and not record[0].startswith("--help")]:
        yield from ("| argument or option | what it is |", "| --- | --- |")
        yield from (f"| `{_plain(names)}` | {_cell(text)} |" for names, text in rows)
        yield ""


def _plain(piece: str) -> str:
    """A piece of the usage with the brackets that it takes: typer writes `[[FILE]]`, and `{RECIPE}`."""
    return piece.replace("[[", "[").replace("]]", "]").strip("{}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
