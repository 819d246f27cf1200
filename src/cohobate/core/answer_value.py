"""The text of an answer within its statement: where it ends, and what is left without the marks around it."""

from __future__ import annotations

import re
import unicodedata

# More characters than any answer in a sentence; the limit also bounds the time that a statement takes.
LONGEST = 2000
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Mt|Prof|Jr|Sr|vs|No|approx|ca|e\.g|i\.e|cf|Nr|bzw)$"
)
_INNER_STOPS = re.compile(r"(?:^|\s)(?:[^\W\d_]\.)+[^\W\d_]?$")  # U.S., p.m., J. R. R.
# Tokens that may end an answer inside a line; mathematics is jumped over.
_BREAK = re.compile(
    r"\$[^$\n]+\$|\\\((?:(?!\\\)).){0,500}\\\)|\\\[(?:(?!\\\]).){0,500}\\\]|`[^`\n]+`"
    r"|(?P<stop>[.!?。！？؟।…]+)|(?P<end>[;；](?=\s|$)|\s[—–](?=\s)|:(?=\s)|</[A-Za-z_|-]{1,30}>)"
    r"|(?P<cause>,?\s(?:because|since|as the|weil|denn|car|parce que|porque|perché|потому что)\b"
    r"|[,，]\s?(?:as|so|which|where|while|but|thus|hence|therefore|making|giving|and we|因为|所以)\b)"
    r"|(?P<paren>\s\((?:because|since|as |i\.e\.|by |from |for |after |weil|car )[^()\n]{0,200}\))"
)
_NEXT_SENTENCE = re.compile(
    r"\s*(?:This|It|The|That|Because|Since|Here|We|I|In|As|Option|These|They|He|She|There|So|Thus|Therefore|However|"
    r"Let|If|Note|To|Hence|You|Please)\b"
)
_CHOICE = re.compile(r"\W*[A-Ja-j]\W*")
_NUMBERED = re.compile(r"[\W_]*\d[\d.,/ ]*\S*(?:\s+\S+){0,2}")
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|__(?=\S)([^_\n]+?)(?<=\S)__")
_WRAPS = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("```", "```"), ("`", "`"),
    ('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"), ("『", "』"), ("‘", "’"), ("'", "'"), ("*", "*"),
    ("_", "_"), ("<<", ">>"), ("“", "“"),
)  # fmt: skip
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
_INNER_LABEL = re.compile(
    r"\s*\\(?:text|textbf|mathrm|mbox)\s*\{\s*(?:the )?(?:final )?answer\s*(?:is)?\s*[:=]?\s*\}\s*[:=]?\s*"
    r"|\s*(?:the )?(?:final )?answer\s*(?:[:=]|is\b)\s*",
    re.IGNORECASE,
)
_HTML = re.compile(r"</?(?:b|strong|i|em|u|span|p|br)\s?/?>", re.IGNORECASE)
_DECORATION = re.compile(r"[\s\u2600-\u27bf\u2b50\u2b55\ufe0f\u200b\u200d\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]+$")
_LEADING = re.compile(r"^[\s\u2705\u2714\u27a1\ufe0f\U0001f449\U0001f3af]+")


def sentence(line: str) -> tuple[str, bool]:
    """The answer that begins a line, up to the end of its sentence or a reason for it; and whether it is asked."""
    for token in _BREAK.finditer(line, 0, LONGEST):
        head, rest = line[: token.start()], line[token.end() :]
        if token["stop"]:
            if _ends(head, token["stop"], rest):
                return head, token["stop"][0] in "?？؟"
        elif token["end"]:
            if token["end"] != ":" or head.rstrip()[-1:] in ("*", "`", "$", ")", "_"):
                return head, False
        elif (token["cause"] or token["paren"]) and head.strip():
            return head, False
    return line[:LONGEST], False


