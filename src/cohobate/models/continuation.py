"""Token ids of a text that goes on behind a chat's prompt.

Tokenizers of SentencePiece's kind write a space before the first word: some of the whole text, some of each text behind
a special token. A text alone then has other ids than behind a prompt that ends with a line end or with `[/INST]`.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from cohobate.models.rendering import Rendering, rendered
from cohobate.models.special_tokens import encode

_PROBE = "cohobate"
_adding: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def continuation(tokenizer: Any, text: str, rendering: Rendering | None) -> list[int]:
    """Ids of `text` behind the prompt of a chat; rendering: None where the prompt is plain text.

    What the template writes between the prompt and the assistant's words (Llama 2 a space) belongs to the text.
    """
    if rendering is None or not _adds_a_space(tokenizer):
        return encode(tokenizer, text)
    question, reply = ({"role": role, "content": _PROBE} for role in ("user", "assistant"))
    prompt = rendered(tokenizer, [question], rendering)
    conversation = rendered(tokenizer, [question, reply], rendering, generate=False)
    between = conversation.removeprefix(prompt).partition(_PROBE)[0] if conversation.startswith(prompt) else ""
    before = encode(tokenizer, "", behind=prompt)
    ids = encode(tokenizer, (between if between.isspace() else "") + text, behind=prompt)
    return ids[len(before) :] if ids[: len(before)] == before else encode(tokenizer, text)


def _adds_a_space(tokenizer: Any) -> bool:
    """Whether text alone has other ids than behind other text."""
    if tokenizer not in _adding:
        line, both = encode(tokenizer, "\n"), encode(tokenizer, "\n" + _PROBE)
        _adding[tokenizer] = both != [*line, *encode(tokenizer, _PROBE)]
    return _adding[tokenizer]
