"""Texts of unknown origin, made harmless for a terminal, or such that every later reader of a file takes them."""

from __future__ import annotations

import os
import re
import unicodedata

# Controls (an escape sequence can rewrite what stands on the screen), marks that reverse the direction of what
# follows, invisible characters, line ends that only some programs take for one, and halves of characters beyond U+FFFF.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
# Polars and Arrow refuse surrogates; XML and YAML refuse most controls and the two noncharacters; C ends at NUL.
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SECRET = re.compile(r"(?i)(key|token|password|secret|webhook|auth_string)$")
_SHORTEST_SECRET = 6  # characters
_JOINERS = "\u200c\u200d"  # needed inside words of some scripts, and inside emoji


def harmless(text: object) -> str:
    r"""`text` with characters that a terminal would obey or hide as \x1b or \u202e; tabs are spaces, line ends stay."""
    return _HIDDEN.sub(_escape, str(text).replace("\r\n", "\n").expandtabs(4))


def one_line(text: object) -> str:
    """`harmless`, and in one line."""
    return " ".join(harmless(text).split())


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def without_secrets(text: str) -> str:
    """`text` without the values of environment variables that hold keys, and without users and queries of addresses."""
    for variable, value in os.environ.items():
        if _SECRET.search(variable) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "...")
    return re.sub(r"(://)[^/\s@]*@", r"\1", re.sub(r"(\w+://[^\s?]*)\?\S*", r"\1", text))


def storable(text: str) -> str:
    """`text` as every reader of UTF-8, JSON, YAML and XML takes it.

    Two surrogates that belong together are the character they mean; a lone one, NUL, and any other control character
    but tab, line feed and carriage return are U+FFFD.
    """
    if _UNSTORABLE.search(text) is None:
        return text
    if _SURROGATES.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _UNSTORABLE.sub("\ufffd", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _JOINERS and _is_within_a_word(match):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _is_within_a_word(match: re.Match[str]) -> bool:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return all(side and unicodedata.category(side)[0] in "LMS" for side in (before, after))
