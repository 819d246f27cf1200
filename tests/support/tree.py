"""A world small enough to enumerate: responses of three tokens out of five, a row of logits for each prefix."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch

from cohobate.models.token_loss import TokenLoss, Tokens

VOCABULARY, DEPTH = 5, 3
PREFIXES = [p for n in range(DEPTH) for p in product(range(VOCABULARY), repeat=n)]
PLACES = {prefix: place for place, prefix in enumerate(PREFIXES)}
RESPONSES = torch.tensor(list(product(range(VOCABULARY), repeat=DEPTH)))


def logits_of(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(objective: TokenLoss, logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    objective(leaf, tokens)["loss"].backward()
    assert leaf.grad is not None
    return leaf.grad


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def policy(seed: int, scale: float = 1.0) -> torch.Tensor:
    """Logits [prefixes, V]."""
    return logits_of(len(PREFIXES), VOCABULARY, seed=seed, scale=scale)


def places_of(responses: torch.Tensor) -> torch.Tensor:
    """The prefixes [n, depth] at which the tokens of `responses` [n, depth] are predicted."""
    return torch.tensor([[PLACES[tuple(r[:t])] for t in range(DEPTH)] for r in RESPONSES.tolist()])[index(responses)]


def index(responses: torch.Tensor) -> torch.Tensor:
    """The places [n] of `responses` [n, depth] in RESPONSES."""
    return (responses * VOCABULARY ** torch.arange(DEPTH - 1, -1, -1)).sum(-1)


def token_logprobs(logits: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [n, depth] of the tokens of `responses` under the policy `logits` [prefixes, V]."""
    return logits.log_softmax(-1)[places_of(responses), responses]


def chances(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities [responses] of all responses."""
    return token_logprobs(logits, RESPONSES).sum(-1).exp()


def visits(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities [prefixes] of getting to each prefix."""
    arrived = torch.zeros(len(PREFIXES), dtype=torch.float64)
    found = chances(logits).detach()
    for depth, places in enumerate(places_of(RESPONSES).T):
        # Each response passes one prefix of every depth.
        assert all(len(PREFIXES[place]) == depth for place in places)
        arrived.index_add_(0, places, found)
    return arrived


Know = Callable[[torch.Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """An objective in the tree, and the scalar whose gradient is, by enumeration, the expected one of a response.

    know: what is known of the tokens of `responses` [n, depth], flattened, by the name of the field of Tokens.
    expected: from the student's logits [prefixes, V], differentiable. group: responses that belong together.
    at: the prefixes [n, depth] of the rows of `responses`; those of the responses themselves by default.
    """

    objective: TokenLoss
    know: Know
    expected: Callable[[torch.Tensor], torch.Tensor]
    student: torch.Tensor = field(default_factory=lambda: policy(1))
    sampler: torch.Tensor = field(default_factory=lambda: policy(1))
    group: int = 1
    at: Callable[[torch.Tensor], torch.Tensor] = places_of

    def expected_gradient(self) -> torch.Tensor:
        leaf = self.student.clone().requires_grad_()
        self.expected(leaf).backward()
        assert leaf.grad is not None
        return leaf.grad

    def gradients(self, responses: torch.Tensor) -> torch.Tensor:
        """[groups, prefixes, V]: the gradient of each group of consecutive `responses`, by response."""
        at = self.at(responses).flatten()
        known = {"ids": responses.flatten(), **self.know(responses)}
        found = gradient(self.objective, self.student[at], Tokens(**known)) / self.group
        groups = torch.arange(len(responses) // self.group).repeat_interleave(DEPTH * self.group)
        sums = torch.zeros(len(responses) // self.group, len(PREFIXES), VOCABULARY, dtype=torch.float64)
        return sums.index_put_((groups, at), found, accumulate=True)

    def enumerated_gradient(self) -> torch.Tensor:
        """The expectation over all groups of responses, each with its chance."""
        found, chance = RESPONSES, chances(self.sampler)
        if self.group == 2:
            pairs = torch.cartesian_prod(torch.arange(len(RESPONSES)), torch.arange(len(RESPONSES)))
            found, chance = RESPONSES[pairs.flatten()], chance[pairs].prod(-1)
        return torch.einsum("n,npv->pv", chance, self.gradients(found))

    def worst_deviation(self, count: int = 20_000) -> float:
        """The largest distance of the mean gradient of `count` sampled groups from the expected, in standard errors."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(chances(self.sampler), count * self.group, replacement=True, generator=generator)
        found = self.gradients(RESPONSES[drawn])
        # Where every group has the same gradient only rounding is left.
        error = (found.std(0) / math.sqrt(count)).clamp(min=1e-7)
        return float(((found.mean(0) - self.expected_gradient()).abs() / error).max())
