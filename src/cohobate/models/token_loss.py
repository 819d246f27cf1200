"""The shape of an objective's loss per token, and its computation from hidden states in chunks.

A token loss maps the logits [N, V] (float32) and the features of N response tokens to `Terms`: sums over the N tokens,
of which `loss` is differentiable. The training loop divides by the token count of the entire optimizer step, so that no
split into micro-batches changes the result.

The declarations of objectives import this module, so torch is imported where it computes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

# The number of logits that exist at a time, in elements of float32: 48 MB, and as much again for each tensor made of
# them. No smaller for a large vocabulary: glibc takes blocks below 32 MB from the heap, which fragments and grows with
# every chunk.
CHUNK_ELEMENTS = 12_000_000
# On a GPU every chunk launches the same kernels and adds to the head's gradient, so chunks are larger: of an 80 GB card
# 160 million elements, with all that is made of them a twentieth of its memory. By the size of the card, not by what is
# free, since a resumed run has to add in the same order.
_CARD_BYTES_PER_ELEMENT, _LARGEST_CHUNK = 512, 192_000_000

# Sums over tokens; under a name that ends in `_max`, a maximum instead.
Terms: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Tokens:
    """Features of N response tokens; all but `ids` may be absent, and each loss names those that it needs.

    Log-probabilities are natural logarithms at temperature 1, [N] except where another shape is given.

    ids: [N], the tokens of the row. sampler_logprobs: of the token that was sampled, by the engine that sampled it;
    old_logprobs: the same by the trainer's model before the first update on this batch; teacher_logprobs: of `ids`.
    teacher_hidden: [N, d], the teacher's last hidden states, from which its logits follow.
    teacher_top_ids, teacher_top_logprobs: [N, K], the teacher's K most probable tokens (never the sampled one in
    addition: the set may depend on the context alone). An entry of log-probability -inf is no entry.
    advantages: [N], in the unit of the reward. length_advantages: [N], the same of the response's length.
    weights: [N], a factor or a coefficient of each token, as the objective defines it.
    ghost_ids: [N], in the student's own responses: the token that a better response has here, -1 for none.
    student_ids: [N], in given responses: the token that the student sampled at this place, -1 for none.
    """

    ids: torch.Tensor
    sampler_logprobs: torch.Tensor | None = None
    teacher_logprobs: torch.Tensor | None = None
    teacher_hidden: torch.Tensor | None = None
    old_logprobs: torch.Tensor | None = None
    advantages: torch.Tensor | None = None
    length_advantages: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    ghost_ids: torch.Tensor | None = None
    student_ids: torch.Tensor | None = None
    teacher_top_ids: torch.Tensor | None = None
    teacher_top_logprobs: torch.Tensor | None = None

    def slice(self, start: int, stop: int) -> Tokens:
        """Tokens start..stop."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        parts: dict[str, Any] = {k: v if v is None else v[start:stop] for k, v in values.items()}
        return Tokens(**parts)


TokenLoss: TypeAlias = "Callable[[torch.Tensor, Tokens], Terms]"
Head: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


def required(value: torch.Tensor | None, name: str) -> torch.Tensor:
    """`value`. Raises ValueError, which names the field, where it is None."""
    if value is None:
        raise ValueError(f"this objective needs {name} for every token")
    return value


def chunk_elements(device: torch.device) -> int:
    """The number of logits that exist at a time on `device`."""
    import torch

    if device.type != "cuda" or not torch.cuda.is_available():
        return CHUNK_ELEMENTS
    share = int(torch.cuda.get_device_properties(device).total_memory) // _CARD_BYTES_PER_ELEMENT
    return min(_LARGEST_CHUNK, max(CHUNK_ELEMENTS, share))


def chunk_tokens(vocabulary: int, elements: int = CHUNK_ELEMENTS) -> int:
    """The number of tokens whose logits, over a vocabulary of this size, exist at a time."""
    return max(1, elements // vocabulary)


def evaluate_in_chunks(
    loss: TokenLoss,
    head: Head,
    hidden: torch.Tensor,
    tokens: Tokens,
    vocabulary: int,
    elements: int | None = None,
) -> Terms:
    """`loss` over hidden states [N, d], with the logits of one chunk of tokens at a time.

    elements: logits of a chunk, so that memory does not grow with N * V; None: what suits the device. Where there are
    several chunks, only the loss is differentiable, and only once.
    """
    import torch

    from cohobate.models import chunked_loss

    size = chunk_tokens(vocabulary, elements or chunk_elements(hidden.device))
    if len(hidden) <= size:
        return loss(head(hidden).float(), tokens)

    def evaluate(logits: torch.Tensor, start: int, stop: int) -> Terms:
        return loss(logits, tokens.slice(start, stop))

    if torch.is_grad_enabled():
        chunks = chunked_loss.with_gradient(evaluate, head, hidden, size)
    else:
        spans = [(start, min(start + size, len(hidden))) for start in range(0, len(hidden), size)]
        chunks = [evaluate(head(hidden[start:stop]).float(), start, stop) for start, stop in spans]
    return functools.reduce(merge, chunks, {})


def merge(a: Terms, b: Terms) -> Terms:
    """The terms of two sets of tokens together: sums add, maxima take the larger."""
    import torch

    if not a:
        return dict(b)
    return {
        name: torch.maximum(a[name], value) if name.endswith("_max") else a[name] + value for name, value in b.items()
    }
