"""Student p and teacher q side by side, whole or as top-k and a tail, and the divergences between them.

A view maps logits [N, V] and what is known about N tokens to (log p, log q), both [N, M]: the M shared tokens of the
vocabulary, or the K + 1 buckets of the teacher's K most probable tokens and all the others. -inf is probability 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cohobate.models.token_loss import Head, Tokens, chunk_elements, chunk_tokens, required

if TYPE_CHECKING:
    import torch

View: TypeAlias = "Callable[[torch.Tensor, Tokens], tuple[torch.Tensor, torch.Tensor]]"

# The smallest probability that float32 holds is about e^-103: what lies below it counts as e^-100.
LOG_FLOOR = -100.0
# A float32 sum near 1 differs from 1 by rounding, of either sign.
TAIL_FLOOR = 1e-7


def floored(logprobs: torch.Tensor) -> torch.Tensor:
    """`logprobs` with 0 probability made e^-100: its products, differences and gradients stay finite."""
    return logprobs.clamp(min=LOG_FLOOR)


def kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """KL(a || b) [N] in nats, sum_v a_v (log a_v - log b_v), of log-probabilities [N, M]."""
    log_a, log_b = floored(log_a), floored(log_b)
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def tempered(logprobs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probabilities [N, M] proportional to the (1 / temperature)-th power of the given ones."""
    return logprobs if temperature == 1 else (logprobs / temperature).log_softmax(-1)


@dataclass(frozen=True)
class FullVocabulary:
    """Every token of the vocabulary, with the teacher's logits from its hidden states; needs teacher_hidden."""

    teacher_head: Head

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        hidden = required(tokens.teacher_hidden, "teacher_hidden")
        with torch.no_grad():
            teacher = self.teacher_head(hidden).float()
        # Either model may have padding rows beyond the tokenizer that both share.
        shared = min(logits.shape[-1], teacher.shape[-1])
        return logits[:, :shared].log_softmax(-1), teacher[:, :shared].log_softmax(-1)


def top_k_and_tail(logits: torch.Tensor, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """The K + 1 buckets of the teacher's top-k and the rest; needs teacher_top_ids and teacher_top_logprobs.

    The student's tail is summed over its own tokens; the teacher's is 1 - sum_S q, in log space.
    """
    import torch

    ids = required(tokens.teacher_top_ids, "teacher_top_ids")
    theirs = required(tokens.teacher_top_logprobs, "teacher_top_logprobs")
    vocabulary = logits.shape[-1]
    absent = ~theirs.isfinite() | (ids < 0) | (ids >= vocabulary)
    # Absent entries point at a column behind the vocabulary, which is dropped again.
    columns = ids.masked_fill(absent, vocabulary)
    listed = torch.zeros(len(logits), vocabulary + 1, dtype=torch.bool, device=logits.device)
    listed = listed.scatter(-1, columns, True)[:, :vocabulary]

    student = logits.log_softmax(-1)
    inside = student.gather(-1, columns.clamp(max=vocabulary - 1)).masked_fill(absent, -math.inf)
    # Not -inf: the gradient of a log-sum over nothing would be NaN.
    tail = student.masked_fill(listed, torch.finfo(student.dtype).min).logsumexp(-1, keepdim=True)

    theirs = theirs.masked_fill(absent, -math.inf)
    sum_listed = theirs.logsumexp(-1, keepdim=True).clamp(max=math.log1p(-TAIL_FLOOR))
    their_tail = (-torch.expm1(sum_listed)).log().masked_fill(listed.all(-1, keepdim=True), -math.inf)
    return torch.cat([inside, tail], -1), torch.cat([theirs, their_tail], -1)


def most_probable(teacher_head: Head, hidden: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The most probable token [N] of the teacher, from its hidden states [N, d].

    vocabulary: the tokens that both models share; the rows of the head behind them are padding.
    """
    import torch

    with torch.no_grad():
        parts = hidden.split(chunk_tokens(vocabulary, chunk_elements(hidden.device)))
        return torch.cat([teacher_head(part)[:, :vocabulary].argmax(-1) for part in parts])


def most_probable_listed(top_ids: torch.Tensor, top_logprobs: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The most probable token [N] among the teacher's top-k [N, K]; -1 where no shared token is listed."""
    shared = top_logprobs.masked_fill(top_ids >= vocabulary, -math.inf)
    best, place = shared.max(-1, keepdim=True)
    return top_ids.gather(-1, place).masked_fill(best.isneginf(), -1)[:, 0]
