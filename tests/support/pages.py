"""The pages of the documents as a reader takes them: blocks, settings, quoted messages, and commands to type."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
# Alternatives and what may be left out, as the README writes them: ` [--until sft]`.
_OPTIONAL = re.compile(r"(?<= )\[([^\]]*)\](?= |$)")


@dataclass(frozen=True)
class Block:
    """A block of code. title: the file that it is to be saved as, where it says so."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line that begins with `cohobate`. typed: it stands in a block, and not in a sentence."""

    page: str
    line: int
    words: tuple[str, ...]
    typed: bool

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def names() -> list[str]:
    """The pages: documents, and those of the repository's folders."""
    documents = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [*documents, "README.md", "CONTRIBUTING.md", "benchmarks/README.md"]


@cache
def _tokens(page: str) -> list[Token]:
    return MarkdownIt().enable("table").parse((ROOT / page).read_text())


def blocks(page: str) -> list[Block]:
    """Blocks of code, fenced and indented."""
    found = []
    for token in _tokens(page):
        if token.type in ("fence", "code_block"):
            title = re.search(r'title="([^"]*)"', token.info)
            language = token.info.split(" ")[0]
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page, line, language, title[1] if title else "", token.content))
    return found


def quotations(page: str) -> list[str]:
    """The texts of quoted paragraphs."""
    found, depth = [], 0
    for token in _tokens(page):
        depth += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if depth and token.type == "inline":
            found.append(" ".join(token.content.split()))
    return found


def files(page: str) -> dict[str, str]:
    """The files that a page has its reader save, by name."""
    return {block.title: block.text for block in blocks(page) if block.title}


def known_files(page: str) -> list[str]:
    """The files that a reader has by then: those of the page, and the recipes that its `cohobate init` writes."""
    written = [word for c in commands(page) if c.words[1] == "init" for word in c.words if word.endswith(".toml")]
    return [*files(page), *(written if "questions.jsonl" in files(page) else [])]


def commands(page: str) -> list[Command]:
    """Every command of cohobate on a page, in order."""
    typed = [Command(page, block.line, words, True) for block in blocks(page) for words in _lines(block.text)]
    spans = (
        Command(page, token.map[0] + 1 if token.map else 0, tuple(_words(child.content)), False)
        for token in _tokens(page)
        for child in token.children or []
        if child.type == "code_inline" and child.content.startswith("cohobate ")
    )
    return [*typed, *spans]


def _lines(text: str) -> Iterator[tuple[str, ...]]:
    variables: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if assigned := re.fullmatch(r"([A-Z_]+)=(\S+)", line):
            variables[assigned[1]] = assigned[2]
        inner = re.findall(r"\$\((cohobate [^)]*)\)", line)
        outer = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)
        for command in [*([outer] if outer.startswith("cohobate ") else []), *inner]:
            yield tuple(_words(string.Template(command).safe_substitute(variables)))


def _words(command: str) -> list[str]:
    """The words of a command as a shell gives them to it, with what may be left out."""
    words = shlex.split(_OPTIONAL.sub(r"\1", command), comments=True)
    cut = next((at for at, word in enumerate(words) if word in ("&&", "|", ";", ">")), len(words))
    return words[:cut]
