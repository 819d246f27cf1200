"""Marks of thoughts in a template are part of an identity; a plain template adds nothing."""

from pathlib import Path

import pytest

from cohobate.models.template_revision import template_revision


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages[0].content }}", {}),
        ("{{ messages[0].content }}<think>", {"thoughts": 2}),
        ("{{ messages[0].content }}[THINK]", {"thoughts": 2}),
        ("{{ messages[0].content }}<|END_THINKING|>", {"thoughts": 2}),
        ("{{ messages[0].content }}<|think|>", {"thoughts": 2}),
        ("{{ messages[0].content }}<|begin_of_thought|>", {"thoughts": 2}),
    ],
)
def test_a_template_that_names_a_mark_of_thoughts_is_revised(
    template: str, expected: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    assert template_revision(tmp_path) == expected
