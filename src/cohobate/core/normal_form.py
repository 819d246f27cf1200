r"""The normal form of a question: texts that a reader takes for the same are the same.

NFKC, but powers and fractions keep their meaning (2² is 2^2, not 22; 1½ is 1 1/2); without characters that nobody sees
(zero-width spaces, soft hyphens, marks of direction), Markdown emphasis and code marks, and the signs that enclose a
formula ($, \(, \[); amounts such as $5 keep their sign.
"""

from __future__ import annotations

import re
import unicodedata

# The scripts whose characters are words or syllables, and are written without spaces.
CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00016ff0-\U0003ffff"
)

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]+"
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_POWER = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_BEFORE_FRACTION = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])")
_SIGNS = str.maketrans("\u2212\u2044", "-/")

_MARKS = re.compile(r"[*_$`~\\]")
_LONGEST = 2000  # characters of an emphasis or a formula: a lone sign is not looked for in a whole book
_NOT_AFTER_A_WORD, _NOT_BEFORE_A_WORD = rf"(?<![^\W{CJK}])(?<![*\\])", rf"(?![^\W{CJK}])(?!\*)"
# Pandoc's rule for $: no space inside, no figure behind the second one.
_FORMULAE = (
    re.compile(rf"(?<!\\)\$\$([^$]{{1,{_LONGEST}}})\$\$"),
    re.compile(rf"(?<![\\$])\$(?![\s$])([^$]{{0,{_LONGEST}}}?[^\s\\$])\$(?![0-9$])"),
    re.compile(rf"\\\((.{{1,{_LONGEST}}}?)\\\)", re.DOTALL),
    re.compile(rf"\\\[(.{{1,{_LONGEST}}}?)\\\]", re.DOTALL),
)
_CODE = re.compile(rf"(?<!`)(`+)(?!`)(.{{1,{_LONGEST}}}?)(?<!`)\1(?!`)", re.DOTALL)
_EMPHASIS = (
    re.compile(
        rf"{_NOT_AFTER_A_WORD}(\*{{1,3}})(?![\s*])([^*]{{0,{_LONGEST}}}?[^\s*\\])\1{_NOT_BEFORE_A_WORD}",
    ),
    re.compile(rf"(?<![\w\\])(_{{1,3}})(?![\s_])([^_]{{0,{_LONGEST}}}?[^\s_\\])\1(?!\w)"),
    re.compile(rf"(?<![~\\])(~~)(?![\s~])([^~]{{0,{_LONGEST}}}?[^\s~\\])\1(?!~)"),
)
_ESCAPE = re.compile(r"\\([$*_`~%#&])")


def plain(text: str) -> str:
    """The normal form, with case and spaces as they are."""
    if not text.isascii():
        text = _BEFORE_FRACTION.sub(" ", _INVISIBLE.sub("", text))
        text = _POWER.sub(lambda power: "^" + power[0].translate(_RAISED), text)
        text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    return _without_marks(text) if _MARKS.search(text) else text


def normal(text: str) -> str:
    """The casefolded normal form with single spaces."""
    folded = plain(text).casefold()
    return " ".join((folded if folded.isascii() else unicodedata.normalize("NFKC", folded)).split())


def is_plain(text: str) -> bool:
    """Whether the normal form of `text` differs in case and spaces only, for which nothing has to be built."""
    return text.isascii() and not _MARKS.search(text)


def _without_marks(text: str) -> str:
    for formula in _FORMULAE:
        text = formula.sub(r"\1", text)
    text = _CODE.sub(r"\2", text)
    for emphasis in _EMPHASIS:
        # Emphasis within emphasis: the inner one goes first.
        for _ in range(3):
            text, count = emphasis.subn(r"\2", text)
            if not count:
                break
    return _ESCAPE.sub(r"\1", text)
