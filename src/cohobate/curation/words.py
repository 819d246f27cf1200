"""Texts as hashed word n-grams, in numpy: the ground of near-duplicates and of decontamination.

Words are those of the casefolded NFC form. Symbols (+, =, <, currency) are words too, since they carry meaning;
sentence punctuation is none. A Chinese, Japanese or Korean character is a word of its own. Hashes are stable: they
depend on the words alone, not on the process, the platform or a library's version.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s.,;:!?'\"…’“”]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Hashed:
    """Texts as numbers: the hashes of all words one after another, and the number of words of each text."""

    words: NDArray[np.uint64]
    lengths: NDArray[np.int64]


def normal(text: str) -> str:
    """The casefolded NFC form with single spaces: texts that only differ in these are the same.

    The compatibility form would not do: it makes 22 of 2².
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(normal(text))


def figures(text: Iterable[str]) -> int:
    """One hash of the numbers and symbols among the words of a text, in order."""
    kept = [word for word in text if not word.isalpha() and _is_figure(word)]
    return _known("\0".join(kept))


def _is_figure(word: str) -> bool:
    return any(unicodedata.category(letter)[0] in "NSP" for letter in word)


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


_known = lru_cache(maxsize=1 << 18)(_hash)


def hash_words(texts: Iterable[list[str]]) -> Hashed:
    """Hashes of texts that are lists of words."""
    lengths: list[int] = []
    numbers: list[int] = []
    for each in texts:
        lengths.append(len(each))
        numbers.extend(map(_known, each))
    return Hashed(np.array(numbers, dtype=np.uint64), np.array(lengths, dtype=np.int64))


def grams(hashed: Hashed, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all n-grams, and the index of the text of each, in the order of the texts.

    A text of fewer than n words is one gram, equal only to a whole text; a text without words has none.
    """
    lengths = hashed.lengths
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    owner = np.repeat(np.arange(len(lengths)), counts)
    starts, first_gram = np.cumsum(lengths) - lengths, np.cumsum(counts) - counts
    first = starts[owner] + np.arange(len(owner)) - first_gram[owner]
    width = np.minimum(lengths[owner], n)
    total = np.zeros(len(owner), dtype=np.uint64)
    for place in range(n):
        inside = place < width
        word = hashed.words[np.where(inside, first + place, first)]
        total = np.where(inside, mix(total * _MULTIPLIER + word), total)
    return total, owner


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
