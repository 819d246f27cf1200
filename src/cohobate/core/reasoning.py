"""Split a response into its thoughts and what is visible: think tags, channels and phrases of many model families.

A thought may be closed, cut off, opened in the prompt, opened twice, nested or repeated. What stands in one is never
visible. Every function takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Names of tags: think, thinking, inner_thoughts, reasoning-steps, chain_of_thought, seed:think ...
_NAMES = (
    r"(?:[a-z0-9]{1,12}[_:-]){0,3}(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflections?|reflexion|reflect|scratch_?pad|"
    r"analysis|monologue|rationale|cot|deliberation|pondering|brainstorm(?:ing)?)(?:[_-][a-z0-9]{1,12}){0,2}|antthinking|"
    r"思考过程|思考|推理过程|推理|思维链|réflexion|pensée|razonamiento|pensamiento|raciocínio|gedanken|überlegung|"
    r"размышления|размышление|рассуждение"
)
# Opening and closing marks that are no tags.
_MARKS = {
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|think|>": "<|/think|>",
    "<|thinking|>": "<|/thinking|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
}
_KIND_OF_OPENER = {opener: number for number, opener in enumerate(_MARKS)}
_KIND_OF_CLOSER = {closer: number for number, closer in enumerate(_MARKS.values())}
_TAG = re.compile(
    rf"<\s?(?P<slash>/?)\s?(?P<name>{_NAMES})(?:\s[^<>\n]{{0,100}})?(?<!/)>|"
    + "|".join(map(re.escape, [*_MARKS, *_MARKS.values()])),
    re.IGNORECASE,
)
_QUOTES = "`'\"“”‘’"
# Channels of gpt-oss: <|start|>ROLE<|channel|>NAME<|message|>TEXT<|end|>.
_HARMONY = re.compile(r"<\|(start|channel|message|end|return|call|constrain)\|>")
# The same where the server has left out the marks.
_BARE_CHANNEL = re.compile(r"\s*analysis(?=[A-Z0-9\"'(*\\$])")
_BARE_FINAL = "assistantfinal"
_GRANITE = re.compile(r"\s*\**Here(?: is|'s) my thought process:\**", re.IGNORECASE)
_GRANITE_END = re.compile(r"\**Here(?: is|'s) my response:\**", re.IGNORECASE)
_WRAPPERS = re.compile(
    r"</?response>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>|<\|(?:begin|end)_of_solution\|>", re.IGNORECASE
)
_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end_of_text|endoftext|return|end|END_OF_TURN_TOKEN|im_start|user|end_of_role)\|>"
    r"|<end_of_turn>|<turn\|>|</s>|<｜end▁of▁sentence｜>|<｜User｜>|\[e~\["
)


@dataclass(frozen=True)
class Split:
    """thought: None where nothing marks one, "" where the marks are empty. visible: what the reader is given."""

    thought: str | None
    visible: str


def split(text: str) -> Split:
    """Thoughts and visible text of a response, without the marks of either."""
    thought, visible = _apart(text)
    visible = _first_turn(visible)
    if "<" in visible:
        visible = _WRAPPERS.sub("", visible)
    return Split(thought, visible)


def _apart(text: str) -> tuple[str | None, str]:
    if "<|message|>" in text or "<|channel|>" in text:
        return _channels(text)
    if (bare := _BARE_CHANNEL.match(text)) and (_BARE_FINAL in text or "</" not in text):
        before, _, after = text[bare.end() :].partition(_BARE_FINAL)
        return before.strip(), after
    if granite := _GRANITE.match(text):
        end = _GRANITE_END.search(text, granite.end())
        return text[granite.end() : end.start() if end else None].strip(), text[end.end() :] if end else ""
    return _tagged(text)


def _channels(text: str) -> tuple[str | None, str]:
    """The final channel is visible; every other one is a thought."""
    thoughts: list[str] = []
    visible: list[str] = []
    channel, at, in_header = "analysis", 0, False  # text before the first mark: the prompt has opened its channel
    for mark in _HARMONY.finditer(text):
        piece = text[at : mark.start()]
        if not in_header:
            (visible if channel == "final" else thoughts).append(piece)
        elif piece.strip() and channel == "":
            channel = piece.split()[0]
        if mark[1] == "channel":
            channel = ""
        elif mark[1] == "start":
            channel = "final"  # unless its header names another one
        in_header = mark[1] != "message"
        at = mark.end()
    if not in_header:
        (visible if channel == "final" else thoughts).append(text[at:])
    return _joined(thoughts), "\n".join(visible)


def _tagged(text: str) -> tuple[str | None, str]:
    """A tag inside a thought does not nest: a further closing tag makes a thought of what stands before it."""
    tags = [tag for tag in _TAG.finditer(text) if not _is_quoted(text, tag)]
    last_closer = {_kind(tag): tag.start() for tag in tags if _closes(tag)}
    tags = list(_without_words(text, tags, set(last_closer)))
    if not tags:
        return None, text
    thoughts: list[str] = []
    visible: list[str] = []
    inside: str | int | None = None
    at = 0
    for tag in tags:
        piece, closes, kind = text[at : tag.start()], _closes(tag), _kind(tag)
        if inside is None and not closes:
            visible.append(piece)
            inside = kind
        elif closes and inside is not None and kind != inside and last_closer.get(inside, -1) > tag.start():
            continue  # another kind's closing tag, quoted in the thought
        else:
            thoughts.append(piece)
            inside = None if closes else inside
        at = tag.end()
    (visible if inside is None else thoughts).append(text[at:])
    return _joined(thoughts), "\n".join(piece for piece in visible if piece.strip())


def _without_words(text: str, tags: list[re.Match[str]], closed: set[str | int]) -> Iterator[re.Match[str]]:
    """The tags that mark thoughts: one in angle brackets that is never closed, within a line, is a word (List<Reason>).

    closed: the kinds that have a closing tag anywhere.
    """
    end = 0  # of the tag before
    for tag in tags:
        at = tag.start()
        while at > end and text[at - 1].isspace() and text[at - 1] != "\n":
            at -= 1
        begins = at == 0 or text[at - 1] == "\n" or (at == end and end > 0)
        if begins or not tag["name"] or _kind(tag) in closed:
            yield tag
            end = tag.end()


def _kind(tag: re.Match[str]) -> str | int:
    if tag["name"]:
        return tag["name"].lower()
    mark = tag[0].lower()
    return _KIND_OF_OPENER[mark] if mark in _KIND_OF_OPENER else _KIND_OF_CLOSER[mark]


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag["slash"]) if tag["name"] else tag[0].lower() in _KIND_OF_CLOSER


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    before, after = text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]
    return bool(before and after) and before in _QUOTES and after in _QUOTES


def _joined(parts: list[str]) -> str:
    return "\n".join(stripped for part in parts if (stripped := part.strip()))


def _first_turn(text: str) -> str:
    """Without what stands after the first mark of the end of a turn."""
    if "<" not in text and "[" not in text:
        return text
    for mark in _TURN_END.finditer(text):
        if text[: mark.start()].strip() and not (mark[0] == "</s>" and "<s>" in text):
            return text[: mark.start()]
    return text
