"""The end of a response: the ids that stop a sampler, the id that SFT teaches, and whether two models agree on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cohobate.core.errors import ModelError

REMEDY = "so the student would learn never to stop; set eos_token_id in the student's generation_config.json"


def end_ids(*sources: Any) -> tuple[int, ...]:
    """Every id that ends a response, by the generation config, the model config and the tokenizer, in that order."""
    ids: list[Any] = []
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        ids += value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def taught_end(tokenizer: Any) -> int:
    """The id that a training sequence ends with, where the teacher's response ended by itself."""
    return int(tokenizer.eos_token_id)


def refuse_different_ends(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Raise ModelError unless student and teacher have a common end of response."""
    if not set(student) & set(teacher):
        raise ModelError(f"student and teacher end a response differently (ids {student} and {teacher}), {REMEDY}")
