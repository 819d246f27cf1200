"""Which files a path means: one file, a folder, a glob, or an address; and what identifies their content."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cohobate.core.errors import QuestionsError
from cohobate.core.fingerprint import hash_file
from cohobate.core.shipped import shipped_path
from cohobate.sources import remote
from cohobate.sources.base import Part

_KINDS = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".jsonl.gz": "JSONL",
    ".jsonl.zst": "JSONL",
}
_DOCUMENTS = (".md", ".markdown", ".txt")
_MAGIC = set("*?[")


@dataclass(frozen=True)
class Found:
    """Files in order, with their names relative to what the user named; `several` even if it held one file."""

    where: str
    files: list[tuple[str, Path]]
    several: bool

    def identity(self) -> list[Any]:
        """What the files hold, and what they are called where that is kept in the rows."""
        return [[name if self.several else suffix(path), hash_file(path)] for name, path in self.files]


def parts(found: Found) -> list[Part]:
    """The files as sources of rows."""
    from cohobate.sources import csv, jsonl, parquet

    readers = {"Parquet": parquet.rows, "CSV": csv.rows, "JSONL": jsonl.rows}
    made = []
    for name, path in found.files:
        kind = _KINDS[suffix(path)]

        def read(path: Path = path, kind: str = kind) -> Any:
            return readers[kind](path)

        shown = f"{found.where}" if not found.several else str(path)
        made.append(Part(shown, "line" if kind == "JSONL" else "row", read, name if found.several else None))
    return made


def find_tables(path: str) -> Found:
    """Parquet, CSV or JSONL files. Raises QuestionsError for none, and for several kinds in one folder."""
    found = find(path, _KINDS, ".parquet, .csv, .jsonl, .jsonl.gz or .jsonl.zst", "questions")
    kinds = {_KINDS[suffix(file)]: name for name, file in found.files}
    if len(kinds) > 1:
        named = " and ".join(f"{kind} ({name})" for kind, name in kinds.items())
        raise QuestionsError(
            f"{path} holds files of several kinds: {named}; keep one, or name it by a glob that ends in "
            f"'*{suffix(found.files[0][1])}'"
        )
    return found


def find_documents(path: str) -> Found:
    """Text and Markdown files. Raises QuestionsError when there are none."""
    found = find(path, _DOCUMENTS, ".md, .markdown or .txt", "documents")
    return replace(found, several=True)  # the name of a single one stands in its questions too


def find(path: str, suffixes: Collection[str], listed: str, what: str) -> Found:
    """The files of these suffixes that `path` means, sorted by name; hidden ones are no part of a folder."""
    if remote.is_address(path):
        file = remote.fetch(path)
        return Found(path, [(file.name, _known(file, path, suffixes, listed, what))], several=False)
    given = Path(path)
    if not given.exists():  # such as policy/helpdesk.jsonl, which a shipped recipe names
        given = shipped_path(path) or given
    if given.is_file():
        return Found(path, [(given.name, _known(given, path, suffixes, listed, what))], several=False)
    if given.is_dir():
        root, candidates = given, [file for file in given.rglob("*") if file.is_file()]
    elif _MAGIC & set(path):
        root = _root(given)
        candidates = [file for file in root.glob(str(given.relative_to(root))) if file.is_file()]
    else:
        raise QuestionsError(f"the {what} file {path} does not exist; set questions.path")
    named = sorted((file.relative_to(root).as_posix(), file) for file in candidates)
    files = [(name, file) for name, file in named if suffix(file) in suffixes and not _hidden(name)]
    if not files:
        raise QuestionsError(f"{path} holds no {what}: no file there ends in {listed}; set questions.path")
    return Found(path, files, several=True)


def suffix(path: Path) -> str:
    """The ending in lower case, with that before a compression's."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last in (".gz", ".zst") else last


def _known(file: Path, path: str, suffixes: Collection[str], listed: str, what: str) -> Path:
    if suffix(file) not in suffixes:
        raise QuestionsError(f"{path} ends in '{suffix(file)}'; {what} come from {listed}")
    return file


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _root(pattern: Path) -> Path:
    """The folder above the first part that has a wildcard."""
    fixed: list[str] = []
    for part in pattern.parts:
        if _MAGIC & set(part):
            break
        fixed.append(part)
    return Path(*fixed)
