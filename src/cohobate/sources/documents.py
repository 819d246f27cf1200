"""Passages of text and Markdown documents, and the questions that ask the teacher about them.

A document is cut where a heading stands, once the passage has half its length, and else at ends of paragraphs; a
paragraph longer than a passage is cut at ends of sentences. A passage begins with the last sentences of the one before
in the same section.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cohobate.config import Documents
from cohobate.core import progress
from cohobate.core.errors import QuestionsError
from cohobate.sources.base import Question, question_id
from cohobate.sources.files import FileSet
from cohobate.sources.readers import DOCUMENTS, suffix
from cohobate.sources.table import QuestionTable, frame_of
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
        """Words of the block; headings count as none."""
        return 0 if self.is_heading else count_words(self.text)


@dataclass(frozen=True)
class Passage:
    """A piece of a document: its text, and the headings under which it begins."""

    text: str
    headings: tuple[str, ...]


def count_words(text: str) -> int:
    """Words of a text, or characters where the script has no spaces."""
    return len(_WORD.findall(text))


def questions(documents: FileSet, config: Documents) -> QuestionTable:
    """One training question per passage; equal passages count once, and the passage's hash is the question's id."""
    every = [
        _question(name, number, passage, config.prompt)
        for name, path in documents.files
        for number, passage in enumerate(read_passages(path, config), 1)
    ]
    if not every:
        raise QuestionsError(f"the documents in {documents.where} are all empty; set questions.path")
    unique: dict[str | None, Question] = {}
    for question in every:
        unique.setdefault(question.id, question)
    repeated = len(every) - len(unique)
    if repeated:
        progress.say(f"{repeated} of {len(every)} passages repeat another one and count once")
    return QuestionTable(frame_of([*unique.values()]), repeated)


def _question(name: str, number: int, passage: Passage, prompt: str) -> Question:
    """The question about passage `number` of the document `name`."""
    fields = {"{title}": " > ".join((name, *passage.headings)), "{document}": passage.text}
    text = re.sub(r"\{title\}|\{document\}", lambda field: fields[field[0]], prompt)
    meta = {"file": name, "headings": passage.headings, "passage": number, "document": passage.text}
    document = json.dumps(meta, ensure_ascii=False)
    return Question(question_id(passage.text), text, split="train", kind="documents", meta=document)


def read_passages(path: Path, config: Documents) -> Iterator[Passage]:
    """The passages of a document. Raises QuestionsError when it is not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise refuse_encoding(path) from None
    return passages(text, config, markdown=DOCUMENTS[suffix(path)] == "markdown")


def passages(text: str, config: Documents, *, markdown: bool) -> Iterator[Passage]:
    """The passages of a document in order, each of at most `config.words` words."""
    pending: list[Block] = []
    for block in _blocks(text, markdown):
        words = sum(item.words for item in pending)
        new_section = block.is_heading and words * 2 >= config.words
        if pending and (new_section or words + block.words > config.words):
            pending, passage = _cut(pending, block, config)
            if passage is not None:
                yield passage
        # Pieces leave room for the overlap.
        room = config.words if block.words <= config.words else config.words - config.overlap
        for piece in _pieces(block, room):
            if pending and sum(item.words for item in pending) + piece.words > config.words:
                pending, passage = _cut(pending, piece, config)
                if passage is not None:
                    yield passage
            pending.append(piece)
    if any(not item.is_heading for item in pending):
        yield _passage(pending)


def _cut(pending: list[Block], following: Block, config: Documents) -> tuple[list[Block], Passage | None]:
    """The blocks with which the next passage begins, and the passage that ends here, if any.

    Headings stay with the block that follows them.
    """
    ending = len(pending)
    while ending and pending[ending - 1].is_heading:
        ending -= 1
    body, carried = pending[:ending], pending[ending:]
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
    overlap: list[str] = []
    for sentence in reversed(_sentences(last.text)):
        if sum(map(count_words, overlap)) + count_words(sentence) > words:
            break
        overlap.insert(0, sentence)
    return [Block(" ".join(overlap), last.headings)] if overlap else []


def _pieces(block: Block, words: int) -> Iterator[Block]:
    """A block that fits, or its sentences packed into pieces that do; a sentence that does not fit is cut at words."""
    if block.words <= words:
        yield block
        return
    pieces: list[str] = []
    for sentence in _sentences(block.text):
        for piece in _cut_at_words(sentence, words):
            if pieces and sum(map(count_words, pieces)) + count_words(piece) > words:
                yield Block(" ".join(pieces), block.headings)
                pieces = []
            pieces.append(piece)
    yield Block(" ".join(pieces), block.headings)


def _cut_at_words(sentence: str, words: int) -> Iterator[str]:
    starts = [match.start() for match in _WORD.finditer(sentence)][::words]
    for start, end in zip(starts, [*starts[1:], len(sentence)], strict=True):
        yield sentence[start:end].strip()


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in (part.strip() for part in _SENTENCE_END.split(text)) if sentence]


def _blocks(text: str, markdown: bool) -> Iterator[Block]:
    headings: list[tuple[int, str]] = []
    paragraph: list[str] = []
    fence: str | None = None
    for line in [*text.splitlines(), ""]:
        path = tuple(title for _, title in headings)
        mark = _FENCE.match(line) if markdown else None
        if mark:
            fence = None if fence == mark[1] else fence or mark[1]
        heading = _HEADING.fullmatch(line) if markdown and fence is None else None
        if (not line.strip() and fence is None) or heading:
            if paragraph:
                yield Block("\n".join(paragraph).strip("\n"), path)
            paragraph = []
        else:
            paragraph.append(line.rstrip())
        if heading:
            level = len(heading[1])
            headings = [*[item for item in headings if item[0] < level], (level, heading[2])]
            yield Block(line.strip(), tuple(title for _, title in headings), is_heading=True)
    if paragraph:
        yield Block("\n".join(paragraph).strip("\n"), tuple(title for _, title in headings))
