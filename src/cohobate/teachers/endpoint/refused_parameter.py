"""The setting of a recipe behind a parameter that a server refuses."""

from __future__ import annotations

import re
from collections.abc import Collection

from cohobate.config import Teacher
from cohobate.teachers.endpoint.fault import Fault

_STATUS = (400, 422)
_LIMITS = ("max_tokens", "max_completion_tokens")


def setting_of(fault: Fault, parameters: Collection[str], teacher: Teacher) -> str | None:
    """What to set, where `fault` refuses one of the `parameters` that were sent; None where it names none of them."""
    if fault.status not in _STATUS:
        return None
    name = _named(fault, parameters)
    if name is None:
        return None
    section, limits = teacher.section, teacher.limits_section
    if name in teacher.extra:
        return f"`{name}` comes from {section}.extra"
    if name == "chat_template_kwargs":
        return f"`{name}` comes from {section}.template_args, which this server does not take; leave them out"
    if name in _LIMITS:
        other = next(limit for limit in _LIMITS if limit != name)
        if other in fault.message:
            return f"{section}.limit_name = '{other}' sends the limit under that name"
        return f"`{name}` comes from {limits}.max_tokens"
    if name in ("top_p", "top_k"):
        return f"`{name}` comes from {limits}.{name}"
    remedy = f'{section}.omit = ["{name}"] leaves it out'
    if section == limits:  # a judge's parameters are fixed
        return remedy
    neutral = ", where it is 1.0" if name == "temperature" else ""
    return f"`{name}` comes from {limits}.{name}; {remedy}{neutral}"


def _named(fault: Fault, parameters: Collection[str]) -> str | None:
    """The parameter of a field of its own, else the first one in the message."""
    if fault.parameter in parameters:
        return fault.parameter
    places = {
        name: match.start()
        for name in parameters
        if (match := re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", fault.message))
    }
    return min(places, key=lambda name: places[name], default=None)
