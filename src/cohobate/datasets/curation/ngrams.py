"""Texts as hashed word n-grams, in numpy, for near-duplicates and for decontamination.

Words are those of the casefolded NFC form. Symbols (+, =, <, currency) are words too, since they carry meaning;
sentence punctuation is none. Each Chinese, Japanese or Korean character is one word. Hashes are stable: they depend on
the words alone, not on the process, the platform or a library's version.
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s.,;:!?'\"…’“”]")
# The same for lower-case ASCII; Python takes its four separators for spaces too.
_ASCII_WORD = r"""\w+|[^\w\s\x1c-\x1f.,;:!?'"]"""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Hashed:
    """Texts as numbers: the hashes of all words one after another, and the number of words of each text.

    figured: whether a word is a number or a symbol.
    """

    words: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    figured: NDArray[np.bool_]


def normal(text: str) -> str:
    """The casefolded NFC form with single spaces: texts that only differ in these are the same.

    The compatibility form would not do: it makes 22 of 2².
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(normal(text))


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _is_figure(word: str) -> bool:
    return not word.isalpha() and any(unicodedata.category(letter)[0] in "NSP" for letter in word)


@lru_cache(maxsize=1 << 18)
def _hash_and_kind(word: str) -> tuple[int, bool]:
    return _hash(word), _is_figure(word)


def hash_texts(texts: Sequence[str]) -> Hashed:
    """The words of the texts, hashed; texts of plain ASCII, for which the rules are few, by native code."""
    plain = np.array([text.isascii() for text in texts], dtype=bool)
    if plain.all():
        return _hash_ascii(texts)
    sides = [
        _hash_ascii([text for text, is_plain in zip(texts, plain, strict=True) if is_plain]),
        _hash_words([words(text) for text, is_plain in zip(texts, plain, strict=True) if not is_plain]),
    ]
    indices = [np.flatnonzero(plain), np.flatnonzero(~plain)]
    lengths = np.empty(len(texts), dtype=np.int64)
    for side, index in zip(sides, indices, strict=True):
        lengths[index] = side.lengths
    owner = np.concatenate([np.repeat(index, side.lengths) for side, index in zip(sides, indices, strict=True)])
    order = np.argsort(owner, kind="stable")
    hashes, figured = (np.concatenate([getattr(side, name) for side in sides])[order] for name in ("words", "figured"))
    return Hashed(hashes, lengths, figured)


def _hash_ascii(texts: Sequence[str]) -> Hashed:
    import polars as pl

    word_lists = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_ASCII_WORD)
    # A text without words would be exploded to a null.
    coded = word_lists.explode().drop_nulls().to_arrow().dictionary_encode()
    facts = [_hash_and_kind(word) for word in coded.dictionary.to_pylist()]
    codes = coded.indices.to_numpy()
    hashes, figured = np.array([h for h, _ in facts], dtype=np.uint64), np.array([f for _, f in facts], dtype=bool)
    return Hashed(hashes[codes], word_lists.list.len().to_numpy().astype(np.int64), figured[codes])


def _hash_words(texts: Sequence[list[str]]) -> Hashed:
    facts = [_hash_and_kind(word) for text in texts for word in text]
    return Hashed(
        np.array([h for h, _ in facts], dtype=np.uint64),
        np.array([len(text) for text in texts], dtype=np.int64),
        np.array([f for _, f in facts], dtype=bool),
    )


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


def grams(hashed: Hashed, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all n-grams, and the index of the text of each, in the order of the texts.

    A text of fewer than n words is one gram, equal only to an equal text; a text without words has none.
    """
    lengths = hashed.lengths
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    owner = np.repeat(np.arange(len(lengths)), counts)
    starts, first_gram = np.cumsum(lengths) - lengths, np.cumsum(counts) - counts
    first = starts[owner] + np.arange(len(owner)) - first_gram[owner]
    width = np.minimum(lengths[owner], n)
    total = np.zeros(len(owner), dtype=np.uint64)
    for offset in range(n):
        inside = offset < width
        word = hashed.words[np.where(inside, first + offset, first)]
        total = np.where(inside, mix(total * _MULTIPLIER + word), total)
    return total, owner


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
