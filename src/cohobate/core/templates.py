"""Jinja templates of pages and cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def environment(
    package: str, filters: Mapping[str, Callable[..., Any]], *, keep_trailing_newline: bool = False
) -> Environment:
    """The templates below `package`/templates; HTML is escaped, Markdown is not, and a missing value is an error."""
    templates = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(["html.j2", "html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
    )
    templates.filters |= filters
    return templates
