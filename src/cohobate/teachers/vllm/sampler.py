"""Responses of a model in a vLLM engine beside this process: token ids go in, ids and their log-probabilities come out.

Prompts are rendered and responses decoded by the caller, exactly as for a model in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohobate.core import interrupts
from cohobate.core.errors import CohobateError, EngineError, ModelError
from cohobate.core.fingerprint import hash_value
from cohobate.core.model_shape import context_of
from cohobate.core.progress import say
from cohobate.core.sanitize import one_line
from cohobate.models.loading import LoadedModel, ModelOutline
from cohobate.models.sampling.decoding import Sampled, SamplingJob
from cohobate.teachers.base import INTERRUPTIONS
from cohobate.teachers.vllm import install
from cohobate.teachers.vllm.process import VllmProcess

_STOPPED = "vLLM stopped in the middle: {}; what is finished is kept, so run again"


class EngineSampler:
    """Samples from the model of a folder, or from the weights that it was sent last.

    `rows` responses are generated at a time. `sleeps`: the engine can give a GPU's memory back, and starts so. It
    starts with the first order or job, and ends at `close`; `environment` holds further variables for it.

    Raises EngineError when vLLM is not installed, does not start, or cannot have the length that is set.
    """

    def __init__(
        self,
        model: LoadedModel | ModelOutline,
        settings: install.EngineSettings,
        threads: int,
        *,
        rows: int,
        sleeps: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.section, self.threads, self.environment = model, settings.section, threads, environment
        self.install = install.find()
        self.sleeps = sleeps and not self.install.cpu
        engine = install.engine_arguments(settings, self.install, model.config)
        self.dtype = str(engine["dtype"])
        self._arguments = {
            **engine,
            "model": str(model.path.resolve()),
            "max_num_seqs": rows,
            "enable_sleep_mode": self.sleeps or None,
        }
        self._process: VllmProcess | None = None

    def sample(self, job: SamplingJob) -> list[Sampled]:
        """One response per prompt, in order; its noise depends on the job's seed and its key alone.

        Raises EngineError for a prompt whose response does not fit into the engine, CohobateError when that ends.
        """
        process = self.start()
        rooms = self._rooms(process, job)
        for number, (prompt, key, room) in enumerate(zip(job.prompts, job.keys, rooms, strict=True)):
            sampling = {
                "temperature": job.decoding.temperature,
                "top_p": job.decoding.top_p,
                "top_k": job.decoding.top_k,
                "logprobs": 0,
                "max_tokens": room,
                "seed": int(hash_value([job.seed, key])[:8], 16) % 2**31,
                "stop_token_ids": list(job.eos_ids),
                "ignore_eos": True,  # of vLLM's own reading of the model's folder: the ends are those above
            }
            process.send({"key": str(number), "ids": list(prompt), "sampling": sampling})
        responses: dict[int, Sampled] = {}
        while len(responses) < len(job.prompts):
            interrupts.check()
            rows = [row for message in _receive(process) for row in message["done"]]
            responses |= {int(row["key"]): _sampled(row) for row in rows}
            job.done(len(rows))
        return [responses[number] for number in range(len(job.prompts))]

    def order(self, order: Mapping[str, Any]) -> None:
        """Send an order of worker.py that is no request, and wait until it is carried out."""
        process = self.start()
        process.send(dict(order))
        _receive(process)

    def close(self) -> None:
        """End the engine, which holds nothing of value, even while it samples in another thread."""
        process, self._process = self._process, None
        if process is not None:
            process.group.kill()

    def start(self) -> VllmProcess:
        """The process of the engine, which starts unless it runs already."""
        if self._process is None:
            log = install.new_log("vllm-sampler")
            say(f"starting vLLM {self.install.version} with {self.model.path} (log: {log})")
            self._process = VllmProcess(
                self.install, self.threads, self._arguments, log, self.section, self.environment
            )
            if self.sleeps:
                self.order({"sleep": True})
        return self._process

    def _rooms(self, process: VllmProcess, job: SamplingJob) -> list[int]:
        """The longest response to each prompt: what the job wants, as far as the model's context goes."""
        lengths, context = [len(prompt) for prompt in job.prompts], context_of(self.model.config)
        if context is not None and max(lengths, default=0) >= context:
            raise ModelError(
                f"a prompt has {max(lengths)} tokens, but the model's context is {context}; shorten or leave out the "
                "question"
            )
        wanted = job.decoding.max_tokens
        rooms = [wanted if context is None else min(wanted, context - length) for length in lengths]
        longest = max((sum(pair) for pair in zip(lengths, rooms, strict=True)), default=0)
        if longest > process.max_length:
            raise EngineError(
                f"a prompt and its response take up to {longest} tokens, but vLLM's limit is {process.max_length}; "
                f"raise {self.section}.max_length, or lower max_tokens"
            )
        return rooms


def _sampled(row: Mapping[str, Any]) -> Sampled:
    if row["finish_reason"] in INTERRUPTIONS:
        raise CohobateError(_STOPPED.format(f"it broke off a response ({row['finish_reason']})"))
    return Sampled(row["ids"], row["logprobs"], row["finish_reason"])


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
    return one_line(message["failed"][0]["message"])[:300]
