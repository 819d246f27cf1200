"""`vllm serve` for the teacher of a recipe: started, waited for, and stopped with all its processes.

A server that scores rollouts runs as long as a stage does; when it crashes, it is started again at the same address.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cohobate.config import ObjectiveStage, Opd, Recipe
from cohobate.config.load import changed
from cohobate.core import context, interrupts
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import EngineError, ModelError
from cohobate.core.model_shape import text_config
from cohobate.core.processes import Group
from cohobate.core.progress import say
from cohobate.models.loading import model_path
from cohobate.models.torch_setup import threads
from cohobate.teachers.vllm import install

_POLL_SECONDS = 0.25
_STATUS_SECONDS = 20.0
_RESTARTS = 3
# vLLM's own limit, and how many logits (tokens x vocabulary) it may hold of prompts that it scores: 1 GiB of float32.
_LOGPROBS = 20
_LOGITS = 2**28


@dataclass(frozen=True)
class Serving:
    """A server that is ready. `url` is for teacher.base_url, `model` for teacher.model."""

    url: str
    model: str
    log: Path
    group: Group

    def check(self) -> None:
        """Raises EngineError when it has ended."""
        if self.group.ended:
            raise EngineError(f"vllm serve ended: {install.last_error(self.log)} (log: {self.log})")


@contextmanager
def serving(
    recipe: Recipe, *, host: str = "127.0.0.1", port: int | None = None, ending: threading.Event | None = None
) -> Iterator[Serving]:
    """`vllm serve` with the teacher of `recipe`, ready to answer, for as long as the block runs.

    It listens at `port`; else, if the teacher is an endpoint on this machine, at the port of its base_url; else at a
    free one. Where teacher.api_key_env names a variable that is set, the server asks for that key. However this process
    ends, the server ends with it. Raises EngineError when it does not start, or `ending` is set before it has.
    """
    vllm = install.find()
    number = _free_port(host, port if port is not None else _port_of(recipe))
    log = install.new_log("vllm-serve")
    command = [*vllm.command, *arguments(recipe, vllm, host, number), *_template(recipe, log)]
    environment = vllm.environment(threads(recipe.runtime))
    key = os.environ.get(recipe.teacher.api_key_env or "")
    if key:
        environment["VLLM_API_KEY"] = key  # every user could read it on the command line
    say(f"starting vllm serve {vllm.version} with {recipe.teacher.model} at port {number} (log: {log})")
    with Group(command, env=environment, log=log) as group:
        served = Serving(f"http://{host}:{number}/v1", recipe.teacher.model, log, group)
        _wait_until_healthy(served, ending or threading.Event())
        yield served


@contextmanager
def scoring_server(recipe: Recipe) -> Iterator[Recipe]:
    """`recipe` with the address of a server that scores: its own, or one that runs as long as the block.

    The latter is started again when it crashes, at most 3 times; requests wait meanwhile.
    """
    if recipe.teacher.base_urls:
        yield recipe
        return
    with serving(recipe) as served:
        ending = threading.Event()
        restarter = context.thread(partial(_restart, recipe, served, ending), "vllm-serve")
        restarter.start()
        try:
            where = f"recipe {recipe.name}, scored by {served.url}"
            yield changed(recipe, {"teacher": {"base_url": served.url}}, where)
        finally:
            ending.set()
            restarter.join()


@contextmanager
def scoring_servers(recipe: Recipe, stage: ObjectiveStage) -> Iterator[Recipe]:
    """`recipe` with an address for each of its teachers that scores by a server in `stage`; see `scoring_server`."""
    if not (stage.asks_teacher and stage.steps):
        yield recipe
        return
    with ExitStack() as stack:
        served = {
            name: stack.enter_context(scoring_server(own))
            for name, own in recipe.scoring_teachers.items()
            if own.teacher.scores_by_server
        }
        if not recipe.teachers:
            yield next(iter(served.values()), recipe)
            return
        urls = {name: {"base_url": own.teacher.base_url} for name, own in served.items()}
        each = [{**named.model_dump(mode="json"), **urls.get(named.name, {})} for named in recipe.teachers]
        yield changed(recipe, {"teachers": each}, f"recipe {recipe.name}")


def _restart(recipe: Recipe, served: Serving, ending: threading.Event) -> None:
    port = urlsplit(served.url).port
    with ExitStack() as stack:
        for _ in range(_RESTARTS):
            while not served.group.ended:
                if ending.wait(_POLL_SECONDS):
                    return
            say(f"vllm serve ended ({install.last_error(served.log)}; log: {served.log}); starting it again")
            try:
                served = stack.enter_context(serving(recipe, port=port, ending=ending))
            except EngineError as error:
                if not ending.is_set():
                    say(str(error))
                return
        ending.wait()


def serve_until_stopped(recipe: Recipe, *, host: str, port: int | None) -> None:
    """`serving` until Ctrl+C or SIGTERM; prints the address once it answers. Raises EngineError when it ends before."""
    interrupts.install(*interrupts.SIGNALS)
    with suppress(KeyboardInterrupt), serving(recipe, host=host, port=port) as served:
        print(served.url, flush=True)
        generates = f"teacher.kind=endpoint --set teacher.model={served.model}", "opd.steps=0"
        scores = "teacher.scoring=server", f"opd.objective={Opd.served()[0]}"
        first, last = scores if recipe.served_scores and recipe.teacher.is_folder else generates
        say(f"Ctrl+C stops it; any recipe asks it with --set {first} --set teacher.base_url={served.url} --set {last}")
        while True:
            served.check()
            time.sleep(_POLL_SECONDS)


def arguments(recipe: Recipe, vllm: install.Install, host: str, port: int) -> list[str]:
    """The arguments of `vllm` that serve the teacher of `recipe`."""
    chosen = {
        **install.engine_arguments(recipe.teacher, vllm, _config(recipe)),
        "served_model_name": recipe.teacher.model,
        "host": host,
        "port": port,
        "uvicorn_log_level": "warning",  # one line per request would bury the rest
        **(_scoring_arguments(recipe) if recipe.served_scores else {}),
    }
    flags = []
    for name, value in chosen.items():
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return ["serve", _served(recipe), *flags]


def _template(recipe: Recipe, log: Path) -> list[str]:
    """The arguments that give the recipe's own chat template to the server, in a file beside `log`."""
    if recipe.teacher.template is None:
        return []
    path = log.with_suffix(".jinja")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(recipe.teacher.template, encoding="utf-8")
    return ["--chat-template", str(path)]


