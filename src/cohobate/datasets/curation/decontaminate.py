"""Decontamination: questions that share a word n-gram with an evaluation question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohobate.datasets.curation.ngrams import grams, hash_texts

_CHUNK = 1 << 14


def contaminated(texts: Sequence[str], evaluation: Sequence[str], n: int) -> dict[int, int]:
    """Each text with an n-gram of an evaluation text, by index, and the index of the first such evaluation text.

    An evaluation text of fewer than n words is found only where it is the whole text.
    """
    known, source = grams(hash_texts(evaluation), n)
    order = np.lexsort((source, known))
    known, source = known[order], source[order]
    found: dict[int, int] = {}
    if not len(known):
        return found
    for start in range(0, len(texts), _CHUNK):
        values, owner = grams(hash_texts(texts[start : start + _CHUNK]), n)
        place = np.minimum(np.searchsorted(known, values), len(known) - 1)
        hit = known[place] == values
        for text, seen in zip((owner[hit] + start).tolist(), source[place[hit]].tolist(), strict=True):
            found[text] = min(seen, found.get(text, seen))
    return found
