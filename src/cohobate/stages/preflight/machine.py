"""Checks of this machine and its store: the data folder, the disk, vLLM, and what curation reads."""

from __future__ import annotations

import shutil

from cohobate.core.errors import CohobateError
from cohobate.stages.preflight.scope import Scope
from cohobate.store.artifacts import Store, data_root

# In sizes of the student's weights: three snapshots of weights and two Adam moments, two published models, and room.
_MARGIN = 12


def data_folder(scope: Scope) -> str:
    """The data folder can be written."""
    from cohobate.core.atomic_files import storage_errors, write_json_atomic

    root = data_root()
    with storage_errors(root):
        write_json_atomic(root / ".writable", True)
        (root / ".writable").unlink()
    return f"{root} can be written"


def curation(scope: Scope) -> str:
    """The artifacts that the triples are to be mixed with, and the languages that are to be recognised, are there."""
    from cohobate.datasets.curation.language_id import check as check_languages

    config = scope.recipe.curation
    assert config is not None
    if config.languages:
        check_languages(config.languages)
    others = [Store().find(part.triples).id for part in config.mix.parts if part.triples is not None]
    for name in others:
        if not name.startswith("triples/"):
            raise CohobateError(f"curation.mix names {name}, which is no triples artifact (`cohobate ls`)")
    return f"mixes the triples with {', '.join(others)}" if others else "needs nothing else"


def vllm(scope: Scope) -> str:
    """A vLLM is installed."""
    from cohobate.teachers.vllm import install

    vllm = install.find()
    return f"vLLM {vllm.version} of {vllm.python}"


def disk(scope: Scope) -> str:
    """There is room for the student's snapshots and published weights."""
    from cohobate.core.formatting import size

    needed = _MARGIN * sum(p.numel() * p.element_size() for p in scope.loaded["student"].model.parameters())
    free = shutil.disk_usage(data_root()).free
    if free < needed:
        raise CohobateError(
            f"{data_root()} has {size(free)} free and about {size(needed)} are needed; free some space, or set "
            "COHOBATE_DATA to a folder with more"
        )
    return f"{size(free)} free, about {size(needed)} needed"
