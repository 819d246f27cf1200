"""A file at an address (https://, s3://, gs://, ...): fetched once by fsspec, and again only when it has changed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from cohobate.core import progress
from cohobate.core.atomic_files import replacing
from cohobate.core.errors import DamagedFileError, QuestionsError
from cohobate.core.fingerprint import hash_file, hash_value
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.store.artifacts import data_root

_BLOCK = 1 << 20
# The fields in which file systems give the version of a file.
_VERSION_FIELDS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "md5Hash", "checksum", "size", "name")
_CONTENT = "sha256 of the copy"
_DECISIVE = set(_VERSION_FIELDS) - {"size", "name"}


def is_address(path: str) -> bool:
    """Whether `path` is an address rather than a path of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", path) is not None


def fetch(address: str) -> Path:
    """A local copy. Raises QuestionsError when the address cannot be read."""
    try:
        import fsspec

        system, inside = fsspec.core.url_to_fs(address)
        facts = system.info(inside)
    except ImportError as error:
        raise QuestionsError(f"{address} needs another package ({error}); install it, or fetch the file") from None
    except Exception as error:  # each file system has its own kinds
        raise _unreachable(address, error) from None
    version = {name: str(facts[name]) for name in _VERSION_FIELDS if facts.get(name) is not None}
    return _copy(system, inside, address, version)


def _copy(system: Any, inside: str, address: str, version: dict[str, str]) -> Path:
    folder = data_root() / "downloads" / hash_value(address)[:16]
    target, note = folder / PurePosixPath(urlsplit(address).path).name, folder / "marks.json"
    if _DECISIVE & version.keys() and target.is_file() and _is_whole(target, note, version):
        return target
    note.unlink(missing_ok=True)
    try:
        with replacing(target) as temporary, system.open(inside, "rb") as source, temporary.open("wb") as copy:
            while block := source.read(_BLOCK):
                copy.write(block)
    except Exception as error:
        raise _unreachable(address, error) from None
    write_sealed_json(note, {**version, _CONTENT: hash_file(target)})
    return target


def _is_whole(target: Path, note: Path, version: dict[str, str]) -> bool:
    """Whether the copy is of this version, and as it was fetched; an altered one is reported, and fetched again."""
    try:
        noted = read_sealed_json(note, unsealed=True)
    except DamagedFileError:
        return False
    content = noted.pop(_CONTENT, None)
    if noted != version:
        return False
    if content is not None and content != hash_file(target):  # notes of earlier versions have none
        progress.say(f"{target} was altered after it was fetched, and is fetched again")
        return False
    return True


def _unreachable(address: str, error: Exception) -> QuestionsError:
    reason = str(error.__cause__ or error).strip().split("\n")[0] or type(error).__name__
    return QuestionsError(f"{address} cannot be fetched ({reason}); correct questions.path, or look at the network")
