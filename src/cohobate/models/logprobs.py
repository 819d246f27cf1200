"""Score given tokens with a model in this process: one forward pass, logits only where the response is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.models.batching import batches, can_share, hidden_states
from cohobate.models.output_layer import OutputLayer
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Terms, Tokens, evaluate_in_chunks


@dataclass(frozen=True)
class TokenScores:
    """A model's scores of the R tokens of one response; None where a score was not computed.

    logprobs: [R], of the tokens, in nats at temperature 1. hidden: [R, d], last hidden states, on the model's device.
    top_ids, top_logprobs: [R, K], the most probable tokens. ghost_ids: [R], the model's own choice at each token.
    spans: [R], the number of the span that each token shares with another tokenizer's tokens, -1 for none.
    """

    logprobs: torch.Tensor
    hidden: torch.Tensor | None = None
    top_ids: torch.Tensor | None = None
    top_logprobs: torch.Tensor | None = None
    ghost_ids: torch.Tensor | None = None
    spans: torch.Tensor | None = None

    def features(self) -> dict[str, torch.Tensor]:
        """The teacher's scores by the names of the fields of `Tokens`; spans are no feature of a token."""
        values = {name: getattr(self, field) for name, field in _FEATURES.items()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_features(cls, features: Mapping[str, torch.Tensor]) -> TokenScores:
        """The scores of which `features` are these."""
        return cls(**{_FEATURES[name]: value for name, value in features.items()})


_FEATURES = {
    "teacher_logprobs": "logprobs",
    "teacher_hidden": "hidden",
    "teacher_top_ids": "top_ids",
    "teacher_top_logprobs": "top_logprobs",
    "ghost_ids": "ghost_ids",
}


@torch.no_grad()
def score(
    model: Any, rows: Sequence[TrainingSequence], token_budget: int, pad_id: int, *, keep_hidden: bool = True
) -> list[TokenScores]:
    """Log-probabilities and, unless `keep_hidden` is false, hidden states of the responses of `rows`, in their order.

    The model is put in eval mode: dropout must not touch a score.
    """
    was_training = model.training
    model.eval()
    output = OutputLayer(model)
    scores: dict[int, TokenScores] = {}
    for batch in batches(rows, token_budget, pad_id, model.device, share=can_share(model)):
        hidden = hidden_states(model, batch)
        logprobs = _logprobs(output, hidden, batch.tokens)
        lengths = [len(rows[i].response) for i in batch.order]
        parts = zip(batch.order, logprobs.cpu().split(lengths), hidden.split(lengths), strict=True)
        for i, own, states in parts:
            # Clones, because a split view would keep the whole batch alive.
            scores[i] = TokenScores(own.clone(), states.clone() if keep_hidden else None)
    model.train(was_training)
    return [scores[i] for i in range(len(rows))]


def _logprobs(output: OutputLayer, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Log-probabilities [N] of the response tokens, in float32."""
    parts: list[torch.Tensor] = []

    def collect(logits: torch.Tensor, part: Tokens) -> Terms:
        parts.append(logits.log_softmax(-1).gather(-1, part.ids[:, None])[:, 0])
        return {}

    evaluate_in_chunks(collect, output, hidden, tokens, output.vocabulary)
    return torch.cat(parts)
