"""The files that a path names (one file, a folder, a glob, an address), and the identity of their content."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cohobate.core.errors import QuestionsError
from cohobate.core.fingerprint import hash_file
from cohobate.core.shipped import shipped_path
from cohobate.sources import remote
from cohobate.sources.base import Part
from cohobate.sources.readers import DOCUMENTS, TABLES, suffix

_MAGIC = set("*?[")


@dataclass(frozen=True)
class FileSet:
    """Files in order, by their names relative to the path `where` of the recipe.

    several: whether `where` names a folder or a glob, even of one file.
    """

    where: str
    files: list[tuple[str, Path]]
    several: bool

    def identity(self) -> list[Any]:
        """The hash of each file, and its name where that is kept in the rows."""
        return [[name if self.several else suffix(path), hash_file(path)] for name, path in self.files]


def parts(tables: FileSet) -> list[Part]:
    """The files as sources of rows."""
    made = []
    for name, path in tables.files:
        reader = TABLES[suffix(path)]
        label = name if tables.several else None
        made.append(Part(str(path) if tables.several else tables.where, reader.unit, partial(reader.rows, path), label))
    return made


def find_tables(path: str) -> FileSet:
    """Parquet, CSV or JSONL files. Raises QuestionsError for none, and for several formats in one folder."""
    tables = find(path, TABLES, ".parquet, .csv, .jsonl, .jsonl.gz or .jsonl.zst", "questions")
    formats = {TABLES[suffix(file)].name: name for name, file in tables.files}
    if len(formats) > 1:
        listed = " and ".join(f"{table_format} ({name})" for table_format, name in formats.items())
        raise QuestionsError(
            f"{path} holds files of several kinds: {listed}; keep one, or name it by a glob that ends in "
            f"'*{suffix(tables.files[0][1])}'"
        )
    return tables


def find_documents(path: str) -> FileSet:
    """Text and Markdown files. Raises QuestionsError when there are none."""
    documents = find(path, DOCUMENTS, ".md, .markdown or .txt", "documents")
    return replace(documents, several=True)  # the name of a single one stands in its questions too


def find(path: str, suffixes: Collection[str], listed: str, what: str) -> FileSet:
    """The files with these suffixes that `path` names, sorted by name; hidden files of a folder are left out.

    listed, what: the suffixes and the content, in messages.
    """
    if remote.is_address(path):
        file = remote.fetch(path)
        return FileSet(path, [(file.name, _require_suffix(file, path, suffixes, listed, what))], several=False)
    local = Path(path)
    if not local.exists():  # such as policy/helpdesk.jsonl, which a shipped recipe names
        local = shipped_path(path) or local
    if local.is_file():
        return FileSet(path, [(local.name, _require_suffix(local, path, suffixes, listed, what))], several=False)
    if local.is_dir():
        root, candidates = local, [file for file in local.rglob("*") if file.is_file()]
    elif _MAGIC & set(path):
        root = _root(local)
        candidates = [file for file in root.glob(str(local.relative_to(root))) if file.is_file()]
    else:
        where = "" if local.is_absolute() else f" in {Path.cwd()} or beside its recipe"
        raise QuestionsError(f"the {what} file {path} does not exist{where}; set questions.path")
    named = sorted((file.relative_to(root).as_posix(), file) for file in candidates)
    files = [(name, file) for name, file in named if suffix(file) in suffixes and not _hidden(name)]
    if not files:
        raise QuestionsError(f"{path} holds no {what}: no file there ends in {listed}; set questions.path")
    return FileSet(path, files, several=True)


def _require_suffix(file: Path, path: str, suffixes: Collection[str], listed: str, what: str) -> Path:
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
