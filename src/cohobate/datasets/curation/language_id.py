"""Texts in other languages than the allowed ones, by py3langid (character n-grams, naive Bayes): no network, one core.

Numbers, formulae, code and LaTeX are taken out first; a text with little left is in no language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from cohobate.core.errors import CurationError

# Below this probability of all allowed languages together, a text is in another one.
_UNLIKELY = 0.05
# Fewer bytes of letters (about four words, or seven Chinese characters) are too few to decide.
_BYTES = 20
# Few characters decide, and a response may change its language: its beginning and its end are read.
_SPAN = 400
_NO_LANGUAGE = re.compile(r"```.*?```|\$[^$]*\$|\\[a-zA-Z]+|<[^>]*>|https?://\S+|[\d\W_]+", re.DOTALL)


def foreign(texts: Iterable[str | None], allowed: Sequence[str]) -> dict[int, str | None]:
    """The texts in none of the `allowed` languages (ISO 639 codes), by index, with the likeliest language of each.

    Raises CurationError when py3langid is missing or does not know an allowed language.
    """
    check(allowed)
    languages: dict[int, str | None] = {}
    for index, text in enumerate(texts):
        for span in _spans(text or ""):
            ranked = dict(_identifier().rank(span))
            if sum(ranked[language] for language in allowed) < _UNLIKELY:
                languages[index] = next(iter(ranked))
                break
    return languages


def check(allowed: Sequence[str]) -> None:
    """Raise CurationError unless every allowed language can be identified."""
    codes = _identifier().labels
    unknown = [language for language in allowed if language not in codes]
    if unknown:
        raise CurationError(f"curation.languages: '{unknown[0]}' is not known; known are {', '.join(sorted(codes))}")


def _spans(text: str) -> list[str]:
    """The beginning and, of a long text, the end of its words."""
    if len(text) > 8 * _SPAN:
        text = f"{text[: 4 * _SPAN]} {text[-4 * _SPAN :]}"
    letters = _NO_LANGUAGE.sub(" ", text).strip()
    if len(letters) > 2 * _SPAN:
        return [letters[:_SPAN], letters[-_SPAN:]]
    return [letters] if len(letters.encode()) >= _BYTES else []


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise CurationError(
            "curation.languages needs the package py3langid; install it with: pip install 'cohobate[language]'"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
