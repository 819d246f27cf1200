"""The tiny policy: mean embedding (32) of hashed words -> hidden layer (64) -> one logit per fixed answer.

The file is safetensors with the answers and sizes in its metadata, so it needs nothing else to be loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cohobate.core.atomic_files import replacing
from cohobate.core.errors import ModelError

NAME = "policy.safetensors"
_WORD = re.compile(r"\w+")


def word_ids(text: str, words: int) -> list[int]:
    """The row of each word of `text` in lower case: by sha256, since Python's own hash differs between runs."""
    digests = (hashlib.sha256(word.encode()).digest() for word in _WORD.findall(text.lower()))
    return [int.from_bytes(digest[:8], "big") % words for digest in digests]


class TinyPolicy(nn.Module):
    """Logits over `answers`; at the default sizes 64,000 + 2,112 + 650 weights."""

    def __init__(self, answers: Sequence[str], words: int = 2000, embedding: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.answers, self.words = tuple(answers), words
        self.bag = nn.EmbeddingBag(words, embedding, mode="mean")
        self.inner = nn.Linear(embedding, hidden)
        self.head = nn.Linear(hidden, len(self.answers))

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Logits [len(texts), answers], of no texts too. A text without words has a mean of 0."""
        ids = [word_ids(text, self.words) for text in texts]
        starts = torch.tensor([0, *map(len, ids)][:-1], dtype=torch.long).cumsum(0)
        flat = torch.tensor([i for row in ids for i in row], dtype=torch.long)
        logits: torch.Tensor = self.head(torch.relu(self.inner(self.bag(flat, starts))))
        return logits

    @torch.no_grad()
    def choose(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The probability of each answer to each text, the likeliest first."""
        table = self(texts).softmax(-1)
        ranked = []
        for row in table:
            order = row.argsort(descending=True, stable=True).tolist()
            ranked.append({self.answers[i]: float(row[i]) for i in order})
        return ranked

    def save(self, path: Path) -> None:
        """Write weights, answers and sizes into one file."""
        sizes = {"words": self.words, "embedding": self.bag.embedding_dim, "hidden": self.inner.out_features}
        metadata = {"answers": json.dumps(self.answers), "sizes": json.dumps(sizes)}
        with replacing(path) as temporary:
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary, metadata)


def load(path: Path) -> TinyPolicy:
    """The policy that `TinyPolicy.save` wrote. Raises ModelError when the file is no such policy."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            policy = TinyPolicy(json.loads(metadata["answers"]), **json.loads(metadata["sizes"]))
            policy.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        raise ModelError(f"{path} is no tiny policy; `cohobate policy train RECIPE` makes one") from None
    return policy.eval()
