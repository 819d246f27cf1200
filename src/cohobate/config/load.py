"""Read a recipe: TOML and `--set` overrides in, a `Recipe` out, every mistake one sentence."""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from cohobate.config import Recipe
from cohobate.core.errors import RecipeError
from cohobate.core.settings import Section
from cohobate.core.shipped import shipped_path, shipped_recipes

# Characters of a name that a person gives: artifacts made of its artifacts have longer ones.
_LONGEST_NAME = 100
# Keys whose values may be the path of a file or folder.
_PATHS = ("path", "model", "tokenizer")
SomeSection = TypeVar("SomeSection", bound=Section)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at a path or of a shipped name, with `section.key=value` overrides (values as in TOML).

    Raises RecipeError with one sentence for anything wrong.
    """
    path = find_recipe(name)
    values = _anchored(_parse(path), path.parent)
    for override in overrides:
        apply(values, override)
    if "name" not in values:
        values["name"] = _name_of(path)
    recipe = make_recipe(values, f"recipe {path.name}")
    if len(recipe.name) > _LONGEST_NAME:
        raise RecipeError(
            f"recipe {path.name}: its name has {len(recipe.name)} characters, and {_LONGEST_NAME} are the most; set a "
            "shorter name = ..."
        )
    return recipe


def _anchored(values: Any, folder: Path) -> Any:
    """`values` of a recipe in `folder`, with the full paths of files that lie there.

    Other relative paths stay as they are: those of the working folder, shipped names, names of servers. A template file
    is always of the recipe's folder.
    """
    if isinstance(values, list):
        return [_anchored(each, folder) for each in values]
    if not isinstance(values, dict):
        return values
    anchored = {key: _anchored(value, folder) for key, value in values.items()}
    served = values.get("kind") == "endpoint"
    for key in _PATHS:
        name = values.get(key)
        if isinstance(name, str) and not (served and key == "model") and _lies_in(folder, name):
            anchored[key] = str((folder / name).resolve())
    if isinstance(name := values.get("template_file"), str):
        anchored["template_file"] = str(folder / name)
    return anchored


def _lies_in(folder: Path, name: str) -> bool:
    try:
        if not name or Path(name).is_absolute() or folder.resolve() == Path.cwd():
            return False
        return (folder / name).exists() or (any(sign in name for sign in "*?[") and any(folder.glob(name)))
    except (OSError, ValueError):  # no name of a file
        return False


def _name_of(path: Path) -> str:
    """The file's name as that of a recipe: accents are left out, and other characters become hyphens."""
    letters = unicodedata.normalize("NFKD", path.stem)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    if not name:
        raise RecipeError(f"recipe {path.name}: no name can be made of the file's; set name = ... in it")
    return name


def find_recipe(name: str) -> Path:
    """The file meant by a path or a shipped name."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise RecipeError(f"recipe '{name}' is a folder; give the path of a .toml file")
    shipped = shipped_path(f"recipes/{name}.toml")
    if shipped:
        return shipped
    near = _near(name, shipped_recipes())
    raise RecipeError(
        f"recipe '{name}' is neither a file nor a shipped recipe{near}; shipped are: {', '.join(shipped_recipes())}"
    )


def make_recipe(values: dict[str, Any], where: str) -> Recipe:
    """The recipe of `values`. Raises RecipeError, whose sentence `where` opens."""
    return _validated(Recipe, values, where)


def make_section(kind: type[SomeSection], values: Any, where: str) -> SomeSection:
    """A section of `values`. Raises RecipeError, whose sentence `where` opens."""
    return _validated(kind, values, where)


def _validated(kind: type[SomeSection], values: dict[str, Any], where: str) -> SomeSection:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: {sentence(error, kind)}") from None


def changed(section: SomeSection, changes: Mapping[str, Any], where: str) -> SomeSection:
    """A recipe, or a section of one, with `changes`, validated as if they had been written in its file.

    A table changes the keys that it names and leaves the others; a Section replaces the one that stood there. Raises
    RecipeError when the changes are wrong; `where` opens its sentence.
    """
    return _validated(type(section), _merged(section.model_dump(mode="json"), changes), where)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        before = values.get(key)
        merged[key] = _merged(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return merged


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path} is not UTF-8 (byte {error.start}); save it as UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path} is not valid TOML: {error}") from None
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from None


def apply(values: dict[str, Any], override: str) -> None:
    """Put a `section.key=value` override into `values`. Raises RecipeError."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: write it as section.key=value, such as opd.steps=50")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    target = values
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise RecipeError(f"--set {override}: '{part}' is a value, not a section")
    target[parts[-1]] = value


def sentence(error: ValidationError, kind: type[BaseModel] = Recipe) -> str:
    """The first problem of values for `kind` in words, and how many more there are."""
    # A misspelt key often makes another one missing, and is what to put right.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        siblings = _fields_at(kind, first["loc"][:-1])
        return f"unknown key '{where}'{_near(str(first['loc'][-1]), siblings, where)}{more}"
    if first["type"] == "missing":
        return f"'{where}' is missing; set it{more}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if first["type"] == "value_error":
        return f"{where + ': ' if where else ''}{message}{more}"
    value = "not shown" if "key" in where else repr(first["input"])
    return f"'{where}' is {value}, but {_requirement(first['type'], message, where)}{more}"


def _requirement(problem: str, message: str, where: str) -> str:
    """The requirement that was not met, in the words of a recipe."""
    if problem == "model_type":
        return f"it should be a section; write [{where}], or set its keys, such as {where}.KEY"
    if problem in ("tuple_type", "list_type"):
        return 'it should be a list, such as ["a", "b"]'
    if problem == "dict_type":
        return "it should be a table, such as {key = 1}"
    message = message[0].lower() + message[1:]
    return message.replace("input should", "it should").replace("string should", "it should")


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    for part in location:
        if isinstance(part, int):  # of a list, whose kind the field before it says
            continue
        field = model.model_fields.get(part) if _is_model(model) else None
        # A section that may be left out is annotated `Section | None`.
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((kind for kind in kinds if _is_model(kind)), None)
    fields = model.model_fields.items() if _is_model(model) else ()
    return [field.alias or name for name, field in fields]


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _near(word: str, candidates: Sequence[str], full: str = "") -> str:
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    if not matches:
        return f"; known here: {', '.join(candidates)}" if full and candidates else ""
    prefix = full[: -len(word)] if full else ""
    return f" - did you mean '{prefix}{matches[0]}'?"
