"""Whether the model that replied is the one that was asked for: a balancer that mixes models would spoil a dataset."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from cohobate.config import Teacher
from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint.wire import ReplyError

_LONGEST_NAME = 300
_MONTH, _DAY, _YEAR = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])", r"(?:20[2-9]\d)"
# Suffixes of the same model: latest, a date in one of the providers' forms (2024-08-06, 20240806, 0613, 2507,
# 08-2024), a version such as 001 or v1:0, or the form of its file. Not -mini, -turbo, -32k, -8b, .5: those are others.
_SNAPSHOT = re.compile(
    rf"[-@:._]?latest|[-@:]?v\d(?::\d)?|\.gguf"
    rf"|[-@:_](?:{_YEAR}-{_MONTH}-{_DAY}|{_YEAR}{_MONTH}{_DAY}|{_MONTH}{_DAY}|2[2-9]{_MONTH}|{_MONTH}-{_YEAR}|0\d\d)"
)


def served_name(payload: dict[str, Any], teacher: Teacher) -> str | None:
    """The model's name in a reply; None where there is none. Raises ReplyError where it is another model's."""
    name = payload.get("model")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise ReplyError("MalformedReply", f"its model is no name: {one_line(name)[:80]}")
    refuse_other_model(name, teacher)
    return name


def refuse_other_model(served: str, teacher: Teacher) -> None:
    """Raise ReplyError where `served` is another model than that of `teacher`."""
    if not is_same_model(served, teacher.served_as or teacher.model):
        raise ReplyError("WrongModel", f"asked for '{teacher.model}', but '{one_line(served)}' answered")


@lru_cache
def is_same_model(served: str, expected: str) -> bool:
    """Whether the names differ by upper case, leading folders, or the suffix of a snapshot alone."""
    name, own = served.lower(), expected.lower()
    return _without_folders(name, own) or _without_folders(name, own.removesuffix("-latest"))


def _without_folders(name: str, own: str) -> bool:
    forms = [own, *([own.rpartition("/")[2]] if "/" not in name else [])]
    return any(_is_snapshot(name, form) or _is_snapshot(_tail(name, form), form) for form in forms)


def _tail(name: str, form: str) -> str:
    """The last folders of `name`, as many as `form` has."""
    return "/".join(name.split("/")[-1 - form.count("/") :])


def _is_snapshot(name: str, own: str) -> bool:
    rest = name.removeprefix(own)
    return bool(own) and name.startswith(own) and (not rest or _SNAPSHOT.fullmatch(rest) is not None)
