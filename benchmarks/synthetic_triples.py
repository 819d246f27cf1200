"""Synthetic triples of any number in seconds, for the benchmarks of curation, export and storage.

Questions are 25 to 60 words of a vocabulary as uneven as a language's. Of a hundred, three repeat an earlier one
with other case, five differ from one in a word, and one holds 13 words of an evaluation question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cohobate.core.schema import Table
    from cohobate.store.artifacts import Artifact

EVALUATION = 2000
_CHUNK = 50_000
_WORDS = 30_000
_EXACT, _NEAR, _LEAKED = 0.03, 0.05, 0.01


def question_id(text: str) -> str:
    """The id that the questions stage gives a question in NFC."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]


class Texts:
    """Questions and responses, determined by the seed."""

    def __init__(self, seed: int = 0) -> None:
        self.draw = np.random.default_rng(seed)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        sizes = self.draw.integers(3, 10, _WORDS)
        self.words = np.array(["".join(self.draw.choice(letters, size)) for size in sizes])
        # Zipf's law: the word of rank r is about 1/r as frequent as the first.
        self.frequency = np.cumsum(1.0 / (np.arange(_WORDS) + 10.0))
        self.frequency /= self.frequency[-1]
        self.evaluation = [" ".join(words) for words in self.many(EVALUATION, 25, 60)]

    def many(self, count: int, shortest: int, longest: int) -> Iterator[list[str]]:
        """`count` texts as lists of words, `shortest` to `longest` words long."""
        sizes = self.draw.integers(shortest, longest, count)
        drawn = self.words[np.searchsorted(self.frequency, self.draw.random(int(sizes.sum())))].tolist()
        end = 0
        for size in sizes.tolist():
            end += size
            yield drawn[end - size : end]

    def questions(self, count: int) -> Iterator[list[str]]:
        """Chunks of questions, with the copies and leaks among them."""
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            chunk = list(self.many(size, 25, 60))
            kinds, sources = self.draw.random(size), self.draw.integers(0, size, size)
            for at in range(1, size):
                kind, source = kinds[at], chunk[int(sources[at]) % at]
                if kind < _EXACT:
                    chunk[at] = [word.upper() for word in source]
                elif kind < _EXACT + _NEAR:
                    chunk[at] = [*source[:-1], chunk[at][-1]]
                elif kind < _EXACT + _NEAR + _LEAKED:
                    leak = self.evaluation[int(sources[at]) % EVALUATION].split()
                    chunk[at] = [*chunk[at][:12], *leak[:13], *chunk[at][12:]]
            yield [" ".join(words) for words in chunk]


def triples(root: Path, rows: int, samples: int = 1, responses: int = 100) -> Artifact:
    """A finished triples artifact of `rows` rows under `root`, its questions artifact as its parent."""
    from cohobate.config import Recipe
    from cohobate.store.artifacts import Outcome, Store, Workspace

    texts, recipe = Texts(), Recipe(name="made")
    store = Store(root)

    def build_questions(workspace: Workspace) -> Outcome:
        _write_questions(workspace.path, texts.evaluation)
        return Outcome(rows=EVALUATION)

    def build_triples(workspace: Workspace) -> Outcome:
        return Outcome(rows=_write_triples(workspace.path, texts, rows, samples, responses))

    questions = store.produce(
        "questions", recipe=recipe, version=1, identity={"made": EVALUATION}, parents=[], build=build_questions
    )
    identity = {"made": [rows, samples, responses]}
    return store.produce(
        "triples", recipe=recipe, version=1, identity=identity, parents=[questions], build=build_triples
    )


def _write_questions(folder: Path, texts: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cohobate.core.schema import QUESTIONS

    rows = [{"question_id": question_id(text), "question": text, "split": "test", "kind": "file"} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows, QUESTIONS.arrow), folder / "questions.parquet")


def _write_triples(folder: Path, texts: Texts, rows: int, samples: int, responses: int) -> int:
    import pyarrow.parquet as pq

    from cohobate.core import schema

    names = {"triples": schema.TRIPLES, "verdicts": schema.VERDICTS, "aggregates": schema.AGGREGATES}
    writers = {n: pq.ParquetWriter(folder / f"{n}.parquet", s.arrow, compression="zstd") for n, s in names.items()}
    pq.write_table(schema.FAILURES.arrow.empty_table(), folder / "failures.parquet")
    written, seen = 0, set[str]()
    for chunk in texts.questions(-(-rows // samples)):
        fresh = [text for text in dict.fromkeys(chunk) if text not in seen]
        seen.update(fresh)
        for name, table in _tables(texts, fresh, samples, responses).items():
            writers[name].write_table(table, row_group_size=1 << 14)
        written += len(fresh) * samples
    for writer in writers.values():
        writer.close()
    return written


def _tables(texts: Texts, questions: list[str], samples: int, responses: int) -> dict[str, Any]:
    import pyarrow as pa

    from cohobate.core import schema

    ids = [question_id(text) for text in questions]
    count = len(ids) * samples
    thoughts = [" ".join(words) for words in texts.many(count, responses // 2, responses * 3 // 2)]
    answers = [str(number) for number in texts.draw.integers(0, 1000, count).tolist()]
    right = (texts.draw.random(count) < 0.7).tolist()
    sample_ids = [f"{name}{index:04d}" for name in ids for index in range(samples)]
    columns: dict[str, Any] = {
        "sample_id": sample_ids,
        "question_id": [name for name in ids for _ in range(samples)],
        "sample_index": list(range(samples)) * len(ids),
        "request_key": sample_ids,
        "question": [text for text in questions for _ in range(samples)],
        "response": [f"{thought}\nAnswer: {answer}" for thought, answer in zip(thoughts, answers, strict=True)],
        "rationale": thoughts,
        "source_name": ["other" if at % 5 == 0 else "made" for at in range(len(ids)) for _ in range(samples)],
        "answer": answers,
        "rationale_source": ["content"] * count,
        "completion_tokens": texts.draw.integers(50, 500, count).tolist(),
    }
    verdicts = {
        "sample_id": sample_ids,
        "verifier": ["exact"] * count,
        "verdict": ["correct" if it else "incorrect" for it in right],
    }
    correct = [sum(right[at * samples : (at + 1) * samples]) for at in range(len(ids))]
    aggregates = {
        "question_id": ids,
        "n": [samples] * len(ids),
        "n_correct": correct,
        "pass_rate": [each / samples for each in correct],
    }
    declared_columns = {
        "triples": (schema.TRIPLES, columns),
        "verdicts": (schema.VERDICTS, verdicts),
        "aggregates": (schema.AGGREGATES, aggregates),
    }
    tables = {}
    for name, (declared, values) in declared_columns.items():
        rows = len(next(iter(values.values())))
        arrays = [_column(field, values.get(field.name), rows, declared) for field in declared.arrow]
        tables[name] = pa.table(arrays, schema=declared.arrow)
    return tables


def _column(field: Any, values: list[Any] | None, rows: int, declared: Table) -> Any:
    """The values, or nulls or placeholders where there are none."""
    import pyarrow as pa

    if values is not None:
        return pa.array(values, field.type)
    if field.name not in declared.required:
        return pa.nulls(rows, field.type)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    empty = {pa.large_string(): "-", pa.int32(): 1, pa.int64(): 0, pa.float64(): 1.0, pa.bool_(): False}
    return pa.repeat(pa.scalar(empty.get(field.type, moment), field.type), rows)
