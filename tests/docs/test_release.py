"""The version is said alike by the package, the citation and the changelog."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from cohobate import __version__
from tests.support import pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", pages.names())
def test_no_page_installs_cohobate_from_an_index_that_does_not_have_it(page: str) -> None:
    assert re.findall(r"pip install [^`\n]*cohobate\[", (ROOT / page).read_text()) == []


def test_the_package_of_plug_ins_lists_its_modules(tmp_path: Path) -> None:
    files = pages.files("docs/plug-ins.md")
    project = tomllib.loads(files["pyproject.toml"])
    assert project["build-system"]["build-backend"] == "setuptools.build_meta"
    assert {f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]} == files.keys() - {"pyproject.toml"}


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
