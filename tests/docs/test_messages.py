"""What the documents quote of the program is what the program says."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import pages

ROOT = Path(__file__).parents[2]
# Stands in a quotation for what is another thing each time; so short a piece between two of them says nothing.
GAP, SHORTEST = "…", 8


def texts() -> Iterator[str]:
    """The strings in the program, of formatted ones the pieces between two values; blanks as single spaces."""
    for folder in ("src/cohobate", "tasks", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield " ".join(node.value.split())


@cache
def program() -> str:
    """All of them, one a line."""
    return "\n".join(texts())


@pytest.mark.parametrize("page", [page for page in pages.names() if pages.quotations(page)])
def test_each_message_that_a_page_quotes_is_in_the_program(page: str) -> None:
    parts = {part.strip(): quote for quote in pages.quotations(page) for part in quote.strip("`").split(GAP)}
    told = {part: quote for part, quote in parts.items() if len(part) >= SHORTEST}
    assert told
    assert {part: quote for part, quote in told.items() if part not in program()} == {}


def test_a_message_that_the_program_does_not_say_is_seen() -> None:
    assert "is neither a file nor a shipped recipe" in program()
    assert "is neither a folder nor a shipped recipe" not in program()


def test_the_page_of_symptoms_quotes_messages() -> None:
    assert len(pages.quotations("docs/how-to/troubleshooting.md")) >= 20