def _ends(head: str, stop: str, rest: str) -> bool:
    """Whether a stop between `head` and `rest` ends a sentence."""
    if stop[0] in "。？！।؟":
        return True
    if rest and not re.match(r"[*_`\"'”’»)\]}$]*(?:\s|$|<|\\[\])])", rest):
        return False
    if stop[0] in "…" or (len(stop) > 1 and stop[0] == "."):
        return False
    if stop[0] == "!":  # 5! is a factorial
        return not re.search(r"[\dn)]$", head)
    if stop[0] == "." and rest.strip():
        if _CHOICE.fullmatch(head):
            return _NEXT_SENTENCE.match(rest) is not None
        return not (_ABBREVIATION.search(head) or _INNER_STOPS.search(head))
    return stop[0] != "." or not _INNER_STOPS.search(head) or _CHOICE.fullmatch(head) is not None


def is_short(answer: str) -> bool:
    """Whether it can be nothing but an answer: a number, mathematics, emphasised, a choice, or few words."""
    text = answer.strip()
    wrapped = any(
        text.startswith(left) and text.endswith(right) and len(text) > len(left + right) for left, right in _WRAPS[:8]
    )
    few_words = len(text.split()) <= 3
    choice = re.match(r"\W*[A-J][).:]\W", text) is not None and len(text.split()) <= 8
    return bool(text) and (wrapped or few_words or choice or _NUMBERED.fullmatch(text) is not None)


def clean(value: str, closing: str = "") -> str:
    """An answer without the marks around it: emphasis, quotation marks, delimiters of formulae, a box, a full stop.

    closing: a pattern of the words that a sentence has behind its answer. "" where no letter, digit or sign is left.
    """
    text = _emphasised(_HTML.sub("", value.strip()))
    for _ in range(8):
        before = text
        text = _LEADING.sub("", _DECORATION.sub("", text)).strip() or text
        text = _without_stop(text)
        text = _unwrapped(text)
        if closing:
            text = re.sub(rf"\s*(?:{closing})$", "", text)
        if text == before:
            break
    return text if any(unicodedata.category(character)[0] in "LNS" for character in text) else ""


def is_strong(value: str) -> bool:
    """Whether it begins as a number, mathematics, something emphasised or a choice."""
    return re.match(r"\s*(?:[-+−$€£¥\\(\[*`]|\d|\.\d|[A-J](?:\W|$))", value) is not None


def _emphasised(text: str) -> str:
    """The one part in bold of a sentence; else the text without the marks of bold."""
    bold = list(_BOLD.finditer(text))
    if len(bold) == 1 and bold[0].start() > 0 and re.search(r"[^\W\d_]{2}", text[: bold[0].start()]):
        return bold[0][1] or bold[0][2]
    return _BOLD.sub(lambda match: match[1] or match[2], text)


def _without_stop(text: str) -> str:
    if text.endswith((".", "。", "．", "।", ",", "，", ";", "；", "、")):
        shorter = text[:-1]
        is_abbreviation = text.endswith("..") or (
            text.endswith(".") and _INNER_STOPS.search(shorter) and len(shorter) > 1
        )
        return text if is_abbreviation else shorter.rstrip()
    return text


def _unwrapped(text: str) -> str:
    """Without one pair of marks that holds all of the text, or a mark that has lost its partner."""
    for left, right in _WRAPS:
        inner = text[len(left) : -len(right)]
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            marks = inner.replace("\\$", "")
            if left not in marks and right not in marks:
                return inner.strip()
    for mark in ("**", "__", "»", "」", "$$", "```", "\\[", "\\]", "\\(", "\\)", "“", "”", "`"):
        if text.count(mark) == 1 and (text.startswith(mark) or text.endswith(mark)) and text != mark:
            return text.removeprefix(mark).removesuffix(mark).strip()
    box = _BOX.match(text)
    if box and closing_braces(text).get(box.end() - 1) == len(text) - 1:
        return text[box.end() : -1].strip()
    if label := _INNER_LABEL.match(text):
        return text[label.end() :].strip()
    return text


def closing_braces(text: str, start: int = 0) -> dict[int, int]:
    """Where each brace is closed that is; a brace after a backslash is text."""
    closing: dict[int, int] = {}
    open_braces: list[int] = []
    for brace in _BRACE.finditer(text, start):
        if brace[0] == "{":
            open_braces.append(brace.start())
        elif brace[0] == "}" and open_braces:
            closing[open_braces.pop()] = brace.start()
    return closing


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
