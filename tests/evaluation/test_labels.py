"""Verdicts as tables: majority votes, relabelling, and a recipe with another verifier, none of which asks a teacher."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Recipe, Verification
from cohobate.core import schema
from cohobate.core.errors import RecipeError, VerifierError
from cohobate.evaluation.verifiers import labels
from cohobate.stages import questions, triples
from cohobate.stages.labels import movements, relabel
from cohobate.store.artifacts import Artifact, Store, verify
from cohobate.training.triple_source import select
from tests.support.pipeline import Finished
from tests.support.triples_stage import changed, paid, table

Rows = list[tuple[str, str | None, str | None]]


def samples(rows: Rows) -> pl.DataFrame:
    """A sample for each (question, answer, gold)."""
    asked: Counter[str] = Counter()
    made = []
    for question, answer, gold in rows:
        made.append(
            {
                "sample_id": f"{question}/{asked[question]}",
                "question_id": question,
                "question": question,
                "response": f"Answer: {answer}",
                "answer": answer,
                "gold_answer": gold,
                "truncated": False,
            }
        )
        asked[question] += 1
    text = dict.fromkeys(("sample_id", "question_id", "question", "response", "answer", "gold_answer"), pl.String)
    return pl.DataFrame(made, schema={**text, "truncated": pl.Boolean})


VOTES: Rows = [
    ("two of three", "5", None),
    ("two of three", "5.", None),
    ("two of three", "6", None),
    ("two of four", "5", "proof"),
    ("two of four", "5", "proof"),
    ("two of four", "6", "proof"),
    ("two of four", None, "proof"),
    ("one alone", "5", None),
    ("no answer", None, None),
    ("no answer", None, None),
    ("gold", "5", "6"),
    ("gold", "5", "6"),
]


def test_where_gold_is_missing_the_answer_of_more_than_half_is_gold() -> None:
    found = labels.label(samples(VOTES), Verification(majority=True))
    by_question = dict(found.join(samples(VOTES), on="sample_id").group_by("question_id").agg("verdict").iter_rows())
    assert by_question == {
        "two of three": ["correct", "correct", "incorrect"],
        "two of four": ["undecided"] * 4,
        "one alone": ["undecided"],
        "no answer": ["undecided"] * 2,
        "gold": ["incorrect"] * 2,
    }
    kept = found.filter(pl.col("gold_from") == "majority")
    assert set(kept["gold"]) == {"5"} and len(kept) == 3
    assert set(found.filter(pl.col("gold_from") == "question")["gold"]) == {"6"}


def test_without_the_vote_a_missing_gold_answer_decides_nothing() -> None:
    found = labels.label(samples(VOTES), Verification())
    reasons = Counter(found["reason"])
    assert reasons == {"no gold answer": 6, "unusable gold answer": 4, "another answer": 2}
    assert labels.without_gold(samples(VOTES)) == 10


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(["1", "2", "1.0"]), st.none() | st.just("1")),
        min_size=1,
        max_size=12,
    )
)
def test_aggregates_are_what_a_loop_over_the_rows_counts(rows: Rows) -> None:
    frame = samples(rows)
    verdicts = labels.label(frame, Verification())
    by_question: dict[str, list[tuple[str | None, str]]] = {}
    for (question, answer, _), verdict in zip(rows, verdicts["verdict"], strict=True):
        by_question.setdefault(question, []).append((answer, verdict))
    expected = []
    for question, seen in by_question.items():
        correct = sum(verdict == "correct" for _, verdict in seen)
        decided = sum(verdict != "undecided" for _, verdict in seen)
        votes = Counter(answer for answer, _ in seen if answer is not None)
        majority = min((a for a in votes if votes[a] == max(votes.values())), default=None)
        expected.append((question, len(seen), correct, correct / decided if decided else None, majority))
    assert labels.aggregate(frame, verdicts).rows() == expected


@pytest.mark.serves
def test_a_kill_in_the_middle_keeps_the_chunks_that_were_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "CHUNK_ROWS", 4)
    monkeypatch.chdir(tmp_path)
    body = "from pathlib import Path\n\ndef check(**case):\n    {}\n    return case['answer'] == case['gold']\n"
    Path("mine.py").write_text(body.format("Path('calls').open('a').write('x')"))
    frame, spec = samples([(str(n), str(n), "5") for n in range(10)]), Verification(name="mine:check", workers=1)
    whole = labels.label(frame, spec, tmp_path / "scratch")
    first, *_ = sorted((tmp_path / "scratch").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    assert labels.label(frame, spec, tmp_path / "scratch").equals(whole)
    assert len(Path("calls").read_text()) == 14
    assert whole["verdict"].to_list() == ["correct" if n == 5 else "incorrect" for n in range(10)]


@pytest.fixture
def store(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The triples of the finished run, with questions and responses, in a store of the test's own."""
    for name in ("questions", "triples", "responses"):
        shutil.copytree(finished.root / name, tmp_path / "data" / name)
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    return Store().find("triples/")


