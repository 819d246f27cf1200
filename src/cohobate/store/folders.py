"""The names of folders in the store: of artifacts, and of damaged ones that were moved aside.

Recipes' names may hold hyphens, dots and the word damaged, so an artifact's folder is known by its end, the
fingerprint, with which no other name ends.
"""

from __future__ import annotations

import re
from pathlib import Path

_ARTIFACT = re.compile(r".+-[0-9a-f]{8}", re.DOTALL)
_DAMAGED = re.compile(r".+-[0-9a-f]{8}\.damaged-[0-9]{1,6}", re.DOTALL)


def is_artifact(folder: Path) -> bool:
    """Whether the name is that of an artifact."""
    return bool(_ARTIFACT.fullmatch(folder.name)) and not folder.name.startswith(".")


def is_damaged(folder: Path) -> bool:
    """Whether the name is that of a damaged artifact that was moved aside."""
    return bool(_DAMAGED.fullmatch(folder.name)) and not folder.name.startswith(".")


def lock(stage: Path, fingerprint: str) -> Path:
    """The file that whoever builds an artifact in the folder `stage` holds locked. fingerprint: or its beginning."""
    return stage / f".{fingerprint[:8]}.lock"


def split(name: str) -> tuple[str, str]:
    """The recipe's name, and the beginning of the fingerprint."""
    recipe, _, fingerprint = name.rpartition("-")
    return recipe, fingerprint
