"""Datasets of the Hugging Face Hub, and folders that its datasets library reads: `hf:OWNER/NAME`, `hf:FOLDER`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Hub
from cohobate.core.errors import QuestionsError
from cohobate.sources.base import NumberedRow, Part

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "hf:"


def identity(path: str, hub: Hub) -> dict[str, Any]:
    """The full commit where the recipe gives one, else the hash of the content, for which the dataset is loaded."""
    if hub.revision and re.fullmatch(r"[0-9a-f]{40}", hub.revision) and not _folder(path):
        return {"commit": hub.revision, "config": hub.config, "split": hub.split}
    return {"revision": hub.revision, "content": _content_hash(_load(path, hub))}


def part(path: str, hub: Hub) -> Part:
    """The dataset as a source of rows. Raises QuestionsError when it cannot be loaded."""

    def read() -> Iterator[NumberedRow]:
        from cohobate.sources.parquet import numbered, say_left_out

        dataset = _load(path, hub)
        say_left_out(dataset.features.arrow_schema, path)
        return numbered(_batches(dataset), path)

    return Part(path, "row", read)


def _folder(path: str) -> Path | None:
    folder = Path(path.removeprefix(PREFIX))
    return folder if folder.is_dir() else None


def _load(path: str, hub: Hub) -> Any:
    """A datasets.Dataset, mapped into memory rather than read into it."""
    try:
        import datasets
    except ImportError:
        raise QuestionsError(
            f"{path} needs the datasets library, which is not installed; pip install 'cohobate[hf]'"
        ) from None
    datasets.disable_progress_bars()
    folder = _folder(path)
    try:
        if folder is not None and (folder / "state.json").exists() | (folder / "dataset_dict.json").exists():
            return _saved(datasets.load_from_disk(str(folder)), path, hub.split)
        name = path.removeprefix(PREFIX) if folder is None else str(folder)
        return datasets.load_dataset(name, hub.config, split=hub.split, revision=None if folder else hub.revision)
    except QuestionsError:
        raise
    except Exception as error:  # the library, the Hub's client and the network each have their own kinds
        raise _refusal(path, error) from None


def _saved(loaded: Any, path: str, split: str) -> Any:
    """One split of a dataset saved by save_to_disk."""
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise QuestionsError(f"{path} has no split '{split}' (it has: {', '.join(loaded)}); set questions.hf.split")
    return loaded[split]


def _refusal(path: str, error: Exception) -> QuestionsError:
    reason = " ".join(str(error).strip().split("\n")[0].split())[:300] or type(error).__name__
    if "config" in reason.lower():
        remedy = "set questions.hf.config"
    elif "split" in reason.lower():
        remedy = "set questions.hf.split"
    else:
        remedy = (
            "correct the name, log in with `hf auth login` where it is gated, or give a local folder as hf:FOLDER "
            "where there is no network"
        )
    return QuestionsError(f"{path} cannot be loaded ({reason.rstrip('.')}); {remedy}")


def _batches(dataset: Any) -> Iterator[pa.Table]:
    from cohobate.sources.arrow_rows import BATCH, readable

    names = readable(dataset.features.arrow_schema)
    shown = dataset.select_columns(names).with_format("arrow")
    yield from shown.iter(batch_size=BATCH)


def _content_hash(dataset: Any) -> str:
    """sha256 over names and values in one layout, which does not depend on the files that they come from."""
    digest = hashlib.sha256()
    for table in _batches(dataset):
        batch = table.replace_schema_metadata(None).combine_chunks().to_batches()[0]
        digest.update(batch.schema.serialize())
        digest.update(batch.serialize())
    return digest.hexdigest()
