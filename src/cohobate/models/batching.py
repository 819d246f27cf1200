"""Token-budget batches: sequences of similar length side by side, padded on the right; padding carries no loss.

Right padding needs no attention mask: causal attention never looks ahead of a real token, and the outputs of padding
are not read. Where many sequences have the same context, as the rollouts of a group have, it is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.models.decoder.decoder import Decoder, causal
from cohobate.models.decoder.shared_prefix import SharedLayout, lay_out, saved, split
from cohobate.models.decoder_module import decoder_module
from cohobate.models.last_layer import mlp_only_at
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Tokens

# Below this share of saved tokens, gathering them costs more than it saves.
_WORTH = 0.1


@dataclass(frozen=True)
class Padded:
    """Sequences padded to one width, and the positions that predict their response tokens.

    inputs: [B, T] (the last token of a row is never an input); rows, columns: [N], the positions whose logits predict
    the tokens.
    """

    inputs: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences that pass through the model together: where their tokens lie, and their response tokens' features.

    order: index of each sequence in the list that was batched; `tokens` has their responses in that order.
    """

    layout: Padded | SharedLayout
    tokens: Tokens
    order: list[int]


def batches(
    rows: Sequence[TrainingSequence], token_budget: int, pad_id: int, device: torch.device | str, *, share: bool = False
) -> Iterator[Batch]:
    """`rows` in batches of at most `token_budget` computed tokens (a longer row is a batch of its own).

    share: whether a context that several rows have may be computed once; `can_share` names the condition on the model.
    """
    if share and all(row.response for row in rows):
        pairs = [(row.ids[: row.context], row.response) for row in rows]
        if saved(pairs) >= _WORTH:
            return _shared(rows, pairs, token_budget, device)
    return _padded(rows, token_budget, pad_id, device)


def can_share(model: Any) -> bool:
    """Whether a batch of this model may be a shared one."""
    return Decoder.supports(model)


def _shared(
    rows: Sequence[TrainingSequence],
    pairs: list[tuple[Sequence[int], Sequence[int]]],
    budget: int,
    device: torch.device | str,
) -> Iterator[Batch]:
    for order in split(pairs, budget):
        yield Batch(lay_out([pairs[i] for i in order], device), _tokens([rows[i] for i in order], device), order)


def _padded(
    rows: Sequence[TrainingSequence], token_budget: int, pad_id: int, device: torch.device | str
) -> Iterator[Batch]:
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
    start = 0
    while start < len(order):
        stop = _stop([len(rows[i].ids) - 1 for i in order[start : start + token_budget]], token_budget)
        chosen = order[start : start + stop]
        yield _collate([rows[i] for i in chosen], chosen, pad_id, device)
        start += stop


def _stop(widths: list[int], token_budget: int) -> int:
    """The number of rows that make a batch, of rows of these widths in descending order.

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
    layout, decoder = batch.layout, Decoder.of(model)
    if isinstance(layout, SharedLayout):
        assert decoder is not None  # `can_share`
        return layout.hidden_states(decoder)
    if decoder is not None:
        rows, width = layout.inputs.shape
        positions = torch.arange(width, device=layout.inputs.device).repeat(rows)
        read = layout.rows * width + layout.columns
        return decoder.read(layout.inputs.flatten(), decoder.angles(positions), causal(rows), read)
    module = decoder_module(model)
    with mlp_only_at(module, layout.rows, layout.columns):
        states = module(input_ids=layout.inputs, use_cache=False).last_hidden_state
    chosen: torch.Tensor = states[layout.rows, layout.columns]
    return chosen


def _collate(rows: list[TrainingSequence], order: list[int], pad_id: int, device: torch.device | str) -> Batch:
    width = max(1, max(len(row.ids) for row in rows) - 1)
    inputs = torch.full((len(rows), width), pad_id)
    for i, row in enumerate(rows):
        inputs[i, : len(row.ids) - 1] = torch.tensor(list(row.ids[:-1]), dtype=torch.long)
    where = [(i, t - 1) for i, row in enumerate(rows) for t in range(row.context, len(row.ids))]
    places = torch.tensor(where, dtype=torch.long).reshape(-1, 2)
    layout = Padded(inputs.to(device), places[:, 0].to(device), places[:, 1].to(device))
    return Batch(layout, _tokens(rows, device), order)


def _tokens(rows: list[TrainingSequence], device: torch.device | str) -> Tokens:
    ids = torch.tensor([token for row in rows for token in row.response], dtype=torch.long)
    features = {name: torch.cat([row.features[name].to(device) for row in rows]) for name in rows[0].features}
    return Tokens(ids=ids.to(device), **features)
