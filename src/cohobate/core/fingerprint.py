"""Fingerprints: the sha256 of everything that changes the data, in one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN and infinity are refused."""
    return _encode(value).encode("utf-8")


def hash_value(value: Any) -> str:
    """sha256 of the canonical form, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def artifact_fingerprint(stage: str, version: int, identity: dict[str, Any], parents: Sequence[str]) -> str:
    """The identity of an artifact: its stage, the stage's code version, its settings, its parents' identities."""
    return hash_value({"stage": stage, "version": version, "identity": identity, "parents": list(parents)})


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_folder(folder: Path) -> str:
    """sha256 over the relative names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_value([[path.relative_to(folder).as_posix(), hash_file(path)] for path in files])
