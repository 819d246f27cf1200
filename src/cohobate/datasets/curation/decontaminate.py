"""Decontamination: questions that share a word n-gram with an evaluation question.

In scripts without spaces an n-gram is as many characters as make n words: a phrase that every exam uses, such as
"which of the following statements is right", is shorter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohobate.datasets.curation.ngrams import grams, hash_texts

_CHUNK = 1 << 14


def contaminated(texts: Sequence[str], evaluation: Sequence[str], n: int) -> dict[int, int]:
    """Each text with an n-gram of an evaluation text, by index, and the index of the first such evaluation text.

    An evaluation text of fewer than n words matches only a text that is equal to it.
    """
    exam_grams, exam_owner = grams(hash_texts(evaluation), n, units=True)
    order = np.lexsort((exam_owner, exam_grams))
    exam_grams, exam_owner = exam_grams[order], exam_owner[order]
    sources: dict[int, int] = {}
    if not len(exam_grams):
        return sources
    for start in range(0, len(texts), _CHUNK):
        values, owner = grams(hash_texts(texts[start : start + _CHUNK]), n, units=True)
        position = np.minimum(np.searchsorted(exam_grams, values), len(exam_grams) - 1)
        hit = exam_grams[position] == values
        for text, source in zip((owner[hit] + start).tolist(), exam_owner[position[hit]].tolist(), strict=True):
            sources[text] = min(source, sources.get(text, source))
    return sources
