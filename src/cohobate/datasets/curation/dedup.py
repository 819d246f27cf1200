"""Exact and near-duplicate questions.

Near-duplicates share at least a given part of their word trigrams (Jaccard index) and all their numbers and symbols:
"has 5 apples" and "has 7 apples" are two questions, however alike. MinHash with banding (Broder 1997; Leskovec et al.,
Mining of Massive Datasets, ch. 3) finds the candidates, and each is then checked exactly, so that chance can only miss
a pair: at the threshold itself one in ten thousand, above it fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cohobate.datasets.curation.ngrams import figures, grams, hash_texts, mix, normal

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHINGLE = 3
_MISS = 1e-4
_HASHES = 128
# Texts or pairs that are worked on at a time.
_CHUNK = 1 << 14
# A text is compared with so many others of its band: larger groups are copies of copies.
_NEIGHBOURS = 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def exact(texts: Sequence[str]) -> dict[int, int]:
    """Each text that repeats an earlier one, by index, and the first such."""
    first: dict[str, int] = {}
    found = {}
    for index, text in enumerate(texts):
        kept = first.setdefault(normal(text), index)
        if kept != index:
            found[index] = kept
    return found


def near(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """Each text that is too like an earlier one which is kept, by index, and the first such."""
    found: dict[int, int] = {}
    candidates = _candidates(_bands(texts, threshold))
    alike = candidates[_jaccard(texts, candidates) >= threshold]
    for earlier, later in alike[np.lexsort((alike[:, 0], alike[:, 1]))].tolist():
        if later not in found and earlier not in found:
            found[later] = earlier
    return found


def shape(threshold: float) -> tuple[int, int]:
    """(bands, rows a band): as many rows as miss a pair at the threshold at most once in ten thousand times."""
    for rows in range(_HASHES // 4, 0, -1):
        bands = _HASHES // rows
        if (1 - threshold**rows) ** bands <= _MISS:
            return bands, rows
    return _HASHES, 1


def _bands(texts: Sequence[str], threshold: float) -> NDArray[np.uint64]:
    """A key for each text and band: texts with an equal key are candidates. Shape (texts, bands).

    The figures are part of the key, so that a thousand tellings of one story never meet.
    """
    bands, rows = shape(threshold)
    seeds = mix(np.arange(1, bands * rows + 1, dtype=np.uint64) * _MULTIPLIER)
    keys = np.empty((len(texts), bands), dtype=np.uint64)
    for start in range(0, len(texts), _CHUNK):
        chunk = hash_texts(texts[start : start + _CHUNK])
        values, owner = grams(chunk, SHINGLE)
        present, first = np.unique(owner, return_index=True)
        # A text without words takes part in no band: its keys are its own.
        own = mix(~np.arange(start, start + len(chunk.lengths), dtype=np.uint64))
        keys[start : start + _CHUNK] = own[:, None]
        if not len(present):
            continue
        same = figures(chunk)[present]
        for band in range(bands):
            key = same + np.uint64(band)
            for seed in seeds[band * rows : (band + 1) * rows]:
                key = mix(key * _MULTIPLIER + np.minimum.reduceat(mix(values ^ seed), first))
            keys[start + present, band] = key
    return keys


def _candidates(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (earlier, later) of texts that share a band, and so their figures. Shape (pairs, 2)."""
    found = np.empty(0, dtype=np.int64)
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
        found = np.unique(np.concatenate([found, *pairs]))
    return np.stack([found // count, found % count], axis=1)


def _jaccard(texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The part of their trigrams that the texts of each pair, which have some, have in common."""
    result = np.zeros(len(pairs))
    for start in range(0, len(pairs), _CHUNK):
        result[start : start + _CHUNK] = _jaccard_chunk(texts, pairs[start : start + _CHUNK])
    return result


def _jaccard_chunk(texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    used, place = np.unique(pairs, return_inverse=True)
    values, owner = grams(hash_texts([texts[index] for index in used.tolist()]), SHINGLE)
    # Each text's distinct trigrams, one text after another.
    order = np.lexsort((values, owner))
    values, owner = values[order], owner[order]
    fresh = np.ones(len(values), dtype=bool)
    fresh[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    values, owner = values[fresh], owner[fresh]
    sizes = np.bincount(owner, minlength=len(used))
    starts = np.cumsum(sizes) - sizes
    left, right = place.reshape(pairs.shape).T
    # Both sides' trigrams beside the number of their pair: what stands there twice is shared.
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
