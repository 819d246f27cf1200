"""`cohobate policy answer`: the choices of a trained tiny policy."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cohobate.cli.arguments import AsJson

_SHOWN = 3


def answer_with_policy(
    name: Annotated[str, typer.Argument(metavar="POLICY", help="A policy artifact's id, or a .safetensors file.")],
    texts: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="What it is asked.")],
    as_json: AsJson = False,
) -> None:
    """Answer questions with a trained policy: its choice, and how sure it is of the first three."""
    from cohobate.experiments.tiny_policy.stages import answer

    pairs = list(zip(texts, answer(name, texts), strict=True))
    if as_json:
        print(json.dumps([{"question": text, "answers": probabilities} for text, probabilities in pairs]))
        return
    for text, probabilities in pairs:
        likeliest = [f"{choice} {share:.0%}" for choice, share in list(probabilities.items())[:_SHOWN]]
        print(f"{text}\n  {next(iter(probabilities))}  ({', '.join(likeliest)})")