def test_labels_are_an_artifact_of_their_own_beside_the_triples(store: Artifact) -> None:
    made = relabel(store, {"name": "numeric", "tolerance": 0.01})
    assert made.stage == "labels" and [parent.fingerprint for parent in made.manifest.parents] == [store.fingerprint]
    verify(store)
    verify(made)
    assert pq.read_schema(made.path / "verdicts.parquet").equals(schema.VERDICTS.arrow)
    rows = table(made, "verdicts").join(table(store).drop("gold_source"), on="sample_id", maintain_order="left")
    assert rows["sample_id"].to_list() == table(store)["sample_id"].to_list()
    assert set(rows["verifier"]) == {"numeric"}
    for row in rows.iter_rows(named=True):
        if row["answer"] is not None and row["answer"].lstrip("-").isdecimal():
            assert (row["verdict"] == "correct") == (int(row["answer"]) == int(row["gold_answer"]))
    assert made.manifest.ledger == [] and made.manifest.rows == store.manifest.rows
    assert {artifact.id for artifact in Store().all()} >= {made.id, store.id}


def test_the_same_verifier_again_is_found_in_the_store_and_another_is_not(store: Artifact) -> None:
    first = relabel(store, {"name": "numeric"})
    assert relabel(store, {"name": "numeric", "workers": 1}).cached
    assert relabel(store, {"name": "numeric", "tolerance": 0.5}).fingerprint != first.fingerprint


def test_movements_count_each_sample_once(store: Artifact) -> None:
    made = relabel(store, {"name": "tests.support.verifiers:shouts"})
    before, after = table(store, "verdicts")["verdict"], table(made, "verdicts")["verdict"]
    expected = Counter(zip(before, after, strict=True))
    assert {(row.before, row.after): row.samples for row in movements(store, made)} == expected


def test_what_cannot_be_labelled_is_a_sentence(store: Artifact) -> None:
    with pytest.raises(VerifierError, match="holds no triples"):
        relabel(Store().find("questions/"), {})
    with pytest.raises(RecipeError, match=r"triples\.verifier\.tolerance"):
        relabel(store, {"tolerance": -1})


def test_a_recipe_with_another_verifier_asks_nobody_and_trains_on_its_verdicts(store: Artifact, tiny: Recipe) -> None:
    picky = changed(tiny, triples={"verifier": {"name": "tests.support.verifiers:explains"}})
    made = triples.write(picky, questions.write(picky))
    assert made.fingerprint != store.fingerprint
    assert paid(made) == {"earlier": len(table(store))}
    assert table(made)["response"].to_list() == table(store)["response"].to_list()
    metrics: Any = made.manifest.metrics
    # No shipped teacher argues with `therefore`.
    assert metrics["verdicts"].keys() <= {"incorrect", "undecided"} and metrics["reasons"]["no argument"] > 0
    assert select(made.path, "correct").is_empty() and len(select(store.path, "correct")) > 0
    assert json.loads((made.path / "manifest.json").read_text())["identity"]["verifier"]["name"].startswith("tests.")
