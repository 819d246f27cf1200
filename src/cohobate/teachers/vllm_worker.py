"""The engine of `teachers/vllm.py`: run as a program by the Python that has vLLM, which has nothing of ours.

Standard input: a line with the engine's arguments, then a line {"key", "ids", "sampling"} a request. Standard output:
{"ready": true}, then {"done": [...], "failed": [...]} as requests end, or {"fatal", "mistake"} and the end.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]


class MistakeError(Exception):
    """The sampling parameters of every request are wrong."""


class Engine:
    """vLLM's engine, stepped by hand, so that each response leaves as soon as it is finished."""

    def __init__(self, arguments: Message) -> None:
        from vllm import EngineArgs, LLMEngine

        self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self.begun: dict[str, float] = {}

    def add(self, request: Message) -> Message | None:
        """Begin `request`; returns why it cannot be begun, if so. Raises MistakeError when its sampling is none."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        key, only = request["key"], RequestOutputKind.FINAL_ONLY
        try:
            sampling = SamplingParams(**request["sampling"], detokenize=False, output_kind=only)
        except (TypeError, ValueError, VLLMClientError) as error:
            raise MistakeError(str(error)) from error
        try:
            self.engine.add_request(key, {"prompt_token_ids": request["ids"]}, sampling)
        except (ValueError, VLLMClientError) as error:  # such as a prompt that is longer than the context
            return {"key": key, "error_class": type(error).__name__, "message": str(error)}
        self.begun[key] = time.perf_counter()
        return None

    def step(self) -> Iterator[Message]:
        """One token for each running request; yields those that ended with it."""
        for output in self.engine.step():
            if output.finished:
                [response] = output.outputs
                yield {
                    "key": output.request_id,
                    "ids": list(response.token_ids),
                    "finish_reason": response.finish_reason,
                    "milliseconds": (time.perf_counter() - self.begun.pop(output.request_id)) * 1000,
                }


def serve(lines: "queue.SimpleQueue[str]", say: Any) -> None:
    """Answer requests until the process is ended from outside."""
    engine = Engine(json.loads(lines.get()))
    say({"ready": True})
    while True:
        begun = [engine.add(request) for request in new(lines, wait=not engine.begun)]
        failed = [failure for failure in begun if failure]
        done = list(engine.step()) if engine.begun else []
        if done or failed:
            say({"done": done, "failed": failed})


def new(lines: "queue.SimpleQueue[str]", *, wait: bool) -> Iterator[Message]:
    """The requests that have come; with `wait` at least one."""
    if wait:
        yield json.loads(lines.get())
    while not lines.empty():
        yield json.loads(lines.get())


def read(lines: "queue.SimpleQueue[str]") -> None:
    """Empty the pipe all the time: whoever writes to it never waits for the engine."""
    for line in sys.stdin:
        lines.put(line)


def main() -> None:
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what vLLM prints belongs into the log

    def say(message: Message) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=read, args=(lines,), daemon=True).start()
    try:
        serve(lines, say)
    except Exception as error:
        import traceback

        traceback.print_exc()
        mistake = isinstance(error, MistakeError)
        say({"fatal": str(error) if mistake else f"{type(error).__name__}: {error}", "mistake": mistake})
    os._exit(1)  # a thread that waits for input would hold the process


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are not meant to be imported by bare names
    main()
