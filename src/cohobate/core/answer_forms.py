"""Forms of a final answer that a recipe adds (`teacher.answer`): a pattern, a function, or the whole response."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cohobate.core.errors import RecipeError
from cohobate.core.user_code import is_function_name, load_function, source_hash

if TYPE_CHECKING:
    from cohobate.core.answer_statements import Statement

# The value that makes an answer of all that a response says after its thoughts.
WHOLE = "response"
_SETTING = "teacher.answer"
# On one response, whatever the pattern does; and texts on which a slow pattern is found out before anything is spent.
_PATTERN_SECONDS = 5.0
_SLOW = ("a", "0", " ", "a ", "0 ", "A", "\n", "Answer: ", "x = 1\n", "**", "\\boxed{")
_SLOW_LENGTH = 4000


def check_form(form: str | None) -> str | None:
    """The form, if it can be one. Raises ValueError for a pattern without exactly one group."""
    if form is None or form == WHOLE or is_function_name(form):
        return form
    import regex

    try:
        groups = regex.compile(form).groups
    except regex.error as error:
        raise ValueError(f"'{form}' is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(
            f"'{form}' has {groups} groups; give a regular expression with one group, which holds the answer, a "
            f"module:function, or '{WHOLE}'"
        )
    return form


def form_identity(form: str | None) -> dict[str, Any]:
    """What of a form changes the answers that are found; nothing without one. Raises RecipeError."""
    if form is None:
        return {}
    if not is_function_name(form):
        return {"answer_form": form}
    _function.cache_clear()  # what is called from now on is the source that this identity is of
    return {"answer_form": [form, source_hash(form, _SETTING, RecipeError)]}


def find_answer(text: str, form: str | None = None) -> Statement | None:
    """The last statement of an answer in what a response says; `form` is one more way to state it.

    Raises RecipeError for a function that cannot be loaded.
    """
    # Its hundred patterns are needed when the first response is there, and by the recipe not at all.
    from cohobate.core.answer_statements import Statement, last_statement

    if form is None:
        return last_statement(text)
    if form == WHOLE:
        return Statement(0, text.strip()) if text.strip() else None
    if is_function_name(form):
        answer = _called(form, text)
        if answer is None:
            return last_statement(text)
        at = text.rfind(answer)  # none where the function computes its answer: all of the text leads to it
        return Statement(len(text) if at < 0 else at, answer)
    own, other = _matched(form, text), last_statement(text)
    return own if other is None or (own is not None and own.start >= other.start) else other


def check_loads(form: str | None) -> None:
    """Refuse before spending. Raises RecipeError for a function that cannot be loaded, or a pattern that is slow."""
    if form is None or form == WHOLE:
        return
    if is_function_name(form):
        _function(form)
        return
    for unit in _SLOW:
        _matched(form, unit * (_SLOW_LENGTH // len(unit)) + "!")


def _matched(form: str, text: str) -> Statement | None:
    """The last match of a pattern that has something in its group."""
    import regex

    from cohobate.core.answer_statements import Statement

    own = None
    try:
        for match in regex.finditer(form, text, timeout=_PATTERN_SECONDS):
            if match[1] is not None and match[1].strip():
                own = Statement(match.start(), match[1].strip())
    except TimeoutError:
        raise RecipeError(
            f"{_SETTING}: the pattern '{form}' takes more than {_PATTERN_SECONDS:g} s on a text of {len(text):,} "
            "characters; give one without repeats inside of repeats"
        ) from None
    return own


def _called(form: str, text: str) -> str | None:
    """The stripped answer that the user's function gives; None where it gives none."""
    try:
        answer = _function(form)(text)
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(f"{_SETTING}: {form} fails on a response: {type(error).__name__}: {error}") from None
    if answer is not None and not isinstance(answer, str):
        raise RecipeError(f"{_SETTING}: {form} gives {answer!r:.80}, not a text or None")
    return (answer or "").strip() or None


@lru_cache(maxsize=8)
def _function(name: str) -> Callable[[str], Any]:
    return load_function(name, _SETTING, RecipeError)
