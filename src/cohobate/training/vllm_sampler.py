"""The student's rollouts from a vLLM engine beside this process, which gets the trainer's weights before each batch.

The weights go through a file, in shared memory where there is some, from which the engine copies them. The engine's
log-probabilities are those of the policy that sampled. Importance weights correct their difference from the trainer's,
which comes from rounding or precision.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cohobate.config import Recipe
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import CohobateError
from cohobate.core.fingerprint import hash_value
from cohobate.core.progress import say
from cohobate.models.loading import WEIGHTS
from cohobate.models.sampling.sampler import Sampled
from cohobate.models.torch_setup import threads
from cohobate.teachers.vllm import install
from cohobate.teachers.vllm.process import VllmProcess
from cohobate.training.lora import full_weights
from cohobate.training.trainee import Trainee

_SHARED = Path("/dev/shm")
_RUNNING = 256  # responses that are generated at a time
_STOPPED = "vLLM stopped in the middle of the rollouts: {}; what is logged is kept, so run again"


class VllmSampler:
    """Samples from `trainee` as it is at each `begin`. The engine starts at the first `begin` and ends at `close`."""

    def __init__(self, recipe: Recipe, trainee: Trainee) -> None:
        self.recipe, self.trainee, self.settings = recipe, trainee, recipe.opd.vllm
        self.install = install.find()
        self._process: VllmProcess | None = None
        self.weights_folder: tempfile.TemporaryDirectory[str] | None = None
        self.sync_seconds = 0.0  # of the last call

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Callable[[], list[Sampled]]:
        """See Sampler.begin: the engine gets the weights at once, and the prompts when it is to draw."""
        process = self._process = self._process or self._start()
        if self._sleeps:
            self._order({"wake": True})
        self.sync()
        return lambda: self._draw(process, prompts, keys)

    def _draw(self, process: VllmProcess, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[Sampled]:
        for number, (prompt, key) in enumerate(zip(prompts, keys, strict=True)):
            sampling = {
                "temperature": 1.0,
                "logprobs": 0,
                "max_tokens": self.recipe.opd.max_tokens,
                "seed": int(hash_value([self.recipe.opd.seed, key])[:8], 16) % 2**31,
                "stop_token_ids": list(self.trainee.student.eos_ids),
            }
            process.send({"key": str(number), "ids": list(prompt), "sampling": sampling})
        responses: dict[int, Sampled] = {}
        while len(responses) < len(prompts):
            for message in _receive(process):
                for row in message["done"]:
                    responses[int(row["key"])] = Sampled(row["ids"], row["logprobs"], row["finish_reason"])
        if self._sleeps:
            self._order({"sleep": True})
        return [responses[number] for number in range(len(prompts))]

    def sync(self) -> None:
        """Copy the student's present weights to the engine."""
        self._process = self._process or self._start()
        started = time.perf_counter()
        assert self.weights_folder is not None
        folder = Path(self.weights_folder.name)
        dtype = getattr(torch, install.engine_arguments(self.settings, self.install)["dtype"])
        with replacing(folder / WEIGHTS) as temporary:
            save_file(full_weights(self.trainee.student.model, dtype), temporary)
        self._order({"weights": str(folder)})
        (folder / WEIGHTS).unlink()  # shared memory is not freed when a run is killed
        self.sync_seconds = time.perf_counter() - started

    def close(self) -> None:
        """End the engine and drop the weights."""
        process, self._process = self._process, None
        if process is not None:
            process.group.kill()
        if self.weights_folder is not None:
            self.weights_folder.cleanup()
            self.weights_folder = None

    @property
    def _sleeps(self) -> bool:
        return self.settings.sleep and not self.install.cpu

    def _start(self) -> VllmProcess:
        student = self.trainee.student
        log = install.new_log("vllm-student")
        say(f"starting vLLM {self.install.version} with the student (log: {log})")
        if self.settings.sleep and self.install.cpu:
            say("opd.vllm.sleep has no effect: vLLM cannot give memory back on a CPU")
        arguments = {
            **install.engine_arguments(self.settings, self.install),
            "model": str(student.path.resolve()),
            "max_num_seqs": _RUNNING,
            "enable_sleep_mode": self._sleeps or None,
        }
        place = _SHARED if os.access(_SHARED, os.W_OK) else None
        self.weights_folder = tempfile.TemporaryDirectory(prefix="cohobate-", dir=place)
        process = VllmProcess(self.install, threads(self.recipe.runtime), arguments, log, _same_gpu(student.device))
        if self._sleeps:
            process.send({"sleep": True})  # as between any two batches
            _receive(process)
        return process

    def _order(self, order: dict[str, Any]) -> None:
        """Send an order that is no request, and wait until it is carried out."""
        assert self._process is not None
        self._process.send(order)
        _receive(self._process)


def _receive(process: VllmProcess) -> list[dict[str, Any]]:
    """The next messages. Raises CohobateError for a message of a failure, or when the engine has ended."""
    messages = process.receive()
    for message in messages:
        if "fatal" in message or message.get("failed"):
            raise CohobateError(_STOPPED.format(_why(message, process)))
    if process.ended:
        raise CohobateError(_STOPPED.format(process.end_reason()))
    return messages


def _why(message: dict[str, Any], process: VllmProcess) -> str:
    if "fatal" in message:
        return process.end_reason(message["fatal"])
    return " ".join(str(message["failed"][0]["message"]).split())[:300]


def _same_gpu(device: torch.device) -> dict[str, str]:
    """The environment in which vLLM sees the trainer's GPU alone."""
    if device.type != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = device.index or 0
    return {"CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) and visible[index] else str(index)}
