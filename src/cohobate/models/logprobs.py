"""Score given tokens with a model in this process: one forward pass, logits only where the response is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.models.batching import batches, can_share, hidden_states
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Terms, Tokens, evaluate_in_chunks


@dataclass(frozen=True)
class Score:
    """A model's view of one response of R tokens: logprobs [R], and its last hidden states [R, d] (on the CPU)."""

    logprobs: torch.Tensor
    hidden: torch.Tensor


@torch.no_grad()
def score(model: Any, rows: Sequence[TrainingSequence], token_budget: int, pad_id: int) -> list[Score]:
    """The scores of `rows`, in their order. The model is put in eval mode: dropout must not touch a score."""
    was_training = model.training
    model.eval()
    head = model.get_output_embeddings()
    scores: dict[int, Score] = {}
    for batch in batches(rows, token_budget, pad_id, model.device, share=can_share(model)):
        hidden = hidden_states(model, batch)
        logprobs = _logprobs(head, hidden, batch.tokens)
        lengths = [len(rows[i].response) for i in batch.order]
        parts = zip(batch.order, logprobs.cpu().split(lengths), hidden.cpu().split(lengths), strict=True)
        # Clones, because a split view would keep the whole batch alive.
        scores.update((i, Score(own.clone(), states.clone())) for i, own, states in parts)
    model.train(was_training)
    return [scores[i] for i in range(len(rows))]


def _logprobs(head: Any, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Log-probabilities [N] of the response tokens, in float32."""
    found: list[torch.Tensor] = []

    def collect(logits: torch.Tensor, part: Tokens) -> Terms:
        found.append(logits.log_softmax(-1).gather(-1, part.ids[:, None])[:, 0])
        return {}

    evaluate_in_chunks(collect, head, hidden, tokens, head.out_features)
    return torch.cat(found)
