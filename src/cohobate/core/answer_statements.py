"""The last statement of an answer in a text: labels of many languages, boxes, tags, `####`, JSON, sentences.

docs/answers.md lists the forms. The last statement wins, whatever its form. Every search takes time linear in the
length of the text: patterns have bounded repeats, and what follows a label is read up to a bounded length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cohobate.core.answer_boxes import Boxes
from cohobate.core.answer_heads import LINE_BEFORE, answer_before, head_of, sentence_start, value_of
from cohobate.core.answer_labels import labels
from cohobate.core.answer_value import LONGEST, clean, is_short, is_strong, sentence

# The last statement mostly stands in so many last characters; the rest is searched where it does not.
_TAIL = 4096
# A text in which so many last places state no answer states none.
_MOST_PLACES = 500
# What a pattern begins with decides its speed: a set of characters, or letters, are searched for at once.
_IS_CORRECT = re.compile(
    r"[OoCc](?<!\w.)(?:(?<=[Oo])(?:ption|PTION)|(?<=[Cc])hoice)"
    r"\s*\**([(]?[A-J][)]?)\**\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
)
_CHOSEN = re.compile(
    r"(?:故|应|應|所以|因此|综上|綜上|答案)[，,]?\s?[选選](?:择|擇)?\s*[:：]?\s*\**([(（]?[A-J][)）]?)(?![A-Za-z])"
)
_DELIMITER = re.compile(r"(?:\$\$?|\\\(|\\\[|\*\*|__)\s*$")
_TAG = re.compile(
    r"<\s?(?P<close>/?)\s?(?:(?:(?:final|correct|short|my|the)[_-]?)?answer|ans|(?P<weak>result|output|solution|final))"
    r"(?:\s[^<>\n]{0,60})?>"
    r"|\[(?P<close2>/?)(?:final[_ -]?)?answer\]|<\|(?P<close3>/?)(?:final_)?answer\|>"
    r"|<\|(?:begin|(?P<close4>end))_of_(?:box|answer)\|>",
    re.IGNORECASE,
)
# At the end of a text, and with a number, a formula or a choice behind it.
_RESULT = re.compile(
    r"[ \t>*_#\-•✅]{0,12}(?:(?:the|das|le|el|il|o)\s)?(?:result|solution|ergebnis|lösung|résultat|resultado|"
    r"resultat|resultaat|risultato|soluzione|solución|solução|wynik|rozwiązanie|результат|итог|"
    r"sonuç|kết quả|hasil|结果|結果|결과)"
    r"[*_ \t]{0,6}[:：=][*_ \t]{0,6}(\S[^\n]{0,200})\s*$",
    re.IGNORECASE,
)
_HASHES = re.compile(r"####(?<!#####)(?!#)[ \t]*([^\n]+)")
_HEADING = re.compile(
    r"[*_\s]*(?:step|part|case|explanation|solution|verification|check|checking|note|conclusion|summary|method|approach|"
    r"example|question|problem|analysis|proof|reasoning)\b|[*_\s]*\d+[.)]\s",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """An answer, and where its statement begins in the text."""

    start: int
    answer: str


def last_statement(text: str) -> Statement | None:
    """The last statement of an answer; None where there is none, or where it is cut off."""
    for start in (max(0, len(text) - _TAIL), 0):
        statements = _Statements(text, start)
        if (statement := statements.last()) is not None:
            return statement if statement.answer else None
        if start == 0:
            break
    return None


class _Statements:
    """The places from `start` on where a statement may begin; each is read only when it is asked for."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.labels = list(labels(text, start))
        self.boxes = Boxes(text, start)
        self.tags = list(_TAG.finditer(text, start))
        self.hashes = list(_HASHES.finditer(text, start))
        last_line = text.rstrip().rfind("\n") + 1
        result = _RESULT.match(text, max(last_line, start)) if len(text) - last_line < LONGEST else None
        self.results = [result] if result else []
        self.others = [*_IS_CORRECT.finditer(text, start), *_CHOSEN.finditer(text, start)]

    def last(self) -> Statement | None:
        """The last one; with an empty answer where the last is a box that is not closed."""
        starts = (
            [label.start for label in self.labels],
            self.boxes.starts,
            *([match.start() for match in matches] for matches in (self.tags, self.hashes, self.others, self.results)),
        )
        places = sorted((start, kind, n) for kind, of_kind in enumerate(starts) for n, start in enumerate(of_kind))
        readers = (self._label, self._box, self._tag, self._hash, self._other, self._result)
        for _, kind, number in reversed(places[-_MOST_PLACES:]):
            if (statement := readers[kind](number)) is not None:
                return statement
        return None

    def _label(self, number: int) -> Statement | None:
        label = self.labels[number]
        if self.boxes.hold(label.start):
            return None
        if (before := answer_before(self.text, label)) is not None:
            return Statement(*before)
        head = head_of(self.text, label)
        if head is None:
            return None
        value, is_question = value_of(self.text, head)
        if value is None or is_question:
            return None
        answer = clean(value, label.language.closing)
        return Statement(head.start, answer) if answer else None

    def _box(self, number: int) -> Statement | None:
        content = self.boxes.content(number)
        if content is None:
            return Statement(self.boxes.starts[number], "")
        if not content:
            return None
        first, others = self.boxes.list_before(number)
        distinct = dict.fromkeys([*others, content])
        return Statement(self._around(self.boxes.starts[first]), ", ".join(distinct))

    def _around(self, start: int) -> int:
        """Where the statement with a box at `start` begins: at its label, or at the delimiter of its formula."""
        text = self.text
        for label in reversed(self.labels):
            if label.start < start - LINE_BEFORE:
                break
            if label.start < start and (head := head_of(text, label)) is not None:
                between = text[head.value : start]
                if head.at_line_start and len(between) <= LINE_BEFORE and not between.strip(" \n\t$*\\[(_`>"):
                    return head.start
        line = text.rfind("\n", max(0, start - LINE_BEFORE), start) + 1
        opening = _DELIMITER.search(text, max(line, start - LINE_BEFORE), start)
        return opening.start() if opening else start

    def _tag(self, number: int) -> Statement | None:
        tag = self.tags[number]
        if tag["close"] or tag["close2"] or tag["close3"] or tag["close4"]:
            return None
        following = self.tags[number + 1] if number + 1 < len(self.tags) else None
        end = following.start() if following else len(self.text)
        answer = clean(self.text[tag.end() : min(end, tag.end() + 2 * LONGEST)])
        if tag["weak"] and not (following and is_short(answer)):  # it may hold a whole solution
            return None
        return Statement(tag.start(), answer) if answer else None

    def _hash(self, number: int) -> Statement | None:
        match = self.hashes[number]
        value = match[1][:LONGEST].strip()
        words = re.findall(r"[^\W\d_]{3,}", value)
        last_line = not self.text[match.end() :].strip()
        if _HEADING.match(value) or value.endswith(":") or (len(words) > 1 and not last_line):
            return None
        answer = clean(value)
        return Statement(match.start(), answer) if answer else None

    def _other(self, number: int) -> Statement | None:
        match = self.others[number]
        start = sentence_start(self.text, match.start())
        return Statement(start, clean(next(part for part in match.groups() if part)))

    def _result(self, number: int) -> Statement | None:
        match = self.results[number]
        value, is_question = sentence(match[1])
        if is_question or not (is_strong(value) and is_short(clean(value))):
            return None
        return Statement(match.start(), clean(value))
