"""Triples artifacts with rows of a test's own choice, in a real store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cohobate import schema
from cohobate.answers import parse
from cohobate.config import Recipe
from cohobate.files import write_parquet_atomic
from cohobate.fingerprint import hash_value
from cohobate.sources.table import question_id
from cohobate.store import Artifact, Outcome, Store, Workspace

Row = Mapping[str, Any]
_EMPTY: dict[Any, Any] = {pa.string(): "-", pa.int32(): 0, pa.int64(): 0, pa.float64(): 1.0, pa.bool_(): False}


def sample(question: str, response: str = "", *, index: int = 0, reasoning: str | None = None, **values: Any) -> Row:
    """A row of triples.parquet with a `verdict`, its response taken apart as the triples stage does."""
    parsed = parse(response, reasoning)
    return {
        "question": question,
        "question_id": question_id(question),
        "sample_id": hash_value([question, response, reasoning, index])[:20],
        "sample_index": index,
        "response": response,
        "rationale": parsed.rationale,
        "answer": parsed.answer,
        "rationale_source": parsed.rationale_source,
        "completion_tokens": len(response.split()),
        "truncated": False,
        "verdict": "correct",
        **values,
    }


def triples(
    root: Path, rows: Sequence[Row], recipe: Recipe | None = None, parents: Sequence[Artifact] = ()
) -> Artifact:
    """A finished triples artifact of these rows."""
    recipe = recipe or Recipe(name="made")

    def build(workspace: Workspace) -> Outcome:
        tables = {
            "triples": _table(schema.TRIPLES, rows),
            "verdicts": _table(schema.VERDICTS, [{"verifier": "exact", "verifier_version": 1, **row} for row in rows]),
            "failures": schema.FAILURES.empty_table(),
            "aggregates": _table(schema.AGGREGATES, _aggregates(rows)),
        }
        for name, table in tables.items():
            write_parquet_atomic(table, workspace.path / f"{name}.parquet")
        return Outcome(rows=len(rows))

    identity = {"rows": hash_value([dict(row) for row in rows]), "recipe": recipe.model_dump(mode="json")}
    store = Store(root)
    return store.produce("triples", recipe=recipe, version=1, identity=identity, parents=parents, build=build)


def questions(root: Path, rows: Iterable[tuple[str, str]]) -> Artifact:
    """A finished questions artifact of (question, split)."""
    made = [
        {"question_id": question_id(text), "question": text, "split": split, "kind": "file"} for text, split in rows
    ]

    def build(workspace: Workspace) -> Outcome:
        write_parquet_atomic(_table(schema.QUESTIONS, made), workspace.path / "questions.parquet")
        return Outcome(rows=len(made))

    recipe = Recipe(name="made")
    return Store(root).produce(
        "questions", recipe=recipe, version=1, identity={"rows": hash_value(made)}, parents=[], build=build
    )


def _table(declared: pa.Schema, rows: Sequence[Row]) -> pa.Table:
    def value(field: pa.Field, row: Row) -> Any:
        if field.name in row or field.nullable:
            return row.get(field.name)
        return datetime(2026, 1, 1, tzinfo=UTC) if pa.types.is_timestamp(field.type) else _EMPTY[field.type]

    return pa.table({f.name: pa.array([value(f, row) for row in rows], f.type) for f in declared}, schema=declared)


def _aggregates(rows: Sequence[Row]) -> list[Row]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["question_id"], []).append(row["verdict"])
    made: list[Row] = []
    for name, verdicts in groups.items():
        right, decided = verdicts.count("correct"), len(verdicts) - verdicts.count("undecided")
        rate = right / decided if decided else None
        made.append({"question_id": name, "n": len(verdicts), "n_correct": right, "pass_rate": rate})
    return made
