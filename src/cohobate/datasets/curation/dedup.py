"""Exact and near-duplicate questions.

Near-duplicates share at least a given part of their word trigrams (Jaccard index) and all their numbers and symbols:
"has 5 apples" and "has 7 apples" are two questions. MinHash with banding (Broder 1997; Leskovec et al., Mining of
Massive Datasets, ch. 3) proposes the candidates, and each is then checked exactly, so that chance can only miss a pair:
at the threshold itself one in ten thousand, above it fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cohobate.core.normal_form import normal
from cohobate.datasets.curation.ngrams import figures, grams, hash_texts, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHINGLE = 3
_MISS = 1e-4
_HASHES = 128
# Texts or pairs per chunk.
_CHUNK = 1 << 14
# A text is compared with at most so many others of its band: larger groups are copies of copies.
_NEIGHBOURS = 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def exact(texts: Sequence[str]) -> dict[int, int]:
    """Each text that repeats an earlier one, by index, with the index of the first such."""
    first_index: dict[str, int] = {}
    originals = {}
    for index, text in enumerate(texts):
        original = first_index.setdefault(normal(text), index)
        if original != index:
            originals[index] = original
    return originals


def near(texts: Sequence[str], threshold: float, contexts: Sequence[str] | None = None) -> dict[int, int]:
    """Each text that is too similar to an earlier one that stays, by index, with the index of the first such.

    contexts: one a text; texts with different ones are never similar.
    """
    originals: dict[int, int] = {}
    candidates = _candidates(_bands(texts, threshold, contexts))
    similar = candidates[_jaccard(texts, candidates) >= threshold]
    for earlier, later in similar[np.lexsort((similar[:, 0], similar[:, 1]))].tolist():
        if later not in originals and earlier not in originals:
            originals[later] = earlier
    return originals


def shape(threshold: float) -> tuple[int, int]:
    """(bands, rows per band): the most rows that miss a pair at the threshold at most once in ten thousand times."""
    for rows in range(_HASHES // 4, 0, -1):
        bands = _HASHES // rows
        if (1 - threshold**rows) ** bands <= _MISS:
            return bands, rows
    return _HASHES, 1


def _bands(texts: Sequence[str], threshold: float, contexts: Sequence[str] | None) -> NDArray[np.uint64]:
    """A key for each text and band: texts with an equal key are candidates. Shape (texts, bands).

    The figures are part of the key, so that a story with a thousand different numbers gives no candidates; and the
    context.
    """
    apart = _numbers(contexts) if contexts is not None and any(contexts) else None
    bands, rows = shape(threshold)
    seeds = mix(np.arange(1, bands * rows + 1, dtype=np.uint64) * _MULTIPLIER)
    keys = np.empty((len(texts), bands), dtype=np.uint64)
    for start in range(0, len(texts), _CHUNK):
        chunk = hash_texts(texts[start : start + _CHUNK])
        values, owner = grams(chunk, SHINGLE)
        present, first = np.unique(owner, return_index=True)
        # A text without words is in no band: its keys are unique.
        unique = mix(~np.arange(start, start + len(chunk.lengths), dtype=np.uint64))
        keys[start : start + _CHUNK] = unique[:, None]
        if not len(present):
            continue
        same = figures(chunk)[present]
        if apart is not None:
            same = mix(same ^ apart[start : start + _CHUNK][present])
        for band in range(bands):
            key = same + np.uint64(band)
            for seed in seeds[band * rows : (band + 1) * rows]:
                key = mix(key * _MULTIPLIER + np.minimum.reduceat(mix(values ^ seed), first))
            keys[start + present, band] = key
    return keys


def _numbers(contexts: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each context, the same for equal ones."""
    first: dict[str, int] = {}
    numbers = [first.setdefault(context, len(first)) for context in contexts]
    return mix(np.array(numbers, dtype=np.uint64) + np.uint64(1))


def _candidates(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (earlier, later) of texts that share a band, and so their figures. Shape (pairs, 2)."""
    candidates = np.empty(0, dtype=np.int64)
    count = np.int64(max(len(keys), 1))
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        key = keys[order, band]
        pairs = []
        for distance in range(1, _NEIGHBOURS + 1):
            equal = key[distance:] == key[:-distance]
            if not equal.any():
                break
            pairs.append(order[:-distance][equal] * count + order[distance:][equal])
        # Beyond its neighbours a text is compared with the first of its group.
        leader = order[np.searchsorted(key, key)]
        pairs.append((leader * count + order)[leader != order])
        candidates = np.unique(np.concatenate([candidates, *pairs]))
    return np.stack([candidates // count, candidates % count], axis=1)


def _jaccard(texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The Jaccard index of the trigrams of each pair of texts, which have some."""
    result = np.zeros(len(pairs))
    for start in range(0, len(pairs), _CHUNK):
        result[start : start + _CHUNK] = _jaccard_chunk(texts, pairs[start : start + _CHUNK])
    return result


def _jaccard_chunk(texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    used, position = np.unique(pairs, return_inverse=True)
    values, owner = grams(hash_texts([texts[index] for index in used.tolist()]), SHINGLE)
    # Each text's distinct trigrams, one text after another.
    order = np.lexsort((values, owner))
    values, owner = values[order], owner[order]
    distinct = np.ones(len(values), dtype=bool)
    distinct[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    values, owner = values[distinct], owner[distinct]
    sizes = np.bincount(owner, minlength=len(used))
    starts = np.cumsum(sizes) - sizes
    left, right = position.reshape(pairs.shape).T
    # The trigrams of both sides with the number of their pair: a trigram that occurs twice is shared.
    sides = [_expand(values, starts[side], sizes[side]) for side in (left, right)]
    gram = np.concatenate([values_ for values_, _ in sides])
    pair = np.concatenate([pair_ for _, pair_ in sides])
    order = np.lexsort((gram, pair))
    gram, pair = gram[order], pair[order]
    shared = (gram[1:] == gram[:-1]) & (pair[1:] == pair[:-1])
    common = np.bincount(pair[1:][shared], minlength=len(pairs))
    shares: NDArray[np.float64] = common / (sizes[left] + sizes[right] - common)
    return shares


def _expand(
    values: NDArray[np.uint64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """values[start : start + size] of each (start, size), one after another, and the index of each."""
    owner = np.repeat(np.arange(len(starts)), sizes)
    offset = np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]
    return values[starts[owner] + offset], owner