def _scoring_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of a server that scores prompts: it computes the logits of each of their tokens."""
    tokens = max(256, min(8192, _LOGITS // _vocabulary(recipe)))
    return {
        "no_enable_prefix_caching": True,  # cached tokens have no log-probabilities
        "max_num_batched_tokens": tokens,
        "max_num_seqs": min(256, tokens),
        "max_logprobs": max(_LOGPROBS, recipe.sft.teacher_top_k, recipe.opd.teacher_top_k),
        "logprobs_mode": "raw_logprobs",
    }


def _vocabulary(recipe: Recipe) -> int:
    """Rows of the teacher's output layer; of a model that is not on this machine, as many as the largest have."""
    config = _config(recipe) or {}
    return int(text_config(config).get("vocab_size") or 256_000)


def _config(recipe: Recipe) -> dict[str, Any] | None:
    """The teacher's config; None of a model that is not on this machine."""
    try:
        path = model_path(recipe.teacher.model) / "config.json"
    except ModelError:
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _served(recipe: Recipe) -> str:
    """The model as vLLM finds it: a folder, or, for an endpoint, a name of the Hugging Face hub."""
    name = recipe.teacher.model
    try:
        return str(model_path(name).resolve())
    except ModelError:
        if not recipe.teacher.is_folder and name.count("/") == 1 and not name.startswith((".", "/")):
            return name
        raise


def _port_of(recipe: Recipe) -> int | None:
    """The port of the teacher's own address, where that is on this machine."""
    if len(recipe.teacher.base_urls) == 1:
        parts = urlsplit(recipe.teacher.base_urls[0])
        if parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0", "::1"):
            return parts.port
    return None


def _free_port(host: str, port: int | None) -> int:
    """`port`, if nothing listens there; without it, a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            reason = error.strerror or str(error)
            raise EngineError(f"nothing can listen at {host}:{port} ({reason}); give another --port") from None
        free: int = probe.getsockname()[1]
        return free


def _wait_until_healthy(served: Serving, ending: threading.Event) -> None:
    began = reported = time.monotonic()
    while not _healthy(served.url):
        if served.group.ended:
            reason = f"{install.last_error(served.log)} (log: {served.log})"
            raise EngineError(install.DOES_NOT_START.format(reason, "teacher"))
        now = time.monotonic()
        if now - reported >= _STATUS_SECONDS:
            reported = now
            say(install.startup_status(now - began, served.log))
        if ending.wait(_POLL_SECONDS):
            raise EngineError("vllm serve was not waited for any longer")
    say(f"{served.model} answers at {served.url} after {time.monotonic() - began:.0f} s")


def _healthy(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is behind no proxy
    with suppress(OSError), direct.open(f"{url.removesuffix('/v1')}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
