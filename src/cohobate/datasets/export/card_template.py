"""What the cards of datasets and models share: the template environment, and where a thing came from."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cohobate.core.errors import StoreError
from cohobate.store.artifacts import Artifact, Store


def environment() -> Environment:
    """Markdown templates; a name that is not given is an error."""
    made = Environment(
        loader=PackageLoader("cohobate.datasets.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, which nobody serves as HTML unsanitised
    )
    made.filters |= {"fenced": _fenced, "cell": _cell}
    return made


def lineage(artifact: Artifact) -> list[tuple[str, str, str]]:
    """(id, fingerprint, made at) of the artifact and of all it was made from, as far as they are still stored."""
    store, found = Store(artifact.path.parents[1]), []
    queue = [(artifact.id, artifact.fingerprint)]
    while queue:
        name, mark = queue.pop(0)
        try:
            manifest = store.find(mark).manifest
        except StoreError:
            found.append((name, mark, "not stored here"))
            continue
        found.append((name, mark, f"{manifest.created_at[:19]} UTC"))
        queue += [(p.id, p.fingerprint) for p in manifest.parents if p.fingerprint not in [each[1] for each in found]]
    return list(dict.fromkeys(found))


def short(model: str) -> str:
    """A model's name; of a path on somebody's machine only the last part."""
    return Path(model).name if Path(model).is_absolute() else model


def _fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any run of backticks inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _cell(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").split())
