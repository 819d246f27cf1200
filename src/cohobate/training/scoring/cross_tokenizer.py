"""Scores by a teacher with another tokenizer: log-probabilities of the same spans of text.

log q(span) = sum of log q(piece) over the teacher's tokens of the span;  log p(span) likewise over the student's

A span is the smallest stretch of the response at whose ends both tokenizers have a boundary. The teacher reads the text
as its own tokenizer writes it, the student's tokens are those that were sampled. The end of the response is a span of
its own. (With a boundary at each of the student's tokens this is the reverse KL of those tokens.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cohobate.core.errors import ModelError
from cohobate.models.chat_template import PromptFormat
from cohobate.models.continuation import continuation
from cohobate.models.end_of_response import own_end
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import TokenScores
from cohobate.models.special_tokens import decode, encode
from cohobate.training.distributed import World
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import ScoringInput
from cohobate.training.scoring.local import LocalScorer

# Half a character, which the next token would have completed.
_HALF = "\ufffd"
NONE = -1
# Text that a tokenizer with normalisation would change.
_PROBE = "First, 12 + 3 = 15.\nThen  don't  STOP !\nAnswer: 15"


def ends(tokenizer: Any, ids: Sequence[int], text: str) -> list[int | None]:
    """The place in `text` where each token ends; None within a character."""
    places: list[int | None] = []
    for count in range(1, len(ids) + 1):
        so_far = decode(tokenizer, ids[:count])
        places.append(len(so_far) if text.startswith(so_far) else None)
    return places


def numbered(ours: Sequence[int | None], theirs: Sequence[int | None]) -> tuple[list[int], list[int]]:
    """The number of the span of each token, for both tokenizers; -1 behind the last common end.

    ours, theirs: where each token ends, from `ends`. A token without text belongs to the span before it.
    """
    common = sorted({end for end in ours if end} & {end for end in theirs if end})

    def of(tokens: Sequence[int | None]) -> list[int]:
        number, numbers = 0, []
        for place, end in enumerate(tokens):
            numbers.append(number if number < len(common) else NONE)
            follows = tokens[place + 1] if place + 1 < len(tokens) else None
            if number < len(common) and end == common[number] and follows != end:
                number += 1
        return numbers

    return of(ours), of(theirs)


def refuse_other_text(tokenizer: Any) -> None:
    """Raise ModelError where `tokenizer` changes text: its tokens would have no places in the student's text."""
    if (back := decode(tokenizer, encode(tokenizer, _PROBE))) != _PROBE:
        raise ModelError(
            f"the teacher's tokenizer does not give text back as it was ({_PROBE!r} becomes {back!r}), so its tokens "
            "have no places in the student's text; choose another teacher, or set opd.steps = 0"
        )


class SpanScorer(LocalScorer):
    """The text of the student's rollouts, scored by a teacher in this process with a tokenizer of its own.

    For each response token of the student: `logprobs` has an equal share of log q(span), and `spans` the number of its
    span (-1, with a share of 0, where the text ends within a character).
    """

    def __init__(
        self,
        teacher: LoadedModel,
        student: LoadedModel,
        prompt_format: PromptFormat,
        folder: Path,
        token_budget: int,
        world: World,
        *,
        keeps: bool,
        half: bool = False,
    ) -> None:
        super().__init__(teacher, prompt_format, TeacherNeeds(), folder, token_budget, world, keeps=keeps, half=half)
        self.student = student

    def teacher_ids(self, response_ids: Sequence[int]) -> list[int]:
        """The response as the teacher's tokenizer writes it."""
        _, text, ended = self._split(response_ids)
        ids = continuation(self.teacher.tokenizer, text, self.prompt_format.rendering)
        return [*ids, *([own_end(self.teacher)] if ended else [])]

    def aligned(self, item: ScoringInput, scores: TokenScores) -> TokenScores:
        ids, text, ended = self._split(item.response_ids)
        theirs = self.teacher_ids(item.response_ids)
        student_spans, teacher_spans = numbered(
            ends(self.student.tokenizer, ids, text),
            ends(self.teacher.tokenizer, theirs[:-1] if ended else theirs, text),
        )
        if ended:
            number = 1 + max([NONE, *student_spans])
            student_spans, teacher_spans = [*student_spans, number], [*teacher_spans, number]
        spans = torch.tensor(student_spans, dtype=torch.long)
        span_logprobs = sums(scores.logprobs, torch.tensor(teacher_spans, dtype=torch.long), spans)
        return TokenScores(shares(span_logprobs, spans), spans=spans)

    def _split(self, response_ids: Sequence[int]) -> tuple[list[int], str, bool]:
        """The ids without the end, their text, and whether there was an end."""
        ended = bool(response_ids) and response_ids[-1] in self.student.eos_ids
        ids = list(response_ids[:-1] if ended else response_ids)
        return ids, decode(self.student.tokenizer, ids).rstrip(_HALF), ended


def sums(values: torch.Tensor, numbers: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """Sums [N] of `values` [M] over spans: each token of `of` [N] gets the sum over its span's tokens in `numbers` [M].

    A token without a span (-1) gets 0.
    """
    count = 1 + max([NONE, *numbers.tolist(), *of.tolist()])
    total = values.new_zeros(count + 1).index_add(0, torch.where(numbers < 0, count, numbers), values)
    total[count] = 0
    return total[torch.where(of < 0, count, of)]


def shares(values: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """`values` [N], the same on each token of a span, divided among its tokens."""
    return values / sums(torch.ones_like(values), spans, spans).clamp(min=1)
