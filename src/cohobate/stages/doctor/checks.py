"""The checks of `cohobate doctor`: each looks, changes nothing, and gives a finding in one sentence."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import platform
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from cohobate import __version__
from cohobate.core.errors import EngineError
from cohobate.core.formatting import size
from cohobate.core.memory import free_memory
from cohobate.core.sanitize import without_secrets
from cohobate.stages.doctor import combinations
from cohobate.store.artifacts import DATA, data_root

Status = Literal["ok", "note", "broken"]
_SECONDS = 3.0
_LONGEST_REPLY = 1 << 16
# Bytes: below the first no model can be saved, below the second a real one soon cannot.
_NO_DISK, _LITTLE_DISK = 1 << 29, 20 << 30
_LITTLE_MEMORY = 2 << 30


@dataclass(frozen=True)
class Finding:
    """broken: something will fail. note: something is not there that some recipes need. mend: a command, if any."""

    name: str
    status: Status
    detail: str
    mend: str | None = None


@dataclass(frozen=True)
class Server:
    """The Prefect server. required: the environment names it, so that runs need it; else runs bring their own."""

    url: str
    required: bool


def examine(server: Server) -> Iterator[Finding]:
    """All findings, in order; each comes as it is made."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        *(_python, _packages, _extras, _torch, _vllm, _memory, _disk),
        *(lambda: _prefect(server), _hub),
    )
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("cohobate", "ok", f"cohobate {__version__}, Python {platform.python_version()}, {system}")
    if platform.system() != "Linux":
        yield Finding("system", "note", "the tests run on Linux alone; memory is not measured elsewhere")


def _packages() -> Iterator[Finding]:
    needed = combinations.requirements()
    broken = list(combinations.conflicts(needed))
    for conflict in broken:
        yield Finding("packages", "broken", conflict.sentence, conflict.mend)
    if not broken:
        yield Finding(
            "packages", "ok", f"the {len(needed)} required packages are there, in versions that work together"
        )


def _extras() -> Iterator[Finding]:
    for extra in combinations.extras():
        missing = [each.requirement.name for each in combinations.conflicts(combinations.requirements(extra))]
        if missing:
            detail = f"{', '.join(missing)}: not here; what needs it is refused"
            yield Finding(f"extra {extra}", "note", detail, f"pip install 'cohobate[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _torch() -> Iterator[Finding]:
    """Torch loads, and sees the GPU that the driver sees."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken build raises OSError, ImportError, RuntimeError
        detail = f"torch does not load ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        yield Finding("torch", "broken", detail, _reinstall("torch"))
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            half = "" if facts.major >= 8 else "; it computes bfloat16 slowly: set precision = 'float32'"
            yield Finding("gpu", "note" if half else "ok", f"{facts.name}, {size(facts.total_memory)}{half}")
    elif names := _driver_gpus():
        detail = (
            f"the driver sees {names}, and torch {torch.__version__} does not: it is built for processors, or older"
        )
        yield Finding(
            "gpu", "broken", detail, f"{_reinstall('torch')} --index-url https://download.pytorch.org/whl/cu130"
        )
    else:
        yield Finding("gpu", "ok", f"none; torch {torch.__version__} computes on {os.cpu_count()} processor cores")


def _reinstall(package: str) -> str:
    pinned = next(each for each in combinations.requirements() if each.name == package)
    return f"pip install --force-reinstall '{pinned.name}{pinned.specifier}'"


def _driver_gpus() -> str:
    """The GPUs that the driver lists; "" for none, or without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        command = [program, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ", ".join(line.strip() for line in done.stdout.splitlines()[:8] if line.strip())


def _vllm() -> Iterator[Finding]:
    from cohobate.teachers.vllm.install import VARIABLE, find

    command = "python3 -m venv .venv-vllm && .venv-vllm/bin/pip install 'vllm==0.32.*'"
    try:
        there = find()
    except EngineError as error:
        broken = VARIABLE in os.environ and bool(os.environ[VARIABLE])
        detail = str(error) if broken else "not here; teachers and rollouts go through transformers, which is slower"
        yield Finding("vllm", "broken" if broken else "note", detail, command)
        return
    facts = f"{there.name} {there.version} at {there.python}"
    if combinations.meets(Requirement(combinations.VLLM), there.version):
        yield Finding("vllm", "ok", facts)
    else:
        detail = f"{facts}, and {combinations.VLLM} is needed: {combinations.VLLM_REASON}"
        yield Finding("vllm", "note", detail, command)


def _memory() -> Iterator[Finding]:
    free = free_memory()
    little = free < _LITTLE_MEMORY
    yield Finding(
        "memory", "note" if little else "ok", f"{size(free)} free{', enough for the demo alone' if little else ''}"
    )


def _disk() -> Iterator[Finding]:
    """The data folder can be written, or made; nothing is written."""
    root = data_root().absolute()
    there = next(path for path in (root, *root.parents) if _is_there(path))
    mend = f"export {DATA}=/a/folder/that/can/be/written"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("data folder", "broken", f"{root} cannot be written: {there} is no folder of yours", mend)
        return
    free = shutil.disk_usage(there).free
    status: Status = "broken" if free < _NO_DISK else "note" if free < _LITTLE_DISK else "ok"
    yield Finding("data folder", status, f"{root}, {size(free)} free", None if status == "ok" else mend)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # below a folder that may not be entered
        return False


def _prefect(server: Server) -> Iterator[Finding]:
    shown = without_secrets(server.url)
    if not _has_port(server.url):
        detail = f"{shown} is no address of a server"
        yield Finding("prefect server", "broken", detail, "unset PREFECT_API_URL PREFECT_SERVER_API_PORT")
    elif _answers_as_prefect(server.url):
        yield Finding("prefect server", "ok", f"answers at {shown}")
    elif server.required:
        detail = f"PREFECT_API_URL names {shown}, and no Prefect server answers there, so that no run starts"
        yield Finding("prefect server", "broken", detail, "unset PREFECT_API_URL, or start that server")
    elif _is_taken(server.url):
        detail = f"another program than Prefect listens at {shown}, where `cohobate up` would start a server"
        yield Finding("prefect server", "note", detail, "export PREFECT_SERVER_API_PORT=4300")
    else:
        yield Finding(
            "prefect server", "ok", "none is up: `cohobate run` brings its own, `cohobate up` starts a lasting one"
        )


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).hostname is not None and urlsplit(url).port != 0
    except ValueError:
        return False


def _answers_as_prefect(url: str) -> bool:
    """Whether the server's health, which it tells without a password, is that of Prefect."""
    is_local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local else []))
    try:
        with opener.open(f"{url}/api/health", timeout=_SECONDS) as reply:
            return json.loads(reply.read(_LONGEST_REPLY)) is True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _is_taken(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), _SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _hub() -> Iterator[Finding]:
    """Where the Hugging Face libraries keep what they fetch, and whether they may fetch."""
    try:
        from huggingface_hub import constants
    except ImportError:  # which the packages' finding says
        return
    folder = Path(constants.HF_HUB_CACHE)
    count = sum(path.is_dir() for path in folder.glob("*--*")) if folder.is_dir() else 0
    facts = f"{count} repositories in {folder}, {'offline (HF_HUB_OFFLINE)' if constants.HF_HUB_OFFLINE else 'online'}"
    yield Finding(
        "hugging face", "ok", f"{facts}; recipes name folders: hf download OWNER/NAME --local-dir models/NAME"
    )
