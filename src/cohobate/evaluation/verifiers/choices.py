"""Choices: a letter, alone or with its text, such as B, (B), B) Paris, Option B: Paris."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cohobate.evaluation.mathematics.quantities import tidy

_LONGEST = 2000
# A choice, in several languages.
_NOUN = (
    r"(?i:(?:(?:the|la|el|le|il|die|der|a|o|an?)\s+|l')?(?:letter|option|choice|answer|opción|opcion|opção|opzione|letra|"
    r"lettre|lettera|alternativa|alternative|antwort|buchstabe|вариант|ответ|optie|opsi|opcja|seçenek|phương án|"
    r"lựa chọn|选项|選項|選択肢|보기|선택지|ตัวเลือก|विकल्प|الخيار)?)"
)
_ALONE = re.compile(
    rf"{_NOUN}\s*[(\[]?\s*([A-J])\s*[)\]]?\s*[.:]?|[(\[]\s*([a-j])\s*[)\]]|(?i:option|choice)\s+([a-j])"
)
_WITH_TEXT = re.compile(rf"{_NOUN}\s*(?:[(\[]\s*([A-Ja-j])\s*[)\]]\s*[.:]?|([A-J])\s*[).:])\s*(\S.*)", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """A letter in upper case; text: what stands with it."""

    letter: str
    text: str = ""


def read_choice(text: str) -> Choice | None:
    """The choice that an answer is; None where it is none."""
    if len(text) > _LONGEST:
        return None
    plain = tidy(text).strip("*\"'`").strip()
    if match := _ALONE.fullmatch(plain):
        return Choice((match[1] or match[2] or match[3]).upper())
    if match := _WITH_TEXT.fullmatch(plain):
        rest = match[3].strip()
        if not re.match(r"[-+*/^=,<>]|and\b|or\b", rest):
            return Choice((match[1] or match[2]).upper(), rest)
    return None


def same_choice(answer: str, gold: str) -> bool | None:
    """Whether two answers are the same choice; None where they are not both choices, or letter and text disagree."""
    expected = read_choice(gold)
    if expected is None:
        return None
    actual = read_choice(answer)
    if actual is None and len(answer.strip()) == 1 and answer.strip().upper() in "ABCDEFGHIJ":
        actual = Choice(answer.strip().upper())
    if actual is None:
        return None
    if not (actual.text and expected.text):
        return actual.letter == expected.letter
    same_text = " ".join(actual.text.lower().split()) == " ".join(expected.text.lower().split())
    if same_text != (actual.letter == expected.letter):
        return None
    return same_text
