"""The token sequence that is learnt from or scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainingSequence:
    """Token ids of a prompt and its response, of which the first `context` (>= 1) carry no loss and get no score.

    features: tensors with a first dimension of len(ids) - context, one entry for each response token, by the names of
    the fields of `token_loss.Tokens`.
    """

    ids: Sequence[int]
    context: int
    features: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def response(self) -> Sequence[int]:
        """The ids behind the context."""
        return self.ids[self.context :]

    def with_features(self, **features: torch.Tensor) -> TrainingSequence:
        """The sequence with further features, or others under the names that it has."""
        return replace(self, features={**self.features, **features})

    def first(self, tokens: int | None) -> TrainingSequence:
        """The sequence with the first `tokens` of its response; None: with all of them."""
        if tokens is None or len(self.response) <= tokens:
            return self
        features = {name: value[:tokens] for name, value in self.features.items()}
        return TrainingSequence(self.ids[: self.context + tokens], self.context, features)
