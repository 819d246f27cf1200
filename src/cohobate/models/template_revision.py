"""The part of an identity that says how conversations become token ids and back, where an older rule did otherwise.

The first rules, which have no number, wrote the date of the day, left a thought that a prompt had opened without its
beginning, and lost the special tokens that carry the structure of a response. Only files of JSON are read, so that an
artifact is looked up without the libraries of models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cohobate.config import FIXED_DATE, Templated
from cohobate.models.special_tokens import THOUGHT, structure_of
from cohobate.models.thoughts import CLOSERS

_CLOCK = "strftime_now"
_THOUGHT_TAG = re.compile(rf"</?(?:{THOUGHT})>")


def template_revision(folder: Path, section: Templated | None = None) -> dict[str, Any]:
    """Of the model in `folder`, empty where every rule does the same; section: its settings in the recipe."""
    own = section.template if section is not None else None
    template = own or written_template(folder)
    return {name: value for name, value in _revisions(folder, template, section) if value}


def _revisions(folder: Path, template: str, section: Templated | None) -> Iterator[tuple[str, Any]]:
    content = _read(folder / "tokenizer.json")
    structure = structure_of(special_tokens(folder))
    # A model that marks its thoughts by special tokens has a template that writes them too.
    lost = {token for token in structure if token in template or not _THOUGHT_TAG.fullmatch(token)}
    yield "date", _CLOCK in template and (section is None or section.template_date is None) and FIXED_DATE.isoformat()
    yield "thoughts", 2 * _opens_thoughts(template)
    yield "structure", 2 * bool(lost)
    yield "first_space", 2 * _adds_a_space(json.dumps([content.get("normalizer"), content.get("pre_tokenizer")]))


def _opens_thoughts(template: str) -> bool:
    """Whether a template names a mark of thoughts: a tag, or another one that `thoughts` completes."""
    marks = (*CLOSERS, "THINKING|>")
    return _THOUGHT_TAG.search(template) is not None or any(mark in template for mark in marks)


def _adds_a_space(parts: str) -> bool:
    """Whether a tokenizer writes a space before text, by its normaliser and pre-tokenizer as JSON."""
    return any(mark in parts for mark in ('"Prepend"', '"prepend_scheme"', '"add_prefix_space": true'))


def special_tokens(folder: Path) -> set[str]:
    """The special tokens that the tokenizer's files in `folder` name."""
    added = _read(folder / "tokenizer.json").get("added_tokens")
    listed = _read(folder / "tokenizer_config.json").get("added_tokens_decoder")
    tokens = [*(added if isinstance(added, list) else []), *(listed.values() if isinstance(listed, dict) else [])]
    return {str(token["content"]) for token in tokens if isinstance(token, dict) and token.get("special")}


def written_template(folder: Path) -> str:
    """The chat templates of a folder, one behind the other; "" where there is none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    template = _read(folder / "tokenizer_config.json").get("chat_template") or ""
    return template if isinstance(template, str) else json.dumps(template)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:  # loading the model says what is wrong with it
        content = {}
    return content if isinstance(content, dict) else {}
