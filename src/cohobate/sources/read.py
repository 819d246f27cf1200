"""The questions of a recipe, and what identifies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.config import Documents, Questions
from cohobate.core.errors import QuestionsError
from cohobate.sources import files
from cohobate.sources.hub import PREFIX

if TYPE_CHECKING:
    from cohobate.sources.table import Read

_TABLE = ("source", "columns", "split", "seed", "gold_after", "repeated", "licence")


def identity(config: Questions) -> dict[str, Any]:
    """What changes the questions of files and documents: settings and content, never a place.

    Raises QuestionsError when the source is not there.
    """
    path, given = config.path or "", config.identity()
    if config.source == "documents":
        settings = {name: given[name] for name in ("source", "documents", "licence")}
        settings["content"] = files.find_documents(path).identity()
        if config.documents.exam is not None:
            settings["exam"] = identity(_exam(config, config.documents.exam))
        return settings
    settings = {name: given[name] for name in _TABLE}
    if path.startswith(PREFIX):
        from cohobate.sources import hub

        return {**settings, "hf": hub.identity(path, config.hf)}
    return {**settings, "content": files.find_tables(path).identity()}


def read(config: Questions) -> Read:
    """The questions of files or documents. Raises QuestionsError for whatever is wrong with them."""
    from cohobate.sources.table import collect

    if config.source == "documents":
        return _documents(config)
    path = config.path or ""
    if path.startswith(PREFIX):
        from cohobate.sources import hub

        parts = [hub.part(path, config.hf)]
    else:
        parts = files.parts(files.find_tables(path))
    return collect(parts, config, path)


def _documents(config: Questions) -> Read:
    import polars as pl

    from cohobate.sources import documents
    from cohobate.sources.table import COLUMNS, Read

    passages = documents.questions(files.find_documents(config.path or ""), config.documents)
    if config.documents.exam is None:
        return passages
    exam = read(_exam(config, config.documents.exam)).questions
    if learnt := exam.filter(pl.col("split").is_in(["train", "fresh"])).height:
        raise QuestionsError(
            f"the exam {config.documents.exam} has a split column that gives {learnt} of its questions to training; "
            "make them test or validation, or rename the column, and all are test"
        )
    return Read(pl.concat([passages.questions, exam.select(COLUMNS)]), passages.repeated)


def _exam(config: Questions, path: str) -> Questions:
    """The questions file on which those who learnt the documents are examined."""
    test = {"train": 0.0, "fresh": 0.0, "validation": 0.0, "test": 1.0}
    changes: dict[str, Any] = {"source": "file", "path": path, "split": test, "documents": Documents()}
    return Questions.model_validate({**config.model_dump(), **changes})
