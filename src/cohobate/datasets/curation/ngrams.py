"""Texts as hashed word n-grams, in numpy, for near-duplicates and for decontamination.

Words are those of the normal form (core/normal_form.py): letters, their marks and digits in a row. Symbols (+, =, <,
currency) are words too, since they carry meaning; sentence punctuation is none. Scripts without spaces are taken apart
into characters, of which several count as one word. Hashes are stable: they depend on the words alone, not on the
process, the platform or a library's version.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cohobate.core.normal_form import CJK, is_plain, normal

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

# Thai and Lao, Myanmar, Khmer: letters without spaces between words.
_ABUGIDA = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_STOPS = ".,;:!?'\"…’‘“”„«»¿¡—、。「」『』《》〈〉【】・،؛؟।॥"
# For Rust's regex, in which \w has the marks of letters. Python takes four separators of ASCII for spaces.
_WORD = (
    rf"[{CJK}]\p{{M}}*|[[{_ABUGIDA}]&&\p{{L}}]\p{{M}}*|"
    rf"[\w--[{CJK}[[{_ABUGIDA}]&&\p{{L}}]]]+|[^\w\s\x1c-\x1f{_STOPS}]"
)
# A word is so many units. 13 English words have about 26 characters in Chinese, 30 of kanji and kana, 52 Thai letters;
# brackets, such as those of a blank to fill, count nothing.
UNIT = 12
_UNITS = (
    (re.compile("[\u3040-\u30ff\u31f0-\u31ff]"), 4),
    (re.compile(f"[{CJK}]"), 6),
    (re.compile(f"[{_ABUGIDA}]"), 3),
    (re.compile(r"[()\[\]{}]"), 0),
)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_MULTIPLIER), -1, 1 << 64))


@dataclass(frozen=True)
class Hashed:
    """Texts as numbers: the hashes of all words one after another, and the number of words of each text.

    figured: whether a word is a number or a symbol. units: how much it counts, UNIT for a whole word.
    """

    words: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    figured: NDArray[np.bool_]
    units: NDArray[np.int64]


def words(text: str) -> list[str]:
    """The words of a text, and the characters of scripts without spaces."""
    listed: list[str] = _words([text]).to_list()[0]
    return listed


def count_words(texts: Sequence[str]) -> list[int]:
    """Words of each text, rounded up; several characters of a script without spaces are one, brackets none."""
    hashed = hash_texts(texts)
    ends = np.cumsum(hashed.lengths)
    total = np.concatenate([[0], np.cumsum(hashed.units)])
    counts: list[int] = (-(-(total[ends] - total[ends - hashed.lengths]) // UNIT)).tolist()
    return counts


def hash_texts(texts: Sequence[str]) -> Hashed:
    """The words of the texts, hashed."""
    lists = _words(texts)
    # A text without words would be exploded to a null.
    coded = lists.explode().drop_nulls().to_arrow().dictionary_encode()
    facts = [_facts(word) for word in coded.dictionary.to_pylist()]
    codes = coded.indices.to_numpy()
    return Hashed(
        np.array([fact[0] for fact in facts], dtype=np.uint64)[codes],
        lists.list.len().to_numpy().astype(np.int64),
        np.array([fact[1] for fact in facts], dtype=bool)[codes],
        np.array([fact[2] for fact in facts], dtype=np.int64)[codes],
    )


def _words(texts: Sequence[str]) -> pl.Series:
    """Lists of words, by native code."""
    import polars as pl

    forms = [text if is_plain(text) else normal(text) for text in texts]
    return pl.Series(forms, dtype=pl.String).str.to_lowercase().str.extract_all(_WORD)


@lru_cache(maxsize=1 << 18)
def _facts(word: str) -> tuple[int, bool, int]:
    """Hash, whether it is a number or a symbol, units."""
    number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
    figured = not word.isalpha() and any(unicodedata.category(letter)[0] in "NSP" for letter in word)
    units = UNIT if word[0].isdecimal() else next((units for script, units in _UNITS if script.match(word)), UNIT)
    return number, figured, units


def figures(hashed: Hashed) -> NDArray[np.uint64]:
    """One hash per text, of the numbers and symbols among its words, in their order."""
    owner = np.repeat(np.arange(len(hashed.lengths)), hashed.lengths)[hashed.figured]
    figured = hashed.words[hashed.figured]
    counts = np.bincount(owner, minlength=len(hashed.lengths))
    rank = np.arange(len(figured)) - (np.cumsum(counts) - counts)[owner]
    total = mix(counts.astype(np.uint64))
    some = np.flatnonzero(counts)
    if len(some):
        placed = mix(figured + mix(rank.astype(np.uint64) * _MULTIPLIER))
        total[some] += np.add.reduceat(placed, (np.cumsum(counts) - counts)[some])
    return total


def grams(hashed: Hashed, n: int, *, units: bool = False) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all n-grams, and the index of the text of each, in the order of the texts.

    units: an n-gram is as many words as make n words by their units, instead of n words or characters. A shorter text
    is one gram, equal only to an equal text; a text without words has none.
    """
    lengths = hashed.lengths
    owner = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.cumsum(lengths)
    first = np.arange(len(owner))
    if units:
        total = np.concatenate([[0], np.cumsum(hashed.units)])
        last = np.searchsorted(total, total[:-1] + n * UNIT)
    else:
        last = first + n
    # The first gram of a shorter text is all of it.
    last = np.where(first == (ends - lengths)[owner], np.minimum(last, ends[owner]), last)
    complete = last <= ends[owner]
    first, last, owner = first[complete], last[complete], owner[complete]
    powers = np.multiply.accumulate(np.concatenate([[np.uint64(1)], np.full(len(hashed.words), _MULTIPLIER)]))
    inverses = np.multiply.accumulate(np.concatenate([[np.uint64(1)], np.full(len(hashed.words), _INVERSE)]))
    # The polynomial of all words before each one: a gram's is a difference of two, moved to its place.
    before = np.concatenate([[np.uint64(0)], np.cumsum(hashed.words * powers[:-1], dtype=np.uint64)])
    return mix((before[last] - before[first]) * inverses[first]), owner


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
