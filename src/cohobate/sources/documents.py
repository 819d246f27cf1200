"""Passages of text and Markdown documents, and the questions that are made of them.

A document is cut where a heading stands, once the passage has half its length, and else at ends of paragraphs; a
paragraph longer than a passage is cut at ends of sentences. The next passage of the same section repeats the last
sentences of the one before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cohobate.config import Documents
from cohobate.core import progress
from cohobate.core.errors import QuestionsError
from cohobate.sources import files
from cohobate.sources.table import COLUMNS, Read, question_id
from cohobate.sources.text import refuse_encoding

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
_FENCE = re.compile(r"\s*(```|~~~)")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)\]])\s+|(?<=[。！？])")
# Scripts without spaces between words: a character counts as one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Block:
    """A paragraph, a heading's line, or a fenced block; `headings` are those above it, its own included."""

    text: str
    headings: tuple[str, ...]
    is_heading: bool = False

    @property
    def words(self) -> int:
        """Headings are not counted: they come along."""
        return 0 if self.is_heading else count_words(self.text)


@dataclass(frozen=True)
class Passage:
    """A piece of a document: its text, and the headings under which it begins."""

    text: str
    headings: tuple[str, ...]


def count_words(text: str) -> int:
    """Words of a text, or characters where the script has no spaces."""
    return len(_WORD.findall(text))


def questions(found: files.Found, config: Documents) -> Read:
    """One training question a passage; equal passages count once, and the passage's text names the question."""
    rows = []
    for name, path in found.files:
        for number, passage in enumerate(passages(read(path), config, markdown=path.suffix.lower() != ".txt"), 1):
            title = " > ".join((name, *passage.headings))
            meta = {"file": name, "headings": passage.headings, "passage": number, "document": passage.text}
            filled = {"{title}": title, "{document}": passage.text}
            asked = re.sub(r"\{title\}|\{document\}", lambda m, f=filled: f[m[0]], config.prompt)  # type: ignore[misc]
            rows.append((question_id(passage.text), asked, json.dumps(meta, ensure_ascii=False)))
    if not rows:
        raise QuestionsError(f"the documents in {found.where} are all empty; set questions.path")
    frame = pl.DataFrame(rows, schema=["question_id", "question", "meta"], orient="row")
    unique = frame.unique("question_id", keep="first", maintain_order=True)
    if len(unique) < len(frame):
        progress.say(f"{len(frame) - len(unique)} of {len(frame)} passages repeat another one and count once")
    text = pl.lit(None, dtype=pl.String)
    made = unique.with_columns(
        gold_answer=text,
        gold_response=text,
        split=pl.lit("train"),
        kind=pl.lit("documents"),
        depth=pl.lit(None, dtype=pl.Int32),
    )
    return Read(made.select(COLUMNS), len(frame) - len(unique))


def read(path: Path) -> str:
    """The document's text. Raises QuestionsError when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise refuse_encoding(path) from None


def passages(text: str, config: Documents, *, markdown: bool) -> Iterator[Passage]:
    """The passages of a document in order, each of at most `config.words` words."""
    held: list[Block] = []
    for block in _blocks(text, markdown):
        words = sum(item.words for item in held)
        new_section = block.is_heading and words * 2 >= config.words
        if held and (new_section or words + block.words > config.words):
            held, passage = _cut(held, block, config)
            if passage is not None:
                yield passage
        # Pieces leave room for what they repeat.
        room = config.words if block.words <= config.words else config.words - config.overlap
        for piece in _pieces(block, room):
            if held and sum(item.words for item in held) + piece.words > config.words:
                held, passage = _cut(held, piece, config)
                if passage is not None:
                    yield passage
            held.append(piece)
    if any(not item.is_heading for item in held):
        yield _passage(held)


def _cut(held: list[Block], following: Block, config: Documents) -> tuple[list[Block], Passage | None]:
    """What the next passage begins with, and the passage that ends here. Headings stay with what follows them."""
    ending = len(held)
    while ending and held[ending - 1].is_heading:
        ending -= 1
    body, carried = held[:ending], held[ending:]
    if not body:
        return carried, None
    if not carried and not following.is_heading:
        room = min(config.overlap, config.words - following.words)
        carried = _overlap(body[-1], room)
    return carried, _passage(body)


def _passage(blocks: list[Block]) -> Passage:
    return Passage("\n\n".join(block.text for block in blocks), blocks[0].headings)


def _overlap(last: Block, words: int) -> list[Block]:
    """The last sentences of a block, of at most so many words."""
    kept: list[str] = []
    for sentence in reversed(_sentences(last.text)):
        if sum(map(count_words, kept)) + count_words(sentence) > words:
            break
        kept.insert(0, sentence)
    return [Block(" ".join(kept), last.headings)] if kept else []


def _pieces(block: Block, words: int) -> Iterator[Block]:
    """A block that fits, or its sentences packed into pieces that do; a sentence that does not fit is cut at words."""
    if block.words <= words:
        yield block
        return
    held: list[str] = []
    for sentence in _sentences(block.text):
        for piece in _cut_at_words(sentence, words):
            if held and sum(map(count_words, held)) + count_words(piece) > words:
                yield Block(" ".join(held), block.headings)
                held = []
            held.append(piece)
    yield Block(" ".join(held), block.headings)


def _cut_at_words(sentence: str, words: int) -> Iterator[str]:
    starts = [match.start() for match in _WORD.finditer(sentence)][::words]
    for start, end in zip(starts, [*starts[1:], len(sentence)], strict=True):
        yield sentence[start:end].strip()


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in (part.strip() for part in _SENTENCE_END.split(text)) if sentence]


def _blocks(text: str, markdown: bool) -> Iterator[Block]:
    headings: list[tuple[int, str]] = []
    held: list[str] = []
    fence: str | None = None
    for line in [*text.splitlines(), ""]:
        path = tuple(title for _, title in headings)
        mark = _FENCE.match(line) if markdown else None
        if mark:
            fence = None if fence == mark[1] else fence or mark[1]
        heading = _HEADING.fullmatch(line) if markdown and fence is None else None
        if (not line.strip() and fence is None) or heading:
            if held:
                yield Block("\n".join(held).strip("\n"), path)
            held = []
        else:
            held.append(line.rstrip())
        if heading:
            level = len(heading[1])
            headings = [*[item for item in headings if item[0] < level], (level, heading[2])]
            yield Block(line.strip(), tuple(title for _, title in headings), is_heading=True)
    if held:
        yield Block("\n".join(held).strip("\n"), tuple(title for _, title in headings))
