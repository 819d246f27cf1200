"""A teacher in an engine of vLLM, in a process beside this one.

Prompts are rendered and responses decoded here, with the model's own template and tokenizer, exactly as for a local
teacher; only token ids go to the engine and come back. A request that is finished is yielded while others run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from cohobate.config import Runtime, Teacher
from cohobate.core.errors import EngineError, TeacherError
from cohobate.core.progress import say
from cohobate.models.loading import outline
from cohobate.models.rendering import Rendering, rendered_ids
from cohobate.models.special_tokens import decode
from cohobate.models.thoughts import completed, opening_of
from cohobate.teachers.base import INTERRUPTIONS, Batch, Failure, Request, Response
from cohobate.teachers.vllm import install
from cohobate.teachers.vllm.process import VllmProcess
from cohobate.teachers.vllm.trial import tried_engine

_AHEAD = 2  # requests in the engine for each that it computes: when one ends, the next is there already
_LONGEST_MESSAGE = 300
_STOPPED = "vLLM stopped in the middle: {}; its responses are stored, so run again"


class VllmTeacher:
    """Generates `batch_size` responses at a time, for one `answer` at a time. The engine starts with the first `answer`
    and ends at `stop`.

    Raises EngineError when vLLM is not installed, or does not start; ModelError where it computes another model.
    """

    def __init__(self, teacher: Teacher, batch_size: int, runtime: Runtime) -> None:
        self.teacher, self.batch_size, self.runtime = teacher, batch_size, runtime
        self.vllm = install.find()
        self.engine_version = f"vllm {self.vllm.version}"
        self.model = outline(teacher.model, template=teacher.template)
        self.rendering = Rendering.of(teacher)
        self.process: VllmProcess | None = None
        self._in_flight: dict[str, tuple[Request, list[int]]] = {}
        self._batch: list[Response | Failure] = []

    def answer(self, requests: Iterable[Request]) -> Iterator[Batch]:
        process = self.process = self.process or self._start()
        unsent = iter(requests)
        while True:
            room = _AHEAD * self.batch_size - len(self._in_flight)
            for request in islice(unsent, room):
                self._send(process, request)
            if not self._in_flight:
                return
            for message in process.receive():
                self._take(message, process)
            if self._batch:
                yield self._batch
            elif process.ended:
                raise TeacherError(_STOPPED.format(process.end_reason()))
            self._batch = []

    def stop(self) -> Batch:
        """End the engine; returns the responses that had arrived, the last batch included."""
        process, self.process = self.process, None
        if process is not None:
            process.group.kill()  # it holds nothing of value
            for message in process.remaining():
                if "fatal" not in message:
                    self._take(message, process)
            self._in_flight.clear()
        rest, self._batch = self._batch, []
        return rest

    def _start(self) -> VllmProcess:
        engine, words = tried_engine(self.model, self.teacher, "teacher", self.batch_size, self.runtime)
        say(words)
        return engine.start()

    def _send(self, process: VllmProcess, request: Request) -> None:
        ids = rendered_ids(self.model.tokenizer, request.messages, self.rendering)
        self._in_flight[request.key] = (request, ids)
        process.send({"key": request.key, "ids": ids, "sampling": _sampling(request, self.model.eos_ids)})

    def _take(self, message: dict[str, Any], process: VllmProcess) -> None:
        """Add the responses and failures in `message` to the batch.

        Raises TeacherError when the engine has ended, EngineError for sampling parameters that it refuses.
        """
        if message.get("mistake"):
            raise EngineError(
                f"vLLM refuses the sampling ({_line(message['fatal'])}); correct teacher.extra or [triples]"
            )
        if "fatal" in message:
            raise TeacherError(_STOPPED.format(process.end_reason(message["fatal"])))
        self._batch += [self._response(row) for row in message["done"]]
        self._batch += [self._failure(row) for row in message["failed"]]

    def _response(self, row: dict[str, Any]) -> Response | Failure:
        request, prompt = self._in_flight.pop(row["key"])
        tokenizer = self.model.tokenizer
        if row["finish_reason"] in INTERRUPTIONS:
            return Failure(request, "Interrupted", None, f"vLLM broke off the response ({row['finish_reason']})", 1)
        return Response(
            key=request.key,
            text=completed(decode(tokenizer, row["ids"]), opening_of(tokenizer, prompt)),
            reasoning=None,
            finish_reason=row["finish_reason"],
            prompt_tokens=len(prompt),
            completion_tokens=len(row["ids"]),
            latency_ms=row["milliseconds"],
        )

    def _failure(self, row: dict[str, Any]) -> Failure:
        request, _ = self._in_flight.pop(row["key"])
        return Failure(request, row["error_class"], None, _line(row["message"]), 1)


def _sampling(request: Request, eos_ids: Sequence[int]) -> dict[str, Any]:
    """The keyword arguments of vLLM's SamplingParams."""
    return {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "max_tokens": request.max_tokens,
        "seed": request.noise_seed,
        "stop_token_ids": list(eos_ids),
        "ignore_eos": True,  # of vLLM's own reading of the model's folder: the ends are those above
        **request.extra,
    }


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_MESSAGE]
