"""The engine of `teachers/vllm/teacher.py`: a program for the Python that has vLLM, and none of our packages.

Standard input: a line with the engine's arguments, then a line {"key", "ids", "sampling"} per request, or between them
{"weights": folder}, {"sleep": true}, {"wake": true}. Standard output: {"ready": true, "max_length": n}, then {"done":
[...], "failed": [...]} as requests end, {"did": ...} after each of the others, or {"fatal", "mistake"} and the end.
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
        from vllm.platforms import current_platform

        self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self.cpu = current_platform.is_cpu()
        self.begun: dict[str, float] = {}

    def add(self, request: Message) -> Message | None:
        """Begin `request`; returns the failure if it cannot begin. Raises MistakeError for unusable sampling."""
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

    def do(self, order: Message) -> Message:
        """Carry out an order: load weights from the safetensors in a folder, or sleep and wake, which share a GPU."""
        started = time.perf_counter()
        if "weights" in order:
            self.engine.collective_rpc("reload_weights", kwargs={"weights_path": order["weights"]})
            if self.cpu:
                self.engine.collective_rpc(pack_tied_head)
            self.engine.reset_prefix_cache()  # of the old weights
        elif "sleep" in order:
            self.engine.sleep(level=2)  # without the weights, which are sent before the next request
        elif "wake" in order:
            self.engine.wake_up()
        return {"did": next(iter(order)), "milliseconds": (time.perf_counter() - started) * 1000}

    def step(self) -> Iterator[Message]:
        """One token for each running request; yields those that ended with it."""
        for output in self.engine.step():
            if output.finished:
                [response] = output.outputs
                yield {
                    "key": output.request_id,
                    "ids": list(response.token_ids),
                    "logprobs": chosen(response),
                    "finish_reason": response.finish_reason,
                    "milliseconds": (time.perf_counter() - self.begun.pop(output.request_id)) * 1000,
                }


def pack_tied_head(worker: Any) -> None:
    """On a CPU vLLM computes with packed copies of weights; of a tied output layer it packs none at a reload."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    head = getattr(worker.get_model(), "lm_head", None)
    if hasattr(head, "cpu_linear"):
        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def chosen(response: Any) -> list[float] | None:
    """The log-probabilities of the tokens of `response`, where they were asked for."""
    if response.logprobs is None:
        return None
    return [place[token].logprob for token, place in zip(response.token_ids, response.logprobs, strict=True)]


def serve(lines: "queue.SimpleQueue[str]", say: Any) -> None:
    """Answer requests until the process is ended from outside."""
    engine = Engine(json.loads(lines.get()))
    say({"ready": True, "max_length": engine.engine.model_config.max_model_len})
    while True:
        failed = []
        for message in new(lines, wait=not engine.begun):
            if "key" not in message:
                say(engine.do(message))
            elif failure := engine.add(message):
                failed.append(failure)
        done = list(engine.step()) if engine.begun else []
        if done or failed:
            say({"done": done, "failed": failed})


def new(lines: "queue.SimpleQueue[str]", *, wait: bool) -> Iterator[Message]:
    """The messages that have come; with `wait` at least one."""
    if wait:
        yield json.loads(lines.get())
    while not lines.empty():
        yield json.loads(lines.get())


def read(lines: "queue.SimpleQueue[str]") -> None:
    """Empty the pipe all the time: its writer never waits for the engine."""
    for line in sys.stdin:
        lines.put(line)


def main() -> None:
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM's own output goes to the log

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
    os._exit(1)  # a thread that waits for input would keep the process alive


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are not meant to be imported by bare names
    main()
