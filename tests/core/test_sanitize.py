"""What an error says, in one line that is never empty."""

import pytest

from cohobate.core.sanitize import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such file"), "no such file"),
        (OSError("\n  no such file\nTraceback: ..."), "no such file"),
        (RuntimeError(), "RuntimeError"),
        (KeyError(), "KeyError"),
        (AssertionError(" \n "), "AssertionError"),
    ],
)
def test_the_first_line_of_an_error_is_that_of_its_message_or_its_name(error: Exception, line: str) -> None:
    assert first_line(error) == line
