"""The compute ledger: FLOPs and tokens by stage, model and kind of work, from measured lengths.

Forward pass of a decoder: 2 FLOPs per weight and token in the matrix products (of a mixture of experts, the experts
that a token goes through), 4 * heads * head_dim FLOPs per layer and (query, key) pair in causal attention, 2 * width *
vocabulary for each position whose logits are read (Kaplan et al. 2020, section 2.1; Hoffmann et al. 2022, appendix F);
models/model_cost.py counts them in a model. Backward costs twice the forward. Norms,
activations and sampling are left out (under 1% of the rest), and so is what checkpointing computes a second time, or
what is saved where sequences have the same prompt: these are the FLOPs that the method needs for sequences that stand
alone, not those that the hardware spends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Work = Literal["generation", "rollout", "scoring", "update", "adapter update", "evaluation", "judging"]
Paid = Literal["here", "earlier"]

# In forward passes over the same sequences. Backward costs two; with LoRA one, since the frozen weights need no
# gradient (the adapters' own share, rank / width, is left out).
PASSES = {"update": 3, "adapter update": 2}


@dataclass(frozen=True)
class ModelCost:
    """The cost of one token of a model, in FLOPs."""

    params: int
    linear: int  # per token, all layers, without the output head
    pair: int  # per (query, key) pair, all layers that attend to everything
    head: int  # per position whose logits are read
    near_pair: int = 0  # per (query, key) pair, all layers that reach back `window` tokens
    window: int = 0

    def forward(self, lengths: Iterable[int], logits: int) -> int:
        """One pass over sequences of `lengths` tokens, reading `logits` positions in all."""
        lengths = list(lengths)
        attention = sum(self.pair * _pairs(n, n) + self.near_pair * _pairs(n, self.window) for n in lengths)
        return self.linear * sum(lengths) + attention + self.head * logits

    def respond(self, prompts: Sequence[int], responses: Sequence[int]) -> int:
        """Generate `responses` after `prompts` (lengths), or score them in one pass: the same products.

        The last token of a response is never read, so prompt + response - 1 tokens pass through the layers.
        """
        lengths = [p + r - 1 for p, r in zip(prompts, responses, strict=True)]
        return self.forward(lengths, sum(responses))


def _pairs(length: int, window: int) -> int:
    """(query, key) pairs of a sequence in which each token attends to itself and the window - 1 before it."""
    reach = min(length, window)
    return reach * (reach + 1) // 2 + (length - reach) * reach


# A model behind an endpoint: its tokens are counted; its size and FLOPs are unknown.
UNKNOWN = ModelCost(params=0, linear=0, pair=0, head=0)


def is_teacher(model: str) -> bool:
    """Whether the ledger's name of a model is that of the teacher, or of one of several."""
    return model.split(" ", maxsplit=1)[0] == "teacher"


@dataclass(frozen=True)
class LedgerEntry:
    """Work of one kind by one model in one stage. `tokens` are response tokens, `flops` covers prompts too.

    params and flops are 0 where the model's size is unknown.
    """

    stage: str
    model: str
    work: Work
    params: int
    sequences: int
    prompt_tokens: int
    tokens: int
    flops: int
    paid: Paid = "here"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def entry(
    stage: str,
    model: str,
    work: Work,
    cost: ModelCost,
    prompt_lengths: Sequence[int],
    response_lengths: Sequence[int],
    paid: Paid = "here",
) -> LedgerEntry:
    """The entry for sequences of these measured lengths."""
    forward = cost.respond(prompt_lengths, response_lengths)
    flops = PASSES.get(work, 1) * forward
    return LedgerEntry(
        stage,
        model,
        work,
        cost.params,
        len(prompt_lengths),
        sum(prompt_lengths),
        sum(response_lengths),
        flops,
        paid,
    )


def total(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """Entries of the same stage, model, work and payer added up, in order of first appearance."""
    sums: dict[tuple[str, ...], LedgerEntry] = {}
    for item in entries:
        key = (item.stage, item.model, item.work, item.paid)
        sums[key] = _add(sums[key], item) if key in sums else item
    return list(sums.values())


def _add(a: LedgerEntry, b: LedgerEntry) -> LedgerEntry:
    return LedgerEntry(
        a.stage,
        a.model,
        a.work,
        a.params,
        a.sequences + b.sequences,
        a.prompt_tokens + b.prompt_tokens,
        a.tokens + b.tokens,
        a.flops + b.flops,
        a.paid,
    )
