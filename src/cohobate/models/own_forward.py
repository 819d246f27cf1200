"""Scores and samples of this program held against the model's own forward pass, one row at a time.

It is the guard for families that nobody here has heard of: whatever a model does that scoring, training or the local
sampler do not do, shows in the log-probabilities of a few lines of text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import context_of
from cohobate.core.sanitize import one_line
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import score
from cohobate.models.sampling.decoding import Sampled, SamplingJob
from cohobate.models.sampling.sampler import Decoding, sample, uniforms, way_in_words
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import encode

# In nats: of one token in float32, and of the mean over tokens in half precision, whose logits are rounded to 0.1.
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
# Contexts and responses of different lengths; the second context has two, since a context that several rows have is
# computed apart.
_TEXTS = (
    ("What is 2 + 3?", "2 + 3 = 5.\nAnswer: 5"),
    ("Anna has 12 apples and gives 5 of them to Ben, who had 7. How many has he now?", "Ben had 7, and 7 + 5 = 12."),
    ("Anna has 12 apples and gives 5 of them to Ben, who had 7. How many has he now?", "12"),
    ("Name a colour.", "One of them is red; others are green, blue, white, black and many more."),
)
# What the classes of transformers raise where they are called in a way that they do not know.
_ERRORS = (
    *(RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError),
    *(NotImplementedError, ImportError),
)
_DRAWN = 6  # tokens that are sampled for each context


@dataclass(frozen=True)
class GreedyRow:
    """A prompt, and what the model's own forward pass says likeliest behind it: ids and their log-probabilities."""

    prompt: list[int]
    ids: list[int]
    logprobs: list[float]


def require_own_logits(model: LoadedModel, role: str, token_budget: int, *, samples: bool) -> str:
    """A sentence on the difference between this program's log-probabilities and the model's own.

    role: the model in the words of a message, such as "teacher"; samples: whether the local sampler is tried too.

    Raises ModelError where they differ by more than the tolerance, or are not numbers.
    """
    if (damaged := _not_finite(model.model)) is not None:
        raise ModelError(f"the {role}'s weights hold numbers that are not finite (NaN or infinity), as {damaged} does")
    try:
        difference = _largest_difference(model, token_budget, samples)
    except torch.OutOfMemoryError:
        raise
    except _ERRORS as error:
        why = one_line(error)[:200] or type(error).__name__
        kind = type(model.model).__name__
        raise ModelError(f"the {role}, a {kind}, cannot be run on text: {why}; choose another model") from error
    limit = TOLERANCE if model.model.dtype == torch.float32 else HALF_TOLERANCE
    if math.isnan(difference):
        raise ModelError(f"the {role} gives log-probabilities that are not numbers (NaN); its weights are damaged")
    if not difference <= limit:
        raise ModelError(
            f"the {role}'s log-probabilities differ from those of its own forward pass by {difference:.2g} nats per "
            f"token: this program computes other logits than {type(model.model).__name__} itself; choose a model of "
            "another family (docs/families.md lists those that are right)"
        )
    way = way_in_words(model.model) if samples else ""
    return f"{difference:.1g} for the {role}" + (f" ({way})" if way else "")


def _largest_difference(model: LoadedModel, token_budget: int, samples: bool) -> float:
    rows = [_row(model, *text) for text in _TEXTS]
    difference = _difference(model, rows, token_budget)
    if samples:
        prompts = [list(row.ids[: row.context]) for row in rows]
        difference = max(difference, _sampled_difference(model, prompts))
    return difference


def greedy_rows(model: LoadedModel) -> list[GreedyRow]:
    """Rows by which `require_agreement` tries another program that has the same weights."""
    rows = [_row(model, *text) for text in _TEXTS]
    was_training = model.model.training
    model.model.eval()
    try:
        return [_greedy(model.model, list(row.ids[: row.context])) for row in rows]
    finally:
        model.model.train(was_training)


def _greedy(model: Any, prompt: list[int]) -> GreedyRow:
    ids: list[int] = []
    logprobs: list[float] = []
    for _ in range(_DRAWN):
        best = next_logprobs(model, [*prompt, *ids]).max(-1)
        ids.append(int(best.indices))
        logprobs.append(float(best.values))
    return GreedyRow(prompt, ids, logprobs)


def greedy_job(rows: Sequence[GreedyRow]) -> SamplingJob:
    """What the other program is to sample; no id ends a response, so that each has all its tokens."""
    keys = [str(number) for number in range(len(rows))]
    return SamplingJob([row.prompt for row in rows], Decoding(_DRAWN, 0.0), (), keys)


