"""Token-budget batches: sequences of like length side by side, padded on the right, no padding ever learnt from.

Right padding needs no attention mask: causal attention never looks ahead of a real token, and what pads compute is
not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cohobate.decoder.decoder import Decoder, causal
from cohobate.lastlayer import mlp_only_at
from cohobate.objectives.base import Tokens


@dataclass(frozen=True)
class Row:
    """A sequence to learn from or to score: `ids`, of which the first `context` (>= 1) carry no loss.

    known: what is known about each of the len(ids) - context response tokens, by the name of the field of `Tokens`;
    tensors with that first dimension.
    """

    ids: Sequence[int]
    context: int
    known: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def response(self) -> Sequence[int]:
        return self.ids[self.context :]


@dataclass(frozen=True)
class Batch:
    """Rows padded to one width, and where their response tokens are predicted.

    inputs: [B, T] (the last token of a row is never an input); rows, columns: [N], the positions whose logits predict
    `tokens.ids`; order: index of each batch row in the list it was made from.
    """

    inputs: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    tokens: Tokens
    order: list[int]


def batches(rows: Sequence[Row], token_budget: int, pad_id: int, device: torch.device | str) -> Iterator[Batch]:
    """`rows` in batches of at most `token_budget` padded tokens (a longer row is a batch of its own)."""
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
    start = 0
    while start < len(order):
        stop = _stop([len(rows[i].ids) - 1 for i in order[start : start + token_budget]], token_budget)
        chosen = order[start : start + stop]
        yield _collate([rows[i] for i in chosen], chosen, pad_id, device)
        start += stop


def _stop(widths: list[int], token_budget: int) -> int:
    """How many of the rows of these widths, the widest first, make a batch.

    As many as fit; but a batch that is a quarter full ends where the next row would be more than a tenth padding.
    """
    widest = max(1, widths[0])
    for count, width in enumerate(widths[1:], start=1):
        full = (count + 1) * widest > token_budget
        if full or (4 * count * widest >= token_budget and 10 * width < 9 * widest):
            return count
    return len(widths)


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states [N, d] at the positions that predict the response tokens of `batch`."""
    width = batch.inputs.shape[1]
    if (fast := Decoder.of(model)) is not None:
        cos, sin = fast.angles(torch.arange(width, device=batch.inputs.device))
        return fast.read(batch.inputs, cos[:, None], sin[:, None], causal, batch.rows * width + batch.columns)
    decoder = model.get_decoder()
    with mlp_only_at(decoder, batch.rows, batch.columns):
        states = decoder(input_ids=batch.inputs, use_cache=False).last_hidden_state
    chosen: torch.Tensor = states[batch.rows, batch.columns]
    return chosen


def _collate(rows: list[Row], order: list[int], pad_id: int, device: torch.device | str) -> Batch:
    width = max(1, max(len(row.ids) for row in rows) - 1)
    inputs = torch.full((len(rows), width), pad_id)
    for i, row in enumerate(rows):
        inputs[i, : len(row.ids) - 1] = torch.tensor(list(row.ids[:-1]), dtype=torch.long)
    where = [(i, t - 1) for i, row in enumerate(rows) for t in range(row.context, len(row.ids))]
    places = torch.tensor(where, dtype=torch.long).reshape(-1, 2)
    ids = torch.tensor([token for row in rows for token in row.response], dtype=torch.long)
    known = {name: torch.cat([row.known[name] for row in rows]).to(device) for name in rows[0].known}
    return Batch(
        inputs.to(device),
        places[:, 0].to(device),
        places[:, 1].to(device),
        Tokens(ids=ids.to(device), **known),
        order,
    )
