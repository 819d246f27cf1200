"""What the tests with llama-cpp-python share: where it is, a GGUF file of the shipped teacher, its server."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cohobate.core.processes import Group
from cohobate.models.loading import model_path

_NAMED = "COHOBATE_LLAMA"
_SECONDS = 60.0


def python() -> Path | None:
    """Of the environment that COHOBATE_LLAMA names, which must be there, or of the one beside this one."""
    named = os.environ.get(_NAMED)
    beside = Path(sys.prefix).with_name(Path(sys.prefix).name + "-llama")
    found = Path(named or beside) / "bin" / "python"
    return found if named or found.is_file() else None


if_installed = pytest.mark.skipif(python() is None, reason="llama-cpp-python is not installed; `make llama` does it")
needs_llama = [pytest.mark.llama, if_installed]


def environment() -> dict[str, str]:
    """Without what points into our own environment, which would hide the packages of that one."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def write_gguf(file: Path) -> Path:
    """The shipped teacher."""
    command = [
        str(python()),
        str(Path(__file__).with_name("gguf_file.py")),
        str(model_path("world/teacher")),
        str(file),
    ]
    subprocess.run(command, env=environment(), check=True)
    return file


@contextmanager
def llama(file: Path, port: int, log: Path) -> Iterator[Group]:
    """The server, at `port`, until the end of the block."""
    flags = {"model": file, "model_alias": "world/teacher", "host": "127.0.0.1", "port": port, "n_ctx": 512}
    flags |= {"n_threads": 1, "n_threads_batch": 1}
    command = [str(python()), "-m", "llama_cpp.server"]
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    with Group(command, env=environment(), log=log) as group:
        deadline = time.monotonic() + _SECONDS
        while not _answers(port):
            assert not group.ended, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield group


def _answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/v1/models", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
