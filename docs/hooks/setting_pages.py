"""A page for each section of a recipe, made of the models in cohobate.config: every setting, its type, its default."""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cohobate.config import Recipe
from cohobate.core.settings import EXECUTION

FOLDER = "reference/settings"
PLAIN: dict[Any, str] = {str: "text", bool: "true or false", float: "number", int: "whole number"}
OPENING = "Written from the recipe's models when this site is built."


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, below the entry `Settings`."""
    for group in config.nav or []:
        for entry in next(iter(group.values())) if isinstance(group, dict) else []:
            if isinstance(entry, dict) and entry.get("Settings") == []:
                entry["Settings"] = [f"{FOLDER}/index.md", *(f"{FOLDER}/{name}.md" for name in _sections())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder docs."""
    pages = {"index": _index(), **{name: _page(name, model) for name, model in _sections().items()}}
    for name, content in pages.items():
        files.append(File.generated(config, f"{FOLDER}/{name}.md", content=content))
    return files


def _sections() -> dict[str, type[BaseModel]]:
    models = {name: _model(field.annotation) for name, field in Recipe.model_fields.items()}
    return {name: model for name, model in models.items() if model is not None}


def _index() -> str:
    own = {name: field for name, field in Recipe.model_fields.items() if _model(field.annotation) is None}
    links = (f"| [`[{name}]`]({name}.md) | {_cell(_doc(model))} |" for name, model in _sections().items())
    return "\n".join(
        [
            "# Settings",
            "",
            f"{OPENING} A recipe says only what differs from the defaults. `--set section.key=value` changes one for a "
            "run.",
            "",
            "Settings with a `no` in the last column say how the work is done. They change no artifact: what was made "
            "is found again.",
            "",
            "| section | what it holds |",
            "| --- | --- |",
            *links,
            "",
            "## Keys of the recipe itself",
            "",
            *_table(Recipe, own, ""),
        ]
    )


def _page(name: str, model: type[BaseModel]) -> str:
    return "\n".join([f"# [{name}]", "", OPENING, "", *_part(name, model, seen=())])


def _part(path: str, model: type[BaseModel], seen: tuple[type[BaseModel], ...]) -> Iterator[str]:
    """Lines about a section: its description, its settings, and then the sections inside it."""
    yield from (_doc(model), "")
    inner = {name: (field, _model(field.annotation)) for name, field in model.model_fields.items()}
    yield from _table(model, model.model_fields, f"{path}.")
    for name, (field, below) in inner.items():
        if below is not None and below not in seen:
            of_many = any(get_origin(each) is dict for each in _flat(field.annotation))
            key = f"{path}.{name}.NAME" if of_many else f"{path}.{name}"
            yield from ("", f"## [{key}]", "")
            yield from _part(key, below, (*seen, model))


def _table(model: type[BaseModel], fields: dict[str, FieldInfo], prefix: str) -> Iterator[str]:
    docs = _field_docs(model)
    yield "| setting | type | default | what it is | changes artifacts |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in fields.items():
        key = f"{prefix}{name}"
        text = docs.get(name) or field.description or _doc(_model(field.annotation))
        kept = "no" if EXECUTION in field.metadata else "yes"
        anchor = f'<a id="{key}"></a>'
        yield f"| {anchor}`{key}` | {_cell(_type(field))} | {_cell(_default(field))} | {_cell(text)} | {kept} |"


def _type(field: FieldInfo) -> str:
    return _kind(field.annotation, tuple(field.metadata))


def _kind(annotation: Any, limits: tuple[Any, ...] = ()) -> str:
    """A type in words: `Annotated[int, Ge(1)] | None` is "whole number of 1 or more; may be left out"."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, (*_limits_of(more), *limits))
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [_kind(each, limits) for each in get_args(annotation) if each is not type(None)]
        return " or ".join(kinds) + ("; may be left out" if type(None) in get_args(annotation) else "")
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in get_args(annotation))
    if get_origin(annotation) in (list, tuple):
        kinds = list(dict.fromkeys(_kind(each) for each in get_args(annotation) if each is not ...))
        return f"list of {' and '.join(kinds)}"
    if get_origin(annotation) is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    name = PLAIN.get(annotation, getattr(annotation, "__name__", "value"))
    return name + _bounds(limits)


def _limits_of(metadata: list[Any]) -> list[Any]:
    return [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _bounds(limits: tuple[Any, ...]) -> str:
    words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    bounds = [
        text.format(format(getattr(limit, name), "g"))
        for limit in limits
        for name, text in words.items()
        if isinstance(getattr(limit, name, None), (int, float))
    ]
    return f", {', '.join(bounds)}" if bounds else ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "must be set"
    if value is PydanticUndefined or value is None:
        return "not set"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, list | tuple) and any(isinstance(each, BaseModel) for each in value):
        return "those of the embedded world"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _flat(annotation: Any) -> Iterator[Any]:
    """The annotation and the types inside it."""
    yield annotation
    for part in get_args(annotation):
        yield from _flat(part)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a setting holds, if it holds one."""
    models = (each for each in _flat(annotation) if isinstance(each, type) and issubclass(each, BaseModel))
    return next(models, None)


def _doc(model: type[BaseModel] | None) -> str:
    return inspect.cleandoc(model.__doc__ or "") if model else ""


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The string below each setting, as it stands in the source of the model and of those it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("cohobate"):
            docs |= _strings_below_fields(ast.parse(inspect.getsource(base)).body)
    return docs


def _strings_below_fields(source: list[ast.stmt]) -> dict[str, str]:
    docs = {}
    for kind in source:
        for field, text in pairwise(kind.body if isinstance(kind, ast.ClassDef) else []):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[name] = inspect.cleandoc(doc)
    return docs


def _cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
