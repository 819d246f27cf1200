"""Rollouts with the teacher's scores: each token with the gap between student's and teacher's log-prob."""

from __future__ import annotations

import random
from typing import Any

import pyarrow.parquet as pq

from cohobate.store.artifacts import Artifact


def shaded_rollouts(opd: Artifact, count: int, seed: int, longest: int | None = None) -> list[dict[str, Any]]:
    """`count` rollouts, evenly spread over the steps, drawn within each step by `seed`.

    There are none where no teacher scored the rollouts, as under a reward. tokens: {text, student, teacher, gap}:
    log-probs in nats, gap = student - teacher; at most the first `longest`.
    """
    log = pq.ParquetFile(opd.path / "rollouts.parquet")
    steps = log.num_row_groups
    if not steps or not count:
        return []
    chosen = sorted({round(i * (steps - 1) / max(1, count - 1)) for i in range(count)})
    draw = random.Random(seed)
    texts = _TokenTexts(opd)
    rows = [draw.choice(log.read_row_group(group).to_pylist()) for group in chosen]
    return [_shaded(row, texts, longest) for row in rows if row["teacher_logprobs"] is not None]


def _shaded(row: dict[str, Any], texts: _TokenTexts, longest: int | None) -> dict[str, Any]:
    tokens = [
        {"text": text, "student": student, "teacher": teacher, "gap": student - teacher}
        for text, student, teacher in zip(
            texts.of(row["response_ids"][:longest]),
            row["sampler_logprobs"][:longest],
            row["teacher_logprobs"][:longest],
            strict=True,
        )
    ]
    return {
        "step": row["step"],
        "question_id": row["question_id"],
        "prompt": texts.decode(row["prompt_ids"]),
        "finish_reason": row["finish_reason"],
        "tokens": tokens,
        "mean_gap": sum(token["gap"] for token in tokens) / max(1, len(tokens)),
    }


class _TokenTexts:
    """Token ids as text, from the tokenizer file alone: a report loads no model library."""

    def __init__(self, opd: Artifact) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(opd.path / "model" / "tokenizer.json"))

    def decode(self, ids: list[int]) -> str:
        """The text of all tokens together, without special tokens."""
        return str(self.tokenizer.decode(ids)).strip()

    def of(self, ids: list[int]) -> list[str]:
        """The text that each token adds; a character split over tokens is shown at its last one."""
        texts, before = [], ""
        for end in range(1, len(ids) + 1):
            now = self.tokenizer.decode(ids[:end], skip_special_tokens=False)
            if now.endswith("\ufffd"):
                texts.append("")
                continue
            texts.append(now.removeprefix(before))
            before = now
        return texts
