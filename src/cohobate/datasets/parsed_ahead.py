"""Responses that are taken apart while the teacher is asked, in the time in which there is nothing but to wait."""

from __future__ import annotations

from typing import NamedTuple

from cohobate.core.answer_forms import WHOLE
from cohobate.core.answer_parsing import Parsed, parse
from cohobate.teachers.base import Batch, Response

# Of the texts that are kept; the others are taken apart when their rows are made.
_MOST_CHARACTERS = 1 << 22


class _Ahead(NamedTuple):
    text: str
    reasoning: str | None
    parsed: Parsed


class ParsedAhead:
    """The parts of responses with answers of the form `form`, of the first few megabytes of them."""

    def __init__(self, form: str | None) -> None:
        self.form = form
        self._characters = 0
        self._of_key: dict[str, _Ahead] = {}

    def add(self, batch: Batch) -> None:
        """Take the responses of a batch apart."""
        if self.form not in (None, WHOLE):  # what users write may take long, and the next batch waits to be stored
            return
        for item in batch:
            if isinstance(item, Response) and self._characters < _MOST_CHARACTERS:
                self._characters += len(item.text) + len(item.reasoning or "")
                parsed = parse(item.text, item.reasoning, form=self.form)
                self._of_key[item.key] = _Ahead(item.text, item.reasoning, parsed)

    def parse(self, key: str, text: str, reasoning: str | None) -> Parsed:
        """The parts of a stored response; `key` may have another one, which came first. Raises RecipeError."""
        ahead = self._of_key.pop(key, None)
        if ahead is not None and (ahead.text, ahead.reasoning) == (text, reasoning):
            return ahead.parsed
        return parse(text, reasoning, form=self.form)
