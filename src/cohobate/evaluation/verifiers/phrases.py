"""Phrases in sentences: the last sentence of a response, and whether a gold answer stands in it as whole words."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f\u0900-\u0dff\u0e30-\u0e4e]|['’.,](?=[^\W_]))*|[%°$€£]")
_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TEENS = [
    "ten",
    "eleven",
    "twelve",
    *(f"{start}teen" for start in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
]
# Not one, which is a pronoun too.
_NUMBERS = {
    **{word: str(n) for n, word in enumerate(_UNITS[1:], 2)},
    **{word: str(n) for n, word in enumerate(_TEENS, 10)},
    **{word: str(10 * n) for n, word in enumerate(_TENS, 2)},
}
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(_UNITS)})\b")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_STOP = re.compile(r"[.!?](?=[\s\"'”’)*_]+\S)|[。！？।](?=\s*\S)|\n|;(?=\s)")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Mt|Prof|Jr|Sr|vs|No|approx|ca|e\.g|i\.e|U\.S)$")
_COURTESY = re.compile(
    r"\W*(?:let me know|(?:i )?hope (?:this|that|it)|feel free|is there anything|if you (?:have|need|want|would)|"
    r"please|happy to|glad to|would you like|do you (?:want|need|have)|have a (?:nice|great|good)|you're welcome|"
    r"gerne|falls du|wenn sie|n'hésitez|espero que|如果|希望)",
    re.IGNORECASE,
)
_CONTINUED = re.compile(
    r"\W*(?:it|its|he|she|they|this|that|these|those|his|her|their|es|er|sie|il|elle|c'est)\b", re.IGNORECASE
)
_LONGEST = 4000


def normal_form(text: str) -> str:
    """The text in lower case, numbers up to 99 in digits; a space around each character where a script sets none."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = _COMPOUND.sub(lambda number: str(int(_NUMBERS[number[1]]) + 1 + _UNITS.index(number[2])), text)
    return _UNSPACED.sub(lambda character: f" {character[0]} ", text)


def words(text: str) -> list[str]:
    """The words of a text in its normal form; one a character where a script sets no spaces."""
    return [_NUMBERS.get(word, word) for word in _WORD.findall(normal_form(text))]


def places(normal: str, phrase: list[str]) -> list[tuple[int, int]]:
    """Where the words of a phrase begin and end in a text that has its normal form."""
    matches = list(_WORD.finditer(normal))
    spoken, size = [_NUMBERS.get(match[0], match[0]) for match in matches], len(phrase)
    starts = [at for at in range(len(matches) - size + 1) if size and spoken[at : at + size] == phrase]
    return [(matches[at].start(), matches[at + size - 1].end()) for at in starts]


def holds(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` stand in `text`, one after another."""
    return place(words(text), words(phrase)) is not None


def place(text: list[str], phrase: list[str]) -> int | None:
    """Where the words of a phrase begin among those of a text; None where they are not there, or it has none."""
    if not phrase:
        return None
    for at in range(len(text) - len(phrase) + 1):
        if text[at : at + len(phrase)] == phrase:
            return at
    return None


def last_sentence(text: str) -> str:
    """The last sentence that says something: without courtesies, and without sentences that go on about it."""
    paragraphs = [part for part in _PARAGRAPH.split(text[-_LONGEST:]) if part.strip()]
    while len(paragraphs) > 1 and _COURTESY.match(paragraphs[-1]):
        paragraphs.pop()
    parts = sentences(paragraphs[-1]) if paragraphs else []
    while len(parts) > 1 and (_COURTESY.match(parts[-1]) or _CONTINUED.match(parts[-1])):
        parts.pop()
    return parts[-1] if parts else ""


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    parts, at = [], 0
    for stop in _STOP.finditer(text):
        if stop[0] == "." and _ABBREVIATION.search(text[at : stop.start()]):
            continue
        parts.append(text[at : stop.end()].strip())
        at = stop.end()
    return [part for part in (*parts, text[at:].strip()) if part]
