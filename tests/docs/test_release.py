"""The version is said alike by the package, the citation and the changelog."""

import re
import tomllib
from pathlib import Path

import yaml

from cohobate import __version__

ROOT = Path(__file__).parents[2]


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]
    # What the format 1.2.0 requires.
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_changelog_has_the_version_and_keeps_to_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[([^\]]+)\](.*)$", text, re.MULTILINE)
    assert __version__ in [name for name, _ in versions] or f"to become {__version__}" in versions[0][1]
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert kinds
    assert {*kinds} <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
