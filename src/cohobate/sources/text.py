"""The error for text files that are not UTF-8."""

from __future__ import annotations

from pathlib import Path

from cohobate.core.errors import QuestionsError


def refuse_encoding(path: Path) -> QuestionsError:
    """The error that names the first line of `path` that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return QuestionsError(
                    f"{path} is not UTF-8 (line {number}, byte {error.start} of it); save it as UTF-8 text"
                )
    return QuestionsError(f"{path} is not UTF-8; save it as UTF-8 text")
