"""The site builds without a warning, leads nowhere else, and its reference names what recipes and commands take."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
from pydantic import BaseModel

from cohobate.cli.main import COMMANDS, GROUPS
from cohobate.config import Recipe
from cohobate.config.load import load_recipe

pytestmark = pytest.mark.serves

# Elements whose address is fetched while a page is read; that of a link is for the reader to follow.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class Links(HTMLParser):
    """The addresses that a page leads to, those that it fetches, and the places in it that can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag == "a" and (href := values.get("href")):
            self.links.append(href)
        if address := values.get(FETCHED.get(tag, "")):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_and_anchor_inside_the_site_leads_somewhere(pages: dict[Path, Links], site: Path) -> None:
    lost, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            if target not in pages or (parts.fragment and unquote(parts.fragment) not in pages[target].places):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []
    assert followed > 1000


def test_a_page_fetches_nothing_from_the_network(pages: dict[Path, Links], site: Path) -> None:
    fetched = {path: page.fetched for path, page in pages.items()}
    assert all(fetched.values())
    missing = [
        address
        for path, addresses in fetched.items()
        for address in addresses
        if urlsplit(address).netloc or not (path.parent / urlsplit(address).path).exists()
    ]
    assert missing == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert [text for text in styles if "url(http" in text or "@import" in text] == []


def keys(value: object, path: str = "") -> list[str]:
    """The settings of a recipe as they are written in one: opd.length.target."""
    if not isinstance(value, BaseModel):
        return [path]
    return [key for name in type(value).model_fields for key in keys(getattr(value, name), f"{path}.{name}".strip("."))]


@pytest.mark.parametrize("recipe", ["tiny", "compare", "handbook", "oneprompt", "helpdesk"])
def test_the_reference_has_a_place_for_every_setting(recipe: str, pages: dict[Path, Links], site: Path) -> None:
    places = set().union(*(page.places for path, page in pages.items() if path.parent == site / "reference/settings"))
    assert set(keys(load_recipe(recipe))) - places == set()
    assert {name for name in Recipe.model_fields if name not in places} == set()


def test_the_reference_has_every_command_with_its_options(site: Path) -> None:
    text = (site / "reference/commands.html").read_text()
    names = [*COMMANDS, *(f"{group} {name}" for group, (_, commands) in GROUPS.items() for name in commands)]
    assert [name for name in names if f">cohobate {name}<" not in text] == []
    from cohobate.cli.main import app

    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert [
        option for each in run.params for option in each.opts if option.startswith("-") and option not in text
    ] == []
