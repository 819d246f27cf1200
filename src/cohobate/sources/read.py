"""The questions of a recipe, and their identity, by the kind of source.

To add a kind of source: two functions and a line in `SOURCES` here, and its name in `Questions.source` of
config/questions.py. A new format of question files is added in readers.py; a source of another package, or of the
user, is a function (function.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohobate.config import Documents, Questions
from cohobate.core.errors import QuestionsError
from cohobate.sources import files
from cohobate.sources.hub import PREFIX

if TYPE_CHECKING:
    from cohobate.sources.table import QuestionTable

_FILE_SETTINGS = ("source", "columns", "split", "seed", "gold_after", "repeated", "unsupported", "system", "licence")
# Raise it when the same rows of files give other questions.
_FILE_VERSION = 3
_WORLD_SPLITS = ("train", "fresh", "validation", "test", "hard")
_WORLD_SETTINGS = {"source", *_WORLD_SPLITS, "min_depth", "max_depth", "hard_depth", "story", "seed"}


@dataclass(frozen=True)
class Source:
    """A kind of source: `identity` gives the settings and the content that change its questions, never a place."""

    identity: Callable[[Questions], dict[str, Any]]
    read: Callable[[Questions], QuestionTable]


def identity(config: Questions) -> dict[str, Any]:
    """The settings and the content that change the questions. Raises QuestionsError when the source is not there."""
    return _source(config).identity(config)


def read(config: Questions) -> QuestionTable:
    """The questions. Raises QuestionsError for a source that cannot be read or used."""
    return _source(config).read(config)


def _source(config: Questions) -> Source:
    return _FUNCTION if config.is_function else SOURCES[config.source]


def _world_identity(config: Questions) -> dict[str, Any]:
    system = {"system": config.system} if config.system else {}
    return {name: value for name, value in config.identity().items() if name in _WORLD_SETTINGS} | system


def _world(config: Questions) -> QuestionTable:
    from cohobate.core.conversation import Conversation
    from cohobate.sources.mapping import with_conversation
    from cohobate.sources.table import QuestionTable, frame_of
    from cohobate.sources.world.splits import generate

    counts = {name: getattr(config, name) for name in _WORLD_SPLITS}
    try:
        questions = list(generate(config, counts))
    except ValueError as error:
        raise QuestionsError(f"{error}; lower the count or widen the depths") from None
    if not questions:
        raise QuestionsError("the recipe asks for no questions: every count in [questions] is 0")
    system = config.system
    return QuestionTable(
        frame_of([with_conversation(each, Conversation.of_text(each.text), system) for each in questions])
    )


def _file_identity(config: Questions) -> dict[str, Any]:
    path, values = config.path or "", config.identity()
    settings = {**{name: values[name] for name in _FILE_SETTINGS}, "version": _FILE_VERSION}
    if path.startswith(PREFIX):
        from cohobate.sources import hub

        return {**settings, "hf": hub.identity(path, config.hf)}
    return {**settings, "content": files.find_tables(path).identity()}


def _file(config: Questions) -> QuestionTable:
    from cohobate.sources.table import collect

    path = config.path or ""
    if path.startswith(PREFIX):
        from cohobate.sources import hub

        parts = [hub.part(path, config.hf)]
    else:
        parts = files.parts(files.find_tables(path))
    return collect(parts, config, path)


def _function_identity(config: Questions) -> dict[str, Any]:
    from cohobate.sources import function

    values = config.identity()
    settings = {name: values[name] for name in (*_FILE_SETTINGS, "options")}
    return {**settings, "version": _FILE_VERSION, "function": function.identity(config)}


def _function(config: Questions) -> QuestionTable:
    from cohobate.sources import function
    from cohobate.sources.table import collect

    return collect([function.part(config)], config, config.source)


def _documents_identity(config: Questions) -> dict[str, Any]:
    values = config.identity()
    settings = {name: values[name] for name in ("source", "documents", "licence")}
    settings["content"] = files.find_documents(config.path or "").identity()
    if config.documents.exam is not None:
        settings["exam"] = identity(_exam(config, config.documents.exam))
    return settings


def _documents(config: Questions) -> QuestionTable:
    import polars as pl

    from cohobate.sources import documents
    from cohobate.sources.table import QuestionTable

    passages = documents.questions(files.find_documents(config.path or ""), config.documents)
    if config.documents.exam is None:
        return passages
    exam = read(_exam(config, config.documents.exam)).questions
    if in_training := exam.filter(pl.col("split").is_in(["train", "fresh"])).height:
        raise QuestionsError(
            f"the exam {config.documents.exam} has a split column that gives {in_training} of its questions to "
            "training; make them test or validation, or rename the column, and all are test"
        )
    return QuestionTable(pl.concat([passages.questions, exam]), passages.repeated)


def _exam(config: Questions, path: str) -> Questions:
    """The file of test questions about the documents."""
    test = {"train": 0.0, "fresh": 0.0, "validation": 0.0, "test": 1.0}
    changes: dict[str, Any] = {"source": "file", "path": path, "split": test, "documents": Documents()}
    return Questions.model_validate({**config.model_dump(), **changes})


SOURCES = {
    "world": Source(_world_identity, _world),
    "file": Source(_file_identity, _file),
    "documents": Source(_documents_identity, _documents),
}
_FUNCTION = Source(_function_identity, _function)
