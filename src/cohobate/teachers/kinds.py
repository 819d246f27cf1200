"""The kinds of teacher, and how each is built.

To add one: a class with the methods of `TeacherBackend` in a module of its own, a function and a line in `BACKENDS`
here, and its name in `TeacherKind` of config/models.py, where properties say what else a kind implies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cohobate.config import Runtime, Teacher, TeacherKind
from cohobate.teachers.base import Limits, TeacherBackend


def open_backend(teacher: Teacher, limits: Limits, runtime: Runtime | None = None) -> TeacherBackend:
    """The backend that generates the responses of `teacher`.

    runtime: the threads and the device of a model on this machine; None: as torch is set up already. Raises
    EndpointError when the key's variable is not set, ModelError for a model that is not there, EngineError without
    vLLM.
    """
    return BACKENDS[teacher.kind](teacher, limits, runtime)


def open_generator(teacher: Teacher, limits: Limits, runtime: Runtime, batches: Path) -> TeacherBackend:
    """The backend for requests that may wait, where the teacher is asked in batches; otherwise as `open_backend`.

    batches: the folder of the records of what was submitted.
    """
    if not teacher.batch:
        return open_backend(teacher, limits, runtime)
    from cohobate.teachers.endpoint.batch import BatchTeacher

    return BatchTeacher(teacher, limits, batches)


def _local(teacher: Teacher, limits: Limits, runtime: Runtime | None) -> TeacherBackend:
    from cohobate.models.loading import load
    from cohobate.models.rendering import Rendering
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.teachers.local import LocalTeacher

    if runtime is not None:
        prepare_torch(runtime)
    model = load(teacher.model, device=runtime.device if runtime else "auto", template=teacher.template)
    return LocalTeacher(model, limits.batch_size, Rendering.of(teacher))


def _vllm(teacher: Teacher, limits: Limits, runtime: Runtime | None) -> TeacherBackend:
    from cohobate.teachers.vllm.teacher import VllmTeacher

    return VllmTeacher(teacher, limits.batch_size, runtime or Runtime())


def _endpoint(teacher: Teacher, limits: Limits, runtime: Runtime | None) -> TeacherBackend:
    from cohobate.teachers.endpoint.client import EndpointTeacher

    return EndpointTeacher(teacher, limits)


BACKENDS: dict[TeacherKind, Callable[[Teacher, Limits, Runtime | None], TeacherBackend]] = {
    "local": _local,
    "vllm": _vllm,
    "endpoint": _endpoint,
}
