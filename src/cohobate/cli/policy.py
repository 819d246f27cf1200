"""`cohobate policy answer`: ask a trained tiny policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cohobate.core.errors import ModelError
from cohobate.store.artifacts import Store

_SHOWN = 3


def print_answers(name: str, texts: Sequence[str], *, as_json: bool = False) -> None:
    """The policy's choice for each text; `name` is a file, or an artifact's id or its beginning."""
    from cohobate.experiments.tiny_policy.model import NAME, load

    path = Path(name)
    if path.suffix != ".safetensors":
        artifact = Store().find(name)
        if artifact.stage != "policy":
            raise ModelError(f"{artifact.id} holds no tiny policy; `cohobate policy train RECIPE` makes one")
        path = artifact.path / NAME
    found = load(path).choose(texts)
    if as_json:
        print(json.dumps([{"question": text, "answers": ranked} for text, ranked in zip(texts, found, strict=True)]))
        return
    for text, ranked in zip(texts, found, strict=True):
        likeliest = ", ".join(f"{answer} {share:.0%}" for answer, share in list(ranked.items())[:_SHOWN])
        print(f"{text}\n  {next(iter(ranked))}  ({likeliest})")
