r"""One spelling of mathematics: LaTeX without delimiters, spacing and fonts; and its parts outside of brackets."""

from __future__ import annotations

import re

from cohobate.core.answer_text import plain_characters
from cohobate.evaluation.mathematics.quantities import THIN, THIN_GROUPS
from cohobate.evaluation.mathematics.units import unit

_COMMANDS = {
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∞": "\\infty ", "∪": "\\cup ", "∈": "\\in ", "∅": "\\emptyset ",
    "×": "\\times ", "÷": "\\div ", "±": "\\pm ", "∓": "\\mp ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}", "∖": "\\setminus ",
    "π": "\\pi ", "⟨": "\\langle ", "⟩": "\\rangle ", "−": "-", "∣": "|", "…": "\\ldots ",
}  # fmt: skip
_UNICODE_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[a-zA-Z]|(?=[({\\]))")
_ROOTS = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
_REPEATING = re.compile(r"(\d{1,20})\.(\d{0,20})\\overline\s*\{\s*(\d{1,20})\s*\}")
_SPACES = re.compile(
    r"(?<!\\)\\[,!;:> ]|~"
    r"|\\(?:left|right|displaystyle|textstyle|limits|quad|qquad|bigl?|bigr?|Bigl?|Bigr?|thinspace)(?![a-zA-Z])"
)
_FONTS = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|operatorname\*?|rm|bf)\s*\{([^{}]*)\}"
)
_GROUPED_OR_BRACKET = re.compile(
    r"(?P<grouped>(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,]\d))|(?P<open>\\\{|\\langle|[(\[{])|\\\}|\\rangle|[)\]}]"
)


def prepare(text: str) -> str:
    """The text in one spelling of mathematics: LaTeX without delimiters, spacing, fonts, and grouping of digits."""
    for sign, command in _COMMANDS.items():
        if sign in text:
            text = text.replace(sign, command)
    text = plain_characters(text)
    text = _UNICODE_ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else ""), text)
    text = text.replace("\\$", " ").replace("$", " ").replace("{,}", ",").replace("**", " ")
    text = THIN_GROUPS.sub(",", THIN.sub("", text))
    text = _SPACES.sub(" ", re.sub(r"(?<!\\)\\[()\[\]]", " ", text))
    text = _REPEATING.sub(_repeating, text)
    for _ in range(3):
        if "\\" not in text:
            break
        text = _FONTS.sub(_unwrapped, text)
    text = re.sub(r"\\(?:dots|ldots|cdots|dotsc)(?![a-zA-Z])|\.\.\.", r" \\ldots ", text)
    return _ungrouped(" ".join(text.split()).rstrip(".").strip())


def _repeating(decimal: re.Match[str]) -> str:
    r"""The fraction of a repeating decimal: 0.1\overline{6} is 15/90."""
    units, start, period = decimal.groups()
    nines = "9" * len(period) + "0" * len(start)
    return f"({int(units + start + period) - int(units + start)}/{nines})"


def _unwrapped(font: re.Match[str]) -> str:
    r"""The text in \text{}; a unit behind a number or a formula stays marked as one."""
    before = font.string[: font.start()].rstrip()
    behind_a_value = before and (before[-1].isdigit() or before[-1] in "})" or before.endswith("\\pi"))
    if behind_a_value and font[1].strip() and unit(font[1]).dimension:
        return rf"\unit{{{font[1].strip()}}}"
    return f" {font[1]} "


def _ungrouped(text: str) -> str:
    """Without the commas that group thousands outside of brackets."""
    if "," not in text:
        return text
    depth, pieces, at = 0, [], 0
    for match in _GROUPED_OR_BRACKET.finditer(text):
        if match["grouped"] and depth == 0:
            pieces += [text[at : match.start()], match[0].replace(",", "")]
            at = match.end()
        elif not match["grouped"]:
            depth += 1 if match["open"] else -1
    return "".join([*pieces, text[at:]])


def split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand in no brackets."""
    parts, depth, at = [], 0, 0
    for match in re.finditer(
        rf"(?P<open>\\\{{|\\langle|[(\[{{]|\\begin)|(?P<close>\\\}}|\\rangle|[)\]}}]|\\end)|(?P<sep>{separator})", text
    ):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif depth == 0:
            parts.append(text[at : match.start()])
            at = match.end()
    return [*parts, text[at:]]


def is_one_group(text: str, left: int, right: int) -> bool:
    """Whether the first bracket is closed by the last."""
    inner = text[left : len(text) - right]
    depth = 0
    for match in re.finditer(r"(\\\{|\\langle|[(\[{])|\\\}|\\rangle|[)\]}]", inner):
        depth += 1 if match[1] else -1
        if depth < 0:
            return False
    return depth == 0