def require_agreement(rows: Sequence[GreedyRow], drawn: Sequence[Sampled], role: str, *, half: bool) -> float:
    """The difference between the log-probabilities of `rows` and those of `drawn`, by another program.

    The difference is in nats per token. half: whether that program computes in half precision. Behind a token that
    differs nothing of a row is compared: of two that are as likely, either may come first. Raises ModelError where they
    differ by more than the tolerance.
    """
    apart = torch.cat([_behind(row, sampled) for row, sampled in zip(rows, drawn, strict=True)])
    difference = float(apart.mean() if half else apart.max())
    if not difference <= (HALF_TOLERANCE if half else TOLERANCE):
        raise ModelError(
            f"vLLM's log-probabilities differ from those of the {role}'s own forward pass by {difference:.2g} nats per "
            f"token, so it would sample another model; sample in this process (opd.sampler, evaluation.sampler, "
            "teacher.kind), or use a version of vLLM that computes this model right"
        )
    return difference


def _behind(row: GreedyRow, sampled: Sampled) -> torch.Tensor:
    """Distances of the log-probabilities up to the first token that differs, itself included."""
    same = [ours == theirs for ours, theirs in zip(row.ids, sampled.response_ids, strict=True)]
    count = (same.index(False) if False in same else len(same) - 1) + 1
    return (torch.tensor(row.logprobs[:count]) - torch.tensor(sampled.logprobs[:count])).abs()


def _row(model: LoadedModel, context: str, response: str) -> TrainingSequence:
    """A row of a text, cut where it would pass the model's positions."""
    before, behind = encode(model.tokenizer, context), encode(model.tokenizer, response)
    limit = context_of(model.config)
    if limit is not None and len(before) + len(behind) > limit:
        before = before[: max(1, limit - _DRAWN)]
        behind = behind[: max(1, limit - len(before))]
    return TrainingSequence([*before, *behind], len(before))


def _difference(model: LoadedModel, rows: Sequence[TrainingSequence], token_budget: int) -> float:
    """Of the scores of `rows`, all together and those of each context together."""
    expected = {id(row): _own(model.model, row.ids, row.context) for row in rows}
    # Once with a context that two rows have, and once without.
    batches = [rows, [row for row in rows if row is not rows[2]]]
    scored = [item.logprobs for batch in batches for item in score(model.model, batch, token_budget, model.pad_id)]
    return _apart(model, torch.cat(scored), torch.cat([expected[id(row)] for batch in batches for row in batch]))


def _sampled_difference(model: LoadedModel, prompts: list[list[int]]) -> float:
    """Of the log-probabilities of tokens that the local sampler draws."""
    noise = uniforms(0, [str(i) for i in range(len(prompts))], _DRAWN)
    # No end, so that each row has all its tokens.
    drawn = sample(model.model, prompts, Decoding(_DRAWN), noise, eos_ids=(), pad_id=model.pad_id)
    expected = [_own(model.model, [*p, *r.response_ids], len(p)) for p, r in zip(prompts, drawn, strict=True)]
    return _apart(model, torch.tensor([x for r in drawn for x in r.logprobs]), torch.cat(expected))


def _apart(model: LoadedModel, scored: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of a token, or in half precision the mean one; NaN if there is one."""
    apart = (scored - expected).abs()
    return float(apart.max() if model.model.dtype == torch.float32 else apart.mean())


def next_logprobs(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities [V] of the token behind `ids`, by the model's own forward pass."""
    return _every(model, ids)[-1].cpu()


def _own(model: Any, ids: Sequence[int], context: int) -> torch.Tensor:
    """Log-probabilities of the tokens behind `context`, by the model's own forward pass over this row alone."""
    logprobs = _every(model, ids)[context - 1 : -1]
    return logprobs.gather(-1, torch.tensor(list(ids[context:]), device=logprobs.device)[:, None])[:, 0].cpu()


@torch.no_grad()
def _every(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities [T, V] behind each of `ids`."""
    row = torch.tensor([list(ids)], device=model.device)
    logprobs: torch.Tensor = model(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
    return logprobs


@torch.no_grad()
def _not_finite(model: Any) -> str | None:
    """The name of a parameter that holds NaN or infinity."""
    names = (name for name, value in model.named_parameters() if value.is_floating_point() and not _finite(value))
    return next(names, None)


def _finite(value: torch.Tensor) -> bool:
    if value.dtype.itemsize == 1:  # numbers of a byte cannot be compared
        value = value.to(torch.bfloat16)
    # Of two numbers: a test of each would take as much memory as the parameter.
    return not value.numel() or bool(torch.isfinite(torch.stack([value.amin(), value.amax()])).all())
