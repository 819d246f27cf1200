"""The shared parts of the cards of datasets and models: the template environment, and lineage."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment

from cohobate.core import templates
from cohobate.core.errors import StoreError
from cohobate.core.markdown import cell, fenced
from cohobate.store.artifacts import Artifact, Store


def environment() -> Environment:
    """The templates of the cards."""
    filters: dict[str, Callable[..., str]] = {"fenced": fenced, "cell": cell}
    return templates.environment("cohobate.datasets.export", filters, keep_trailing_newline=True)


def lineage(artifact: Artifact) -> list[tuple[str, str, str]]:
    """(id, fingerprint, time it was made) of the artifact and of all its ancestors, as far as they are still stored."""
    store, rows = Store(artifact.path.parents[1]), []
    queue = [(artifact.id, artifact.fingerprint)]
    while queue:
        name, fingerprint = queue.pop(0)
        try:
            manifest = store.find(fingerprint).manifest
        except StoreError:
            rows.append((name, fingerprint, "not stored here"))
            continue
        rows.append((name, fingerprint, f"{manifest.created_at[:19]} UTC"))
        queue += [(p.id, p.fingerprint) for p in manifest.parents if p.fingerprint not in [row[1] for row in rows]]
    return list(dict.fromkeys(rows))
