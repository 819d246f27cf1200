"""Triples artifacts with rows of a test's own choice, in a real store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.core import schema
from cohobate.core.answer_parsing import parse
from cohobate.core.fingerprint import hash_value
from cohobate.core.parquet import write_table
from cohobate.sources.base import question_id
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

Row = Mapping[str, Any]
_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_EMPTY = {"text": "-", "int32": 0, "int64": 0, "float64": 1.0, "bool": False, "time": _MOMENT}


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
            "triples": (schema.TRIPLES, rows),
            "verdicts": (schema.VERDICTS, [{"verifier": "exact", "verifier_version": 1, **row} for row in rows]),
            "failures": (schema.FAILURES, []),
            "aggregates": (schema.AGGREGATES, _aggregates(rows)),
        }
        for name, (declared, held) in tables.items():
            _write(workspace.path / f"{name}.parquet", declared, held)
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
        _write(workspace.path / "questions.parquet", schema.QUESTIONS, made)
        return Outcome(rows=len(made))

    recipe = Recipe(name="made")
    return Store(root).produce(
        "questions", recipe=recipe, version=1, identity={"rows": hash_value(made)}, parents=[], build=build
    )


def _write(path: Path, declared: schema.Table, rows: Sequence[Row]) -> None:
    """The rows, with something in each column that must hold something."""
    given = {name: _EMPTY[kind] if name in declared.required else None for name, kind in declared.columns.items()}
    filled = [{name: row.get(name, value) for name, value in given.items()} for row in rows]
    write_table(pl.DataFrame(filled, schema=declared.polars), declared, path)


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
