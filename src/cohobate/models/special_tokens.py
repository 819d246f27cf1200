"""Text and token ids, where a special token in a text is text, and one that carries structure is not lost.

Somebody may write <|im_end|> in a question or an answer: that is text, and must not become the control token. A model
that marks its reasoning with special tokens ([THINK], gpt-oss's channels) means them: they stay in the text of its
response, and become the tokens again where a student learns that text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
# Marks that no model reads which has not got them as tokens; tags are text to any.
_FOREIGN = re.compile(
    r"\[/?THINK\]|◁/?think▷|<\|(?:start|channel|message|constrain)\|>|<\|/?think(?:ing)?\|>|<\|channel>|<channel\|>"
    r"|<\|(?:begin|end)_of_thought\|>|<\|(?:START|END)_THINKING\|>"
)
# The channels of gpt-oss; <|end|> alone is the end of a turn in other families.
_BEGIN, _END = "\ufdd0", "\ufdd1"  # no characters; no text has them
_MARKED = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}|[{_BEGIN}{_END}]")
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


def foreign_marks(tokenizer: Any, text: str) -> bool:
    """Whether `text` has marks of structure that are tokens of another model, and only text to this one."""
    marks = set(_FOREIGN.findall(text))
    return any(not _of(tokenizer).added.fullmatch(mark) for mark in marks)


def control_tokens(tokenizer: Any, template: str) -> re.Pattern[str]:
    """A pattern of the tokens that only a chat template may write: the special ones, and added ones that it names."""
    added = [token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()]
    return _pattern(str(token.content) for token in added if token.special or token.content in template)


def tokens_of_no_response(tokenizer: Any) -> re.Pattern[str]:
    """A pattern of the special tokens that are no part of what a model says: all but those of structure."""
    return _of(tokenizer).control


def mark(value: Any, control: re.Pattern[str]) -> Any:
    """`value`, of JSON's kind, with marks around what `control` finds in its texts, for `encode_marked`."""
    if isinstance(value, str):
        return control.sub(rf"{_BEGIN}\g<0>{_END}", value.replace(_BEGIN, "").replace(_END, ""))
    if isinstance(value, Mapping):
        return {key: mark(item, control) for key, item in value.items()}
    return [mark(item, control) for item in value] if isinstance(value, list | tuple) else value


def encode_marked(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text`, in which each token that `mark` has found is text, as transformers' `sanitize_control_tokens`.

    A template may have cut between the marks: a mark without the other one is dropped. Raises ModelError where the
    tokenizer makes a special token of text whatever is done.
    """
    first, *pieces = _MARKED.split(text)
    ids = _as_is(tokenizer, first)
    for number, piece in enumerate(pieces):
        if piece:
            ids += _behind_a_line(tokenizer, piece, _as_is if number % 2 else _as_text)
    return ids


def _behind_a_line(tokenizer: Any, piece: str, ids_of: Callable[[Any, str], list[int]]) -> list[int]:
    """Ids of `piece` behind a line end, where no tokenizer adds the space that it writes at the beginning of a text."""
    line = _as_is(tokenizer, "\n")
    ids = ids_of(tokenizer, "\n" + piece)
    ids = ids[len(line) :] if ids[: len(line)] == line else ids_of(tokenizer, piece)
    if ids_of is _as_text and tokenizer.convert_tokens_to_ids(piece) in ids:
        raise ModelError(
            f"the tokenizer of '{tokenizer.name_or_path}' reads the special token {piece!r} in any text; set "
            "questions.special_tokens = 'set_aside' to leave out the questions that hold one"
        )
    return ids


def _as_is(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids


def _as_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` by the tokenizer's pipeline alone, without its added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    split = backend.pre_tokenizer
    parts = [part for part, _ in split.pre_tokenize_str(normal)] if split else [normal]
    return [token.id for part in parts for token in backend.model.tokenize(part)]


def encode(tokenizer: Any, text: str, *, behind: str = "") -> list[int]:
    """Ids of `text` with nothing added; special tokens in it are text, but for those of a response's structure.

    behind: a text before it, whose special tokens are what they say; its ids are part of the result. Raises ModelError
    where the tokenizer makes a special token of text whatever is done.
    """
    control = _of(tokenizer).control
    if control.search(text):
        return encode_marked(tokenizer, behind + mark(text, control))
    ids: list[int] = tokenizer(behind + text, add_special_tokens=False)["input_ids"]
    return ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of `ids` as it was said: without special tokens, but for those of a response's structure."""
    special = _of(tokenizer)
    spoken = [each for each in ids if each not in special.others] if special.structure else list(ids)
    text: str = tokenizer.decode(spoken, skip_special_tokens=not special.structure, clean_up_tokenization_spaces=False)
    return text


def _of(tokenizer: Any) -> _Special:
    tokens = _tokens.get(tokenizer)
    if tokens is None:
        added = tokenizer.added_tokens_decoder
        special = {number: str(token.content) for number, token in added.items() if token.special}
        structure = structure_of(special.values())
        tokens = _tokens[tokenizer] = _Special(
            structure=frozenset(number for number, name in special.items() if name in structure),
            others=frozenset(number for number, name in special.items() if name not in structure),
            control=_pattern(name for name in special.values() if name not in structure),
            added=_pattern(str(token.content) for token in added.values() if not token.content.isspace()),
        )
    return tokens


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of `names`, the longer first; of none, where there is none."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")
