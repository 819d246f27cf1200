"""A label with what belongs to it, and the answer behind it, on its line or on the next ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cohobate.core.answer_labels import NEED_ADJECTIVE, WEAK_VERBS, Label, Language
from cohobate.core.answer_value import LONGEST, clean, is_short, is_strong, sentence

# So many characters of its line before a label are looked at.
LINE_BEFORE = 200
_MARKS = r"[\s>*_#`\"'“”«»‘’„(\[【|{\-+•·▪◦✅☑✔✓🎯👉➡\ufe0f🔹🔸⭐📌💡$]"
_LEAD_WORDS = (
    r"(?:(?:so|thus|therefore|hence|then|and|finally|overall|in conclusion|por tanto|donc|also|daher)[,:]?\s+)"
)
_AT_LINE_START = re.compile(
    rf"{_MARKS}{{0,40}}(?:\d{{1,2}}[.)]\s+)?{_MARKS}{{0,40}}(?:\\(?:text|textbf|mathbf|mathrm)\{{\s*)?"
    rf"{_LEAD_WORDS}?{_MARKS}{{0,10}}",
    re.IGNORECASE,
)
_CLOSING = r"[*_`\"'“”’»\])}】]{0,8}(?:[ \t]?#{1,6}(?=[ \t]*\n))?"
_SEPARATOR = r"[:：=→⇒|]|->|=>|\s[–—-](?=\s)"
_ASIDE = r"(?:\s?[(（][^()（）\n]{0,60}[)）]|[ ](?:to|for|in|with|as)\b[^.:：=\n]{1,60}?|,[^.:：\n]{1,60}?,)?"
_ADVERBS = (
    r"(?:(?:therefore|thus|hence|simply|just|then|still|indeed|actually|clearly|obviously|now|donc|also|exactly|"
    r"definitely|follows|daher|somit|quindi|portanto)\b,?\s*)?"
)
_GOVERNED = re.compile(
    r"\b(?:if|whether|unless|suppose|suppose that|assume|assuming|what|wenn|falls|ob|si|que|se)\s+(?:that\s+)?$",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(
    r"\s*(?:not|n't|never|no longer|correct|incorrect|wrong|right|clear|clearly|obvious|unclear|valid|invalid|unique|"
    r"reasonable|plausible|consistent|rounded|unchanged|verified|confirmed|final|as follows|given (?:by|in)|based|"
    r"supposed|expected|in|that|going to|"
    r"(?:an?|one|some) (?:whole|positive|negative|single|integer|number|fraction|prime|multiple|rational|real)|"
    r"nicht|pas|no es|não|non|not yet)\b(?!\s*[:：]\s*\S)",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"\s*(?:(?:so|thus|therefore|hence|then|and|finally|overall|in conclusion|clearly|now|but|also|donc|daher|somit|"
    r"por lo tanto|portanto|logo|quindi|jadi|vậy|итак|따라서|よって|したがって|因此|所以|综上所述|综上|故)\b[,，、:]?"
    r"\s*)*"
    r"(?:(?:the|my|our|your|die|la|a|het|η|i think|i believe|we get)\s*)?",
    re.IGNORECASE,
)
_SENTENCE_START = re.compile(r"[.!?:;](?:\s|$)|[。！？；]")
_SENTENCE_END = re.compile(r"[*_`\"]*\s*(?:[.!。]|$|\n|<)")
_JSON_KEY = re.compile(r'"\s*:\s*')
_IS_THE = re.compile(
    r"([^\n.!?:;]{1,60}?)\s+(?:is|are)\s+(?:the|our|my)\s+(?:(?:final|correct|right|best)\s+)*$", re.IGNORECASE
)
_PRONOUN = re.compile(
    r"(?:this|that|it|which|here|what|where|there|these|he|she|they|below|following|\d+\s*[.)])\b", re.IGNORECASE
)
_BULLET = re.compile(r"\s*(?:[-*+•·]|\d{1,2}[.)])\s+(\S.*)")
_RULE = re.compile(r"\s*[-*_=]{3,}\s*")
_BLOCKS = (("$$", "$$"), ("\\[", "\\]"), ("```", "```"))


@dataclass(frozen=True)
class Head:
    """A label with all that belongs to it. start: of the statement; value: where the answer may begin."""

    start: int
    value: int
    at_line_start: bool
    colon: bool
    verb: str | None
    closing: str
    table: bool = False
    json: bool = False


def head_of(text: str, label: Label) -> Head | None:
    """The label with the words around it; None where it announces no answer."""
    language = label.language
    begin, line = _line_before(text, label.start)
    before = text[begin : label.start]
    if not _has_adjective(label.noun, before):
        return None
    own = re.search(rf"(?:{language.before})$", before, re.IGNORECASE)
    own_words = own[0] if own else ""
    outer = before[: len(before) - len(own_words)]
    at_line_start = begin == line and _AT_LINE_START.fullmatch(outer) is not None
    if label.noun == "答" and not at_line_start:  # it is a part of many words
        return None
    if outer.endswith('"') and (quoted := _JSON_KEY.match(text, label.end)):
        return Head(begin, quoted.end(), at_line_start, True, None, "", json=True)
    match = _after(language, label.noun == "ans").match(text, label.end)
    if match is None:
        return None
    verb = match["verb"] or (own.groupdict().get("inverted") if own else None)
    separator = match["separator"] or match["colon"]
    if not (verb or separator or at_line_start or (language.closing and not language.verbs)):
        return None
    if verb and _GOVERNED.search(outer):
        return None
    is_definite = at_line_start or own_words.strip() or not language.before or label.noun == "answers"
    if verb and not separator and not is_definite:
        return None
    start = begin if at_line_start else _statement_start(text, begin, label.start - len(own_words))
    table = (match["separator"] or "").strip() == "|"
    return Head(start, match.end(), at_line_start, separator is not None, verb, language.closing, table)


def _line_before(text: str, at: int) -> tuple[int, int]:
    """Where the part of the line before a place begins that is looked at, and where its line begins."""
    line = text.rfind("\n", max(0, at - LINE_BEFORE), at) + 1
    return max(line, at - LINE_BEFORE), line


def _has_adjective(noun: str, before: str) -> bool:
    """Whether the words before a noun make it an answer: the final result, the correct option."""
    if noun not in NEED_ADJECTIVE:
        return True
    adjective = "final" if noun == "result" else "(?:correct|right|best)"
    return re.search(rf"\b{adjective}[ _-]+$", before, re.IGNORECASE) is not None


def _statement_start(text: str, begin: int, at: int) -> int:
    """The start of the sentence of a label at `at`, if only connectives stand between; else of the label itself."""
    start = sentence_start(text, at, begin)
    return at if _CONNECTIVE.sub("", text[start:at].strip(" *_#>"), count=1).strip() else start


@lru_cache(maxsize=128)
def _after(language: Language, is_abbreviated: bool) -> re.Pattern[str]:
    """What may stand between a noun and the answer."""
    adjective = rf"(?:\s?(?:{language.after}))?" if language.after else ""
    # Verbs of other scripts need no space behind them.
    spaced = re.search("[a-zà-ÿа-яא-ת]", language.verbs) is not None
    verb = f"(?P<verb>{language.verbs or '(?!)'})"
    verb = rf"\s{{0,4}}(?<![^\W\d_]){verb}(?![^\W\d_])" if spaced else rf"\s{{0,4}}{verb}"
    stop = r"|\." if is_abbreviated else ""
    return re.compile(
        rf"{adjective}{_CLOSING}(?:{_ASIDE}{_CLOSING}(?:\s?(?P<separator>{_SEPARATOR}{stop})|{verb}))?"
        rf"(?:[ ]?[*_`}}]){{0,6}}[ \t]{{0,8}}{_ADVERBS}(?P<colon>[:：])?[、，]?[*_]{{0,4}}[ \t]{{0,8}}",
        re.IGNORECASE,
    )


def value_of(text: str, head: Head) -> tuple[str | None, bool]:
    """The answer behind a label, with the marks around it, and whether it is asked; None where there is none."""
    at = head.value
    if head.json:
        return _json_value(text, at), False
    end = text.find("\n", at, at + LONGEST)
    line = text[at : end if end >= 0 else at + LONGEST]
    if head.table:
        return line.partition("|")[0], False
    if not line.strip(' \t*_`$\\[]()|:："') and (head.colon or head.at_line_start or head.verb):
        return _next_lines(text, at, line), False
    answer, is_question = sentence(line)
    if head.verb:
        if _NO_VALUE.match(answer) or (head.verb in WEAK_VERBS and not is_strong(answer)):
            return None, False
        return answer, is_question
    if not head.colon:
        if head.closing and re.search(rf"\s(?:{head.closing})$", answer):
            return answer, is_question
        return (line, False) if head.at_line_start and is_short(line) and is_strong(line) else (None, False)
    if is_short(clean(answer)):
        return answer, is_question and len(answer) == len(line)
    return line, False


def answer_before(text: str, label: Label) -> tuple[int, str] | None:
    """The start of the statement and the answer of `5 is the answer.`; None for other sentences."""
    if label.noun == "ans" or not _SENTENCE_END.match(text, label.end, label.end + 8):
        return None
    start = sentence_start(text, label.start)
    match = _IS_THE.fullmatch(text[start : label.start])
    if not match:
        return None
    value = _CONNECTIVE.sub("", match[1], count=1)
    value = re.sub(r"^\**(?:option|choice)\s+", "", value, flags=re.IGNORECASE)
    if _PRONOUN.match(value.strip(" *")) or len(value.split()) > 8:
        return None
    answer = clean(value)
    return (start + len(match[0]) - len(match[0].lstrip()), answer) if answer else None


def sentence_start(text: str, at: int, begin: int | None = None) -> int:
    """Where the sentence of a place begins, in its line; begin: where to look from."""
    start = _line_before(text, at)[0] if begin is None else begin
    for stop in _SENTENCE_START.finditer(text, start, at):
        start = stop.end()
    return start


def _json_value(text: str, at: int) -> str | None:
    try:
        value, _ = json.JSONDecoder().raw_decode(text[at : at + 2 * LONGEST])
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return None if value is None or isinstance(value, dict) else str(value)


def _next_lines(text: str, at: int, rest: str) -> str | None:
    """The answer below a label that ends its line; `rest`: what its line still has, such as the $$ of a formula."""
    opener = rest.strip(" \t*_:：")
    piece = text[at + len(rest) : at + len(rest) + 2 * LONGEST]
    if opener in ("$$", "\\[", "```"):
        piece = opener + piece
    lines = iter(piece.lstrip().split("\n"))
    for line in lines:
        stripped = line.strip()
        if not stripped or _RULE.fullmatch(line):
            continue
        for left, right in _BLOCKS:
            if stripped.startswith(left):
                return _block(piece[piece.index(left) :], left, right)
        if stripped.startswith("#"):
            return None
        if item := _BULLET.fullmatch(line):
            return _list(item[1], lines)
        return _paragraph(stripped.lstrip("> "), any(other.strip() for other in lines))
    return None


def _block(text: str, left: str, right: str) -> str | None:
    end = text.find(right, len(left))
    inner = text[len(left) : end if end >= 0 else None]
    if left == "```":
        inner = inner.partition("\n")[2]
    return " ".join(inner.split()) or None


def _list(first: str, lines: Iterator[str]) -> str:
    items = [first]
    for line in lines:
        if not (item := _BULLET.fullmatch(line)):
            break
        items.append(item[1])
    return ", ".join(clean(item) for item in items)


def _paragraph(line: str, more: bool) -> str | None:
    """The answer in the paragraph below a label; none where a whole solution begins there."""
    answer, is_question = sentence(line)
    if is_question:
        return None
    if is_short(clean(answer)):
        return answer
    return None if more and not re.search(r"\*\*[^*]+\*\*", line) else line
