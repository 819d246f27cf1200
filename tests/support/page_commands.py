"""Commands of the documents held against the command line: do they exist, does the recipe take it, can they be run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer

from cohobate.cli.main import app
from cohobate.config.load import load_recipe
from tests.support.pages import Command

# Words of a page that stand for the reader's own: RECIPE, a file of no block, an artifact with a made-up fingerprint.
PLACEHOLDER = re.compile(r"^[A-Z]{2,}(\.\.\.|/[A-Z]+)?$|1a2b3c4d|^[AB]$|^my/")
STAND_IN = "tiny"
# click's error of usage, of which typer gives out only the one of values.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
# Why a command of a block is parsed and not run: the first pattern that the command's line has.
REASONS = {
    r"cohobate (up|serve)\b": "goes on until Ctrl+C",
    r"cohobate (deploy|free)\b": "needs the Prefect server of `cohobate up`",
    r"cohobate fetch\b|smollm2": "downloads a model",
    r"--to \S+/": "uploads to the Hugging Face Hub",
    r"https?:|ollama:|_from_endpoint": "needs a server of models",
    r"vllm|scoring=server": "needs vLLM",
    r"cohobate (?!estimate)[a-z-]+ (qwen3|llama)|=models/| models/": "needs a model folder of gigabytes",
    r"cohobate (?!estimate|preflight)[a-z-]+ (arithmetic|compare|weakstart|handbook|oneprompt)\b": "takes minutes",
    r"cohobate compare system_prompt\b": "takes a quarter of an hour",
}
# Pages whose recipes need what no test machine has: of their commands only estimates are run.
NEEDS = {
    "docs/how-to/openai.md": "needs a key of OpenAI",
    "docs/how-to/ollama.md": "needs Ollama",
    "docs/how-to/llama-cpp.md": "needs a server of llama.cpp",
    "docs/how-to/vllm.md": "needs vLLM",
    "docs/how-to/lora-24gb.md": "needs a GPU",
    "docs/how-to/several-gpus.md": "needs several GPUs",
    "docs/tutorials/real-model.md": "downloads a model, and takes a quarter of an hour",
}


class WrongCommandError(Exception):
    """A command of a page that cohobate does not take."""


def is_placeholder(word: str, known: Sequence[str] = ()) -> bool:
    """Whether a word stands for something of the reader's that no block of the page (`known`) shows."""
    return bool(PLACEHOLDER.search(word)) or (word.endswith((".toml", ".jsonl")) and word not in known)


def why_not_run(command: Command, files: Sequence[str]) -> str:
    """The reason for which a command is parsed only; empty where it is run. files: those that its page shows."""
    if any(is_placeholder(word, files) for word in command.words):
        return "names something of the reader's"
    line = shlex.join(command.words)
    for pattern, reason in REASONS.items():
        if re.search(pattern, line):
            return reason
    return "" if command.words[1] == "estimate" else NEEDS.get(command.page, "")


@cache
def _program() -> Any:
    """The command line as typer builds it, which takes a tenth of a second."""
    return typer.main.get_command(app)


def parse(words: Sequence[str], *, strict: bool) -> dict[str, Any]:
    """The parameters that the command line takes of `words`, without running anything.

    Raises WrongCommandError for a command, an option or a value that it does not take. Unless strict, values may be
    missing or stand for others.
    """
    at = _program()
    program, *rest = words
    while below := getattr(at, "commands", {}):
        name = rest.pop(0) if rest else ""
        if name not in below:
            if not strict and not name:
                return {}  # a group in a sentence
            raise WrongCommandError(f"there is no command {name!r} of {program}")
        at, program = below[name], f"{program} {name}"
    try:
        parameters: dict[str, Any] = at.make_context(program, rest).params
    except USAGE_ERROR as error:
        if strict or not isinstance(error, typer.BadParameter):  # which a missing one is too
            raise WrongCommandError(str(error)) from error
        return {}
    return parameters


def check_recipe(parameters: dict[str, Any], files: Sequence[str]) -> int:
    """Load each recipe that a command names, with its `--set` values; how many. Raises RecipeError.

    One of the reader's stands for the smallest shipped one. Expects the files of the page in the working folder.
    """
    one, several = parameters.get("recipe"), parameters.get("names")
    named: list[str] = [one] if one else several or []
    for name in named:
        stand_in = is_placeholder(name, files) and not Path(name).is_file()
        load_recipe(STAND_IN if stand_in else name, parameters.get("overrides") or [])
    return len(named)
