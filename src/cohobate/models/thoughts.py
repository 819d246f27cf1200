"""The beginning of a thought that a chat template writes into the prompt, and responses that fit it.

Some templates end a prompt with `<think>`: the response then closes a thought that it has not opened. Some end it with
an empty thought, for a model that shall not think. What a student learns, and the prompt under which a teacher scores
it, must begin where the student's own prompt ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.core.reasoning import split
from cohobate.models.special_tokens import THOUGHT, foreign_marks

CLOSERS = {
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|think|>": "<|/think|>",
    "<|thinking|>": "<|/thinking|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
_PAIRS = "|".join(rf"{re.escape(opener)}(?:\s*{re.escape(end)})?" for opener, end in CLOSERS.items())
_OPENING = re.compile(rf"(?:<(?P<name>{THOUGHT})>(?:\s*</(?P=name)>)?|{_PAIRS})\s*\Z")
_OPENER = re.compile(rf"\s*(<(?:{THOUGHT})>|{'|'.join(map(re.escape, CLOSERS))})")
_CLOSER = re.compile(rf"</(?:{THOUGHT})>|{'|'.join(map(re.escape, CLOSERS.values()))}")
_LONGEST = 200  # characters
_TAIL = 24  # tokens; an opening with its white space has fewer


@dataclass(frozen=True)
class Opening:
    """The end of a prompt, from the mark of a thought on; closed: the thought is empty, and none shall follow."""

    text: str
    opener: str
    closer: str
    closed: bool


def opening_in(text: str) -> Opening | None:
    """The opening at the end of a prompt's text."""
    match = _OPENING.search(text[-_LONGEST:])
    if match is None:
        return None
    name, written = match["name"], match.group()
    opener = f"<{name}>" if name else next(each for each in CLOSERS if written.startswith(each))
    closer = f"</{name}>" if name else CLOSERS[opener]
    return Opening(written, opener, closer, closer in written)


def opening_of(tokenizer: Any, prompt: Sequence[int]) -> Opening | None:
    """The opening at the end of a prompt's ids."""
    return opening_in(_text(tokenizer, prompt[-_TAIL:]))


def reopened(tokenizer: Any, prompt: Sequence[int], opening: str) -> list[int]:
    """`prompt` with `opening` in place of its own, where that is another one."""
    own = opening_of(tokenizer, prompt)
    if (own.text if own else "") == opening:
        return list(prompt)
    bare = list(prompt if own is None else _without(tokenizer, prompt, own))
    ids: list[int] = tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
    return [*bare, *ids]


def _without(tokenizer: Any, prompt: Sequence[int], own: Opening) -> Sequence[int]:
    """`prompt` up to its opening; all of it where a token reaches over that place."""
    for count in range(1, min(_TAIL, len(prompt)) + 1):
        if _text(tokenizer, prompt[-count:]) == own.text:
            return prompt[:-count]
    return prompt


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


@dataclass(frozen=True)
class _Parts:
    """A response that thinks: "" for a mark that it lacks, and for what it did not come to say."""

    opener: str
    thought: str
    closer: str
    visible: str


def completed(response: str, opening: Opening | None) -> str:
    """A response's whole text, with the beginning of the thought that its prompt has opened."""
    if opening is None or opening.closed or response.lstrip().startswith(opening.opener):
        return response
    return opening.text + response


def fitted(response: str, opening: Opening | None) -> str:
    """`response` as it goes on behind a prompt that ends with `opening`: each thought has one beginning and one end.

    It is "" for a response that was cut in its thought, behind a prompt that lets none follow.
    """
    parts = _parts(response)
    if opening is None:
        if parts is None or parts.opener:
            return response
        return _opener_of(parts.closer) + ("" if response.startswith("\n") else "\n") + response
    if opening.closed:
        return response if parts is None else parts.visible.lstrip()
    if parts is None:
        return f"{opening.closer}\n\n{response}"
    if parts.opener == opening.opener:
        return response.lstrip().removeprefix(parts.opener).removeprefix(opening.text.removeprefix(opening.opener))
    if not parts.opener and parts.closer == opening.closer:
        return response
    end = f"\n{opening.closer}\n\n{parts.visible.lstrip()}" if parts.closer else ""
    return parts.thought.strip() + end


def translated(tokenizer: Any, response: str, *, ended: bool) -> str:
    """`response` with its thought between think tags, where it marks thoughts by tokens that `tokenizer` has not.

    ended: whether it is whole; the thought of one that was cut there stays open.
    """
    if not foreign_marks(tokenizer, response):
        return response
    parts = split(response)
    if parts.thought is None:
        return response
    if not parts.visible.strip() and not ended:
        return f"<think>\n{parts.thought}"
    return f"<think>\n{parts.thought}\n</think>\n\n{parts.visible.lstrip()}" if parts.thought else parts.visible


def _parts(response: str) -> _Parts | None:
    """The parts of a response; None where nothing marks a thought."""
    begins = _OPENER.match(response)
    opener = begins[1] if begins else ""
    rest = response[begins.end() :] if begins else response
    closer = _closer_of(opener) if opener else max(_CLOSER.findall(rest), key=rest.rfind, default="")
    if not opener and not closer:
        return None
    if not closer or closer not in rest:
        return _Parts(opener, rest, "", "")
    thought, _, visible = rest.rpartition(closer)
    return _Parts(opener, thought, closer, visible)


def _closer_of(opener: str) -> str:
    return CLOSERS.get(opener) or f"</{opener[1:]}"


def _opener_of(closer: str) -> str:
    return next((opener for opener, end in CLOSERS.items() if end == closer), f"<{closer[2:]}")
