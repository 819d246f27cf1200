"""Checks of this machine and its store: the data folder, the disk, vLLM, trackers, questions, what curation reads."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from typing import Any, get_args

from cohobate.config import SplitName
from cohobate.core.errors import CohobateError
from cohobate.report.trackers import require_usable
from cohobate.stages.preflight.scope import Scope
from cohobate.store.artifacts import Store, data_root

_USES = {"fresh": "on-policy distillation", "validation": "evaluation points"}
_ROOM = 1.1  # rollouts, answers and logs beside the large files


def data_folder(scope: Scope) -> str:
    """The data folder can be written."""
    from cohobate.core.atomic_files import storage_errors, write_json_atomic

    root = data_root()
    with storage_errors(root):
        write_json_atomic(root / ".writable", True)
        (root / ".writable").unlink()
    return f"{root} can be written"


def trackers(scope: Scope) -> str:
    """The trackers can be used."""
    require_usable(scope.recipe)
    return f"{' and '.join(scope.recipe.tracking.to)} will get the metrics"


def questions(scope: Scope) -> str:
    """The questions can be read, and have what the teacher is to be shown and, of several, a teacher; how many of them
    each use gets.
    """
    from cohobate.models.privileged import require_names
    from cohobate.sources.read import read
    from cohobate.stages.asked import require_routable

    recipe = scope.recipe
    frame = read(recipe.questions).questions
    require_names(recipe, frame)
    require_routable(recipe, frame)
    counts = Counter(frame["split"].to_list())
    uses: dict[str, str] = dict(_USES)
    uses.update(dict.fromkeys(recipe.evaluation.splits, "evaluation"))
    uses[recipe.triples.split] = "the teacher and sft"
    if not recipe.opd.steps and recipe.triples.split != "fresh":
        uses["fresh"] = "no stage, since opd.steps = 0"
    splits = [split for split in get_args(SplitName) if split in counts]
    each = [f"{counts[split]:,} {split} for {uses.get(split, 'no stage')}" for split in splits]
    return f"{sum(counts.values()):,} questions: {', '.join(each)}"


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
    """There is room for the student's snapshots and published weights, and for the teacher's scores."""
    from cohobate.core.formatting import size
    from cohobate.stages.disk import needed

    student, teachers = scope.loaded["student"], [each.config for each in scope.teachers]
    half = student.device.type == "cuda"
    needs = _ROOM * needed(scope.recipe, student.config, teachers, half=half)
    free = shutil.disk_usage(data_root()).free
    if free < needs:
        raise CohobateError(
            f"{data_root()} has {size(free)} free and about {size(needs)} are needed; free some space, set "
            "COHOBATE_DATA to a folder with more, or lower snapshot_every, which bounds the scores that are kept"
        )
    return f"{size(free)} free, about {size(needs)} needed"


def _weights(model: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def memory(scope: Scope) -> str:
    """What trains and scores fits into the memory of this device; what samples does where responses end before it."""
    from cohobate.stages.estimate import GIB, estimate, less_memory
    from cohobate.stages.hardware import this_machine

    hardware = this_machine(scope.recipe.runtime.device)
    here = hardware.machine
    if hardware.device == "cpu":  # what the checks have loaded is counted by the estimate too
        loaded = sum(_weights(each.model) for each in scope.models.values() if hasattr(each, "model"))
        here = replace(here, memory=here.memory + loaded / GIB)
    lines = estimate(scope.recipe, here)
    largest = max(lines, key=lambda line: line.memory)
    most = f"at most {largest.memory:.1f} of {here.memory:.1f} GiB, by {largest.stage} ({largest.work})"
    sure = [line for line in lines if line.memory > here.memory and not line.samples]
    if sure:
        raise CohobateError(f"{most}; less for {sure[0].stage} ({sure[0].work}): {less_memory(sure[0])}")
    if largest.memory > here.memory:
        return f"{most}, if all responses are as long as their limit; less: {less_memory(largest)}"
    return most
