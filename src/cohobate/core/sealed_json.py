"""JSON objects that carry the sha256 of their content (key `seal`), so that an altered byte is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cohobate.core.atomic_files import write_json_atomic
from cohobate.core.errors import DamagedFileError

_SEAL = "seal"


def write_sealed_json(path: Path, values: dict[str, Any]) -> None:
    """`values`, which has no key `seal`, as indented JSON with its seal; the file appears whole or not at all."""
    write_json_atomic(path, {**values, _SEAL: _seal(values)})


def read_sealed_json(path: Path, *, unsealed: bool = False) -> dict[str, Any]:
    """The values that were written. unsealed: a file without a seal, of an earlier version, is taken as it is.

    Raises DamagedFileError, which names the file, for one that is missing, no file, no JSON object, or altered.
    """
    values = read_json_object(path)
    seal = values.pop(_SEAL, None)
    if seal is None and unsealed:
        return values
    if seal != _seal(values):
        raise DamagedFileError(f"{path} was altered after it was written")
    return values


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, its seal included and not looked at. Raises DamagedFileError."""
    if not path.is_file():  # a pipe would be waited for without end
        raise DamagedFileError(f"{path} is missing, or no file")
    try:
        values = json.loads(path.read_bytes())
        _seal(values)  # what is nested too deeply to be written again is too deep for every reader
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError):
        raise DamagedFileError(f"{path} cannot be read as JSON") from None
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path} holds no JSON object")
    return values


def _seal(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
