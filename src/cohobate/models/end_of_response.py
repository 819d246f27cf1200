"""The end of a response: the id that SFT teaches, and the ids at which a sampler stops.

A model may know several ends, and use one of them behind a response: Gemma's tokenizer calls <eos> its end, and its
chat template ends a turn with <end_of_turn>; Llama 3 has <|eot_id|> and <|end_of_text|>. A base model and a chat model
of one family know different ones. A student that ends with another id than its teacher unlearns to end within a few
on-policy steps, since the teacher gives that id 25 nats less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_PROBE = "cohobate"


class HasEnds(Protocol):
    """A loaded model, or its outline."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def eos_ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Ends:
    """taught: the id that SFT teaches behind a response; stops: every id at which the student's sampler stops."""

    taught: int
    stops: tuple[int, ...]


def end_ids(*sources: Any) -> tuple[int, ...]:
    """Every id that ends a response, by the generation config, the model config and the tokenizer, in that order."""
    ids: list[Any] = []
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        ids += value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def taught_end(tokenizer: Any) -> int:
    """The id that ends a text, by the tokenizer alone."""
    return int(tokenizer.eos_token_id)


def turn_end(tokenizer: Any) -> int | None:
    """The special token that the chat template writes behind the assistant's message; None where it writes none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # a template raises what it likes; preflight says what is wrong with it
        return None
    behind = tokenizer(text.rpartition(_PROBE)[2].lstrip(), add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    return int(behind[0]) if behind and behind[0] in added and added[behind[0]].special else None


def own_end(model: HasEnds) -> int:
    """The end that a model uses behind its own responses: its template's where it stops there, else its tokenizer's."""
    end, usual = turn_end(model.tokenizer), model.tokenizer.eos_token_id
    if end is not None and end in model.eos_ids:
        return end
    return int(usual) if usual in model.eos_ids or not model.eos_ids else model.eos_ids[0]


def response_ends(student: HasEnds, teacher: HasEnds | None, *, teach: bool, chat: bool) -> Ends:
    """The ends of a student's responses.

    teacher: where its model is known here. teach: the teacher's end is taught, where both read the same tokens, else
    that of the student's template; otherwise the student keeps its own. chat: whether the student is asked by its
    template.
    """
    shared = teacher is not None and teacher.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    turn = turn_end(student.tokenizer) if chat else None
    if not teach or (not shared and turn is None):
        taught = taught_end(student.tokenizer)
    elif teacher is not None and shared:
        taught = own_end(teacher)
    else:
        assert turn is not None
        taught = turn
    theirs = teacher.eos_ids if teacher is not None and shared else ()
    return Ends(taught, tuple(dict.fromkeys([taught, *student.eos_ids, *theirs])))


def ends_revision(student: Path, teacher: Path | None) -> dict[str, int]:
    """The part of an identity that says how the ends are chosen: empty where every rule chooses the same.

    The first rule, which has no number, taught the end of the student's tokenizer and stopped at the student's ends.
    Only files of JSON are read, so that an artifact is looked up without the libraries of models.
    """
    own = _written_ends(student)
    others = [own] if teacher is None else [own, _written_ends(teacher)]
    simple = all(ends == own for ends in others) and all(_template_ends_so(folder) for folder in (teacher or student,))
    return {} if simple else {"ends": 2}


def _written_ends(folder: Path) -> tuple[frozenset[int], str | None]:
    """The ids in the configs, and the text of the tokenizer's end."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read(folder / name).get("eos_token_id")
        ids |= set(value) if isinstance(value, list) else {value} if isinstance(value, int) else set()
    return frozenset(ids), _eos_token(folder)


def _eos_token(folder: Path) -> str | None:
    token = _read(folder / "tokenizer_config.json").get("eos_token")
    return token.get("content") if isinstance(token, Mapping) else token


def _template_ends_so(folder: Path) -> bool:
    """Whether the chat template names the tokenizer's end."""
    file = folder / "chat_template.jinja"
    written = file.read_text(encoding="utf-8") if file.is_file() else ""
    template = written or str(_read(folder / "tokenizer_config.json").get("chat_template") or "")
    return "eos_token" in template or str(_eos_token(folder)) in template


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
