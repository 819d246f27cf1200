"""Text and token ids, where a special token in a text is text, and one that carries structure is not lost.

Somebody may write <|im_end|> in a question or an answer: that is text, and must not become the control token. A model
that marks its reasoning with special tokens ([THINK], gpt-oss's channels) means them: they stay in the text of its
response, and become the tokens again where a student learns that text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from cohobate.core.errors import ModelError

# Names in tags around reasoning: <think>, </think>.
THOUGHT = r"think|thinking|thought|thoughts|reasoning|reason|reflection|scratchpad|inner_monologue|seed:think"
_MARK = re.compile(
    rf"</?(?:{THOUGHT}|response)>|\[/?THINK\]|◁/?think▷|<\|/?think(?:ing)?\|>|<\|(?:begin|end)_of_(?:thought|solution)\|>"
    r"|<\|(?:start|end)_(?:thinking|response|text)\|>|<\|inner_(?:prefix|suffix)\|>|<\|channel>|<channel\|>",
    re.IGNORECASE,
)
# The channels of gpt-oss; <|end|> alone is the end of a turn in other families.
_CHANNEL = frozenset({"<|channel|>", "<|message|>"})
_HARMONY = _CHANNEL | {"<|start|>", "<|end|>", "<|constrain|>"}


@dataclass(frozen=True)
class _Special:
    """The special tokens of a tokenizer.

    structure: the ids of those that carry the structure of a response. others: the ids of the rest. control: finds the
    rest in a text. added: finds whatever becomes a token by its text alone.
    """

    structure: frozenset[int]
    others: frozenset[int]
    control: re.Pattern[str]
    added: re.Pattern[str]


_tokens: WeakKeyDictionary[Any, _Special] = WeakKeyDictionary()


def structure_of(special: Iterable[str]) -> frozenset[str]:
    """Those of the special tokens that carry the structure of a response."""
    names = frozenset(special)
    channels = _HARMONY if names >= _CHANNEL else frozenset[str]()
    return frozenset(name for name in names if _MARK.fullmatch(name)) | (names & channels)


def holds_control(tokenizer: Any, text: str) -> bool:
    """Whether a part of `text` would become a token of its own, special or added, where it is encoded as it is."""
    return _of(tokenizer).added.search(text) is not None


def encode(tokenizer: Any, text: str, *, behind: str = "") -> list[int]:
    """Ids of `text` with nothing added; special tokens in it are text, but for those of a response's structure.

    behind: a text before it, whose special tokens are what they say; its ids are part of the result. Raises ModelError
    where the tokenizer makes a special token of text whatever is done.
    """
    control = _of(tokenizer).control
    if control.search(text):
        return _sanitized(tokenizer, behind, text, control)
    ids: list[int] = tokenizer(behind + text, add_special_tokens=False)["input_ids"]
    return ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of `ids` as it was said: without special tokens, but for those of a response's structure."""
    special = _of(tokenizer)
    spoken = [each for each in ids if each not in special.others] if special.structure else list(ids)
    text: str = tokenizer.decode(spoken, skip_special_tokens=not special.structure, clean_up_tokenization_spaces=False)
    return text


def _sanitized(tokenizer: Any, behind: str, text: str, control: re.Pattern[str]) -> list[int]:
    from transformers.utils.chat_template_utils import mark_control_tokens

    marked = behind + mark_control_tokens(text, control)
    try:
        ids: list[int] = tokenizer(marked, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"]
    except ValueError as error:
        raise ModelError(unwritable(tokenizer, error)) from error
    return ids


def unwritable(tokenizer: Any, error: Exception) -> str:
    """The sentence for a tokenizer that reads a special token out of any text that names it."""
    return (
        f"the tokenizer of '{tokenizer.name_or_path}' cannot write a special token as text ({error}); set "
        "questions.special_tokens = 'set_aside' to leave out the questions that hold one"
    )


def _of(tokenizer: Any) -> _Special:
    tokens = _tokens.get(tokenizer)
    if tokens is None:
        added = tokenizer.added_tokens_decoder
        special = {number: str(token.content) for number, token in added.items() if token.special}
        structure = structure_of(special.values())
        tokens = _tokens[tokenizer] = _Special(
            structure=frozenset(number for number, name in special.items() if name in structure),
            others=frozenset(number for number, name in special.items() if name not in structure),
            control=_finds(name for name in special.values() if name not in structure),
            added=_finds(str(token.content) for token in added.values() if not token.content.isspace()),
        )
    return tokens


def _finds(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of `names`, the longer first; of none, where there is none."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")
