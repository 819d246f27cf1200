"""A teacher in an engine of vLLM, in a process beside this one.

Prompts are rendered and responses decoded here, with the model's own template and tokenizer, exactly as for a local
teacher; only token ids go to the engine and come back. A request that is finished is yielded while others run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from cohobate.config import Teacher
from cohobate.core.errors import EngineError, TeacherError
from cohobate.core.progress import say
from cohobate.models.chat_template import conversation_ids, decode
from cohobate.models.loading import outline
from cohobate.teachers.base import Failure, Request, Response
from cohobate.teachers.vllm import install
from cohobate.teachers.vllm.process import VllmProcess

_AHEAD = 2  # requests in the engine for each that it computes: the next ones are there when some end
_LONGEST_MESSAGE = 300
_STOPPED = "vLLM stopped in the middle: {}; what it answered is kept, so run again"

Batch = list[Response | Failure]


class VllmTeacher:
    """Answers one `answer` at a time, `batch_size` requests at once. The engine starts with the first, and ends at
    `stop`; on a CPU it has `threads`.

    Raises EngineError when vLLM is not installed, or does not start.
    """

    def __init__(self, settings: Teacher, batch_size: int, threads: int) -> None:
        self.settings, self.batch_size, self.threads = settings, batch_size, threads
        self.install = install.find()
        self.engine_version = f"vllm {self.install.version}"
        self.model = outline(settings.model)
        self.worker: VllmProcess | None = None
        self._flying: dict[str, tuple[Request, int]] = {}
        self._held: Batch = []

    def answer(self, requests: Sequence[Request]) -> Iterator[Batch]:
        worker = self.worker = self.worker or self._start()
        fresh = iter(requests)
        while True:
            room = _AHEAD * self.batch_size - len(self._flying)
            for request in islice(fresh, room):
                self._send(worker, request)
            if not self._flying:
                return
            for message in worker.receive():
                self._take(message, worker)
            if self._held:
                yield self._held
            elif worker.ended:
                raise TeacherError(_STOPPED.format(worker.why()))
            self._held = []

    def stop(self) -> Batch:
        """End the engine; returns what had arrived, a batch that was being stored included."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.group.kill()  # it holds nothing of value
            for message in worker.rest():
                if "fatal" not in message:
                    self._take(message, worker)
            self._flying.clear()
        rest, self._held = self._held, []
        return rest

    def _start(self) -> VllmProcess:
        log = install.new_log("vllm-teacher")
        say(f"starting vLLM {self.install.version} with {self.settings.model} (log: {log})")
        arguments = {
            **install.engine_arguments(self.settings, self.install),
            "model": str(self.model.path.resolve()),
            "max_num_seqs": self.batch_size,
        }
        return VllmProcess(self.install, self.threads, arguments, log)

    def _send(self, worker: VllmProcess, request: Request) -> None:
        ids = conversation_ids(self.model.tokenizer, request.messages)
        self._flying[request.key] = (request, len(ids))
        worker.send({"key": request.key, "ids": ids, "sampling": _sampling(request, self.model.eos_ids)})

    def _take(self, message: dict[str, Any], worker: VllmProcess) -> None:
        """Hold what `message` brings. Raises TeacherError, or EngineError for what the recipe says wrongly."""
        if message.get("mistake"):
            raise EngineError(
                f"vLLM refuses the sampling ({_line(message['fatal'])}); correct teacher.extra or [triples]"
            )
        if "fatal" in message:
            raise TeacherError(_STOPPED.format(worker.why(message["fatal"])))
        self._held += [self._response(row) for row in message["done"]]
        self._held += [self._failure(row) for row in message["failed"]]

    def _response(self, row: dict[str, Any]) -> Response:
        request, prompt_tokens = self._flying.pop(row["key"])
        return Response(
            key=request.key,
            text=decode(self.model.tokenizer, row["ids"]),
            reasoning=None,
            finish_reason=row["finish_reason"],
            prompt_tokens=prompt_tokens,
            completion_tokens=len(row["ids"]),
            latency_ms=row["milliseconds"],
        )

    def _failure(self, row: dict[str, Any]) -> Failure:
        request, _ = self._flying.pop(row["key"])
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
        **request.extra,
    }


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_MESSAGE]
