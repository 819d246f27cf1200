"""The student in training, sampled by a vLLM engine beside this process, which gets the trainer's weights each time.

The weights go through a file, in shared memory where there is some, from which the engine copies them. The engine's
log-probabilities are those of the policy that sampled. Importance weights correct their difference from the trainer's,
which comes from rounding or precision.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from cohobate.config import Recipe
from cohobate.core.atomic_files import replacing
from cohobate.core.progress import say
from cohobate.models.loading import WEIGHTS, LoadedModel
from cohobate.models.own_forward import greedy_job, greedy_rows, require_agreement
from cohobate.models.sampling.decoding import Decoding, Sampled, SamplingJob
from cohobate.models.torch_setup import threads
from cohobate.teachers.vllm.sampler import EngineSampler
from cohobate.training.lora import full_weights
from cohobate.training.trainee import Trainee

_SHARED = Path("/dev/shm")
_RUNNING = 256  # responses that are generated at a time


class VllmSampler:
    """Samples from `trainee` as it is at each `begin` and at each `sample`.

    The engine starts with the first of them and ends at `close`. It does one of them at a time: what `begin` has begun
    is sampled to its end, in whatever thread, before another one has the engine.
    """

    def __init__(self, recipe: Recipe, trainee: Trainee) -> None:
        self.config, self.trainee = recipe.opd, trainee
        student, sleep = trainee.student, recipe.opd.vllm.sleep
        self.engine = EngineSampler(
            student,
            recipe.opd.vllm,
            threads(recipe.runtime),
            rows=_RUNNING,
            sleeps=sleep,
            environment=_same_gpu(student.device),
        )
        if sleep and not self.engine.sleeps:
            say("opd.vllm.sleep has no effect: vLLM cannot give memory back on a CPU")
        self.weights_folder: tempfile.TemporaryDirectory[str] | None = None
        self.sync_seconds = 0.0  # of the last call
        self._busy = threading.Lock()
        self._is_tried = False

    @property
    def model(self) -> LoadedModel:
        return self.trainee.student

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Callable[[], list[Sampled]]:
        """See Sampler.begin: the engine gets the weights at once, and the prompts when it is to draw."""
        job = SamplingJob(prompts, Decoding(self.config.max_tokens), self.model.eos_ids, keys, self.config.seed)
        self._take()
        return lambda: self._draw(job)

    def sample(self, job: SamplingJob) -> list[Sampled]:
        """See ModelSampler.sample."""
        self._take()
        return self._draw(job)

    def sync(self) -> None:
        """Copy the student's present weights to the engine."""
        started = time.perf_counter()
        if self.weights_folder is None:
            place = _SHARED if os.access(_SHARED, os.W_OK) else None
            self.weights_folder = tempfile.TemporaryDirectory(prefix="cohobate-", dir=place)
        folder = Path(self.weights_folder.name)
        with replacing(folder / WEIGHTS) as temporary:
            save_file(full_weights(self.model.model, getattr(torch, self.engine.dtype)), temporary)
        self.engine.order({"weights": str(folder)})
        (folder / WEIGHTS).unlink()  # shared memory is not freed when a run is killed
        self.sync_seconds = time.perf_counter() - started

    def close(self) -> None:
        """End the engine and drop the weights."""
        self.engine.close()
        if self.weights_folder is not None:
            self.weights_folder.cleanup()
            self.weights_folder = None

    def _take(self) -> None:
        """Wait until the engine is free, wake it, and give it the student's weights."""
        self._busy.acquire()
        try:
            if self.engine.sleeps:
                self.engine.order({"wake": True})
            self.sync()
            if not self._is_tried:
                self._try()
                self._is_tried = True
        except BaseException:
            self._busy.release()
            raise

    def _draw(self, job: SamplingJob) -> list[Sampled]:
        try:
            sampled = self.engine.sample(job)
            if self.engine.sleeps:
                self.engine.order({"sleep": True})
            return sampled
        finally:
            self._busy.release()

    def _try(self) -> None:
        """Refuse an engine whose weights, once they are sent, are not the student's."""
        with self.trainee.precision():
            rows = greedy_rows(self.model)
        require_agreement(rows, self.engine.sample(greedy_job(rows)), "student", half=self._is_half)

    @property
    def _is_half(self) -> bool:
        return self.engine.dtype != "float32"


def _same_gpu(device: torch.device) -> dict[str, str]:
    """The environment in which vLLM sees the trainer's GPU alone."""
    if device.type != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = device.index or 0
    return {"CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) and visible[index] else str(index)}
