"""`cohobate policy answer`: the choices of a trained tiny policy."""

from __future__ import annotations

import json
from collections.abc import Sequence

_SHOWN = 3


def print_answers(name: str, texts: Sequence[str], *, as_json: bool = False) -> None:
    """The policy's choice for each text; `name` is a file, or an artifact's id or its beginning."""
    from cohobate.experiments.tiny_policy.stages import answer

    pairs = list(zip(texts, answer(name, texts), strict=True))
    if as_json:
        print(json.dumps([{"question": text, "answers": probabilities} for text, probabilities in pairs]))
        return
    for text, probabilities in pairs:
        likeliest = [f"{choice} {share:.0%}" for choice, share in list(probabilities.items())[:_SHOWN]]
        print(f"{text}\n  {next(iter(probabilities))}  ({', '.join(likeliest)})")
