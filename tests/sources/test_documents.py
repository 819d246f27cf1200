"""Documents: cut into passages at headings and paragraphs, and made into question-answer triples by the teacher."""

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.config import Documents, Recipe
from cohobate.config.load import make_recipe
from cohobate.core.errors import QuestionsError
from cohobate.sources.documents import passages
from cohobate.sources.generated import take_question
from cohobate.sources.world.handbook import company, documents
from cohobate.stages import questions, triples
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Artifact
from tests.support.wire_server import Act, Body, WireServer, completion

GUIDE = """# Guide

Intro of two words.

## Doors

Doors open inwards. Doors close by themselves.

### Locks

```
# no heading
turn left
```

## Windows
Windows stay shut.
"""


def cut(text: str, words: int, overlap: int = 0, markdown: bool = True) -> list[tuple[str, tuple[str, ...]]]:
    found = passages(text, Documents(words=words, overlap=overlap), markdown=markdown)
    return [(passage.text, passage.headings) for passage in found]


def test_a_short_document_is_one_passage_with_its_headings_in_place() -> None:
    ((text, headings),) = cut(GUIDE, 100)
    assert headings == ("Guide",)
    assert [line for line in text.split("\n") if line.startswith("#")] == [
        *("# Guide", "## Doors", "### Locks", "# no heading", "## Windows")
    ]


def test_passages_end_where_a_section_begins_and_know_the_headings_above_them() -> None:
    assert cut(GUIDE, 8) == [
        ("# Guide\n\nIntro of two words.", ("Guide",)),
        ("## Doors\n\nDoors open inwards. Doors close by themselves.", ("Guide", "Doors")),
        ("### Locks\n\n```\n# no heading\nturn left\n```", ("Guide", "Doors", "Locks")),
        ("## Windows\n\nWindows stay shut.", ("Guide", "Windows")),
    ]


def test_a_long_paragraph_is_cut_after_sentences_and_the_last_ones_come_again() -> None:
    sentences = [f"Sentence number {i} has six words." for i in range(6)]
    assert [text for text, _ in cut(" ".join(sentences), 20, overlap=8)] == [
        " ".join(sentences[:2]),
        f"{sentences[1]}\n\n{' '.join(sentences[2:4])}",
        f"{sentences[3]}\n\n{' '.join(sentences[4:])}",
    ]


def test_quotes_stay_and_characters_count_where_words_have_no_spaces() -> None:
    assert [t for t, _ in cut('He said "Go now." Then they went home.', 4)] == [
        'He said "Go now."',
        "Then they went home.",
    ]
    assert [t for t, _ in cut("天気がいい。明日も晴れる。", 8)] == ["天気がいい。", "明日も晴れる。"]
    assert [t for t, _ in cut("一二三四五六七", 3)] == ["一二三", "四五六", "七"]


def test_plain_text_has_no_headings() -> None:
    assert cut("# One\n\nTwo three.\n", 100, markdown=False) == [("# One\n\nTwo three.", ())]


WORD = st.text("abcdé", min_size=1, max_size=5)
SENTENCE = st.lists(WORD, min_size=1, max_size=12).map(lambda words: " ".join(words) + ".")
PARAGRAPH = st.lists(SENTENCE, min_size=1, max_size=6).map(" ".join)
HEADING = st.tuples(st.integers(1, 3), WORD).map(lambda pair: f"{'#' * pair[0]} {pair[1]}")
DOCUMENT = st.lists(st.one_of(PARAGRAPH, PARAGRAPH, HEADING), max_size=12).map("\n\n".join)


@settings(deadline=None)
@given(DOCUMENT, st.integers(4, 40), st.integers(0, 10))
def test_no_word_is_lost_and_no_passage_is_too_long(drawn: str, words: int, overlap: int) -> None:
    number = count()
    text = re.sub(r"\w+", lambda _: f"w{next(number)}", drawn)  # no word twice: its place is known
    body = [word for line in text.split("\n") if not line.startswith("#") for word in line.split()]
    overlap = min(overlap, words // 2)
    found = cut(text, words, overlap)
    plain = [
        [w for line in passage.split("\n") if not line.startswith("#") for w in line.split()] for passage, _ in found
    ]
    assert all(0 < len(passage) <= words for passage in plain)
    at = 0  # each passage goes on where the last one ended, or at most `overlap` words before
    for passage in plain:
        back = next(k for k in range(overlap + 1) if at >= k and body[at - k : at - k + len(passage)] == passage)
        at += len(passage) - back
    assert at == len(body)


def handbook(folder: Path, copies: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in documents(company(0), copies):
        (folder / name).write_text(text)
    return folder


def recipe_of(path: Path, url: str = "http://127.0.0.1:9/v1", **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "questions": {"source": "documents", "path": str(path), "documents": {"words": 60}},
        "teacher": {"kind": "endpoint", "model": "m", "base_url": url, "prompt": "{question}"},
        "opd": {"steps": 0},
    }
    for name, values_of in changes.items():
        values[name] = {**values.get(name, {}), **values_of}
    return make_recipe(values, "r")


def table(artifact: Artifact, name: str) -> pl.DataFrame:
    return pl.read_parquet(artifact.path / f"{name}.parquet")


def test_passages_are_training_questions_named_by_their_text(data: Path, tmp_path: Path) -> None:
    folder = handbook(tmp_path / "docs")
    made = questions.write(recipe_of(folder))
    rows = table(made, "questions")
    metas = [json.loads(meta) for meta in rows["meta"]]
    assert set(rows["split"]) == {"train"} and set(rows["kind"]) == {"documents"}
    for fact in company(0).facts:
        assert any(fact.sentences[0] in meta["document"] for meta in metas)
    for row, meta in zip(rows.to_dicts(), metas, strict=True):
        assert meta["document"] in row["question"] and meta["file"] == "handbook-1.md"
        assert meta["headings"] == [f"{company(0).name}: handbook, part 1"]
    moved = folder.rename(tmp_path / "elsewhere")
    assert questions.write(recipe_of(moved)).cached
    text = (moved / "handbook-1.md").read_text()
    (moved / "handbook-1.md").write_text(text + "\n# Added\n\nOne more rule.\n")
    more = table(questions.write(recipe_of(moved)), "questions")
    assert set(rows["question_id"]) - set(more["question_id"]) <= set(rows["question_id"].tail(1))
    other = recipe_of(moved, questions={"documents": {"words": 60, "prompt": "Quiz: {document}"}})
    again = table(questions.write(other), "questions")
    assert again["question_id"].to_list() == more["question_id"].to_list()
    assert all(question.startswith("Quiz: ") for question in again["question"])


def test_an_exam_gives_the_questions_to_evaluate_on(data: Path, tmp_path: Path) -> None:
    exam = [{"question": fact.questions[0], "gold_answer": fact.answer} for fact in company(0).facts]
    path = tmp_path / "exam.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in exam))
    folder = handbook(tmp_path / "docs")
    settings = {"documents": {"exam": str(path)}}
    rows = table(questions.write(recipe_of(folder, questions=settings)), "questions")
    tested = rows.filter(pl.col("split") == "test")
    assert tested.select("question", "gold_answer").to_dicts() == exam
    assert set(rows.filter(pl.col("kind") == "documents")["split"]) == {"train"}
    path.write_text(json.dumps(exam[0]) + "\n")
    assert len(table(questions.write(recipe_of(folder, questions=settings)), "questions")) == len(rows) - len(exam) + 1
    path.write_text(json.dumps({**exam[0], "split": "train"}) + "\n")
    with pytest.raises(QuestionsError, match=r"exam\.jsonl .* 1 of its questions to training"):
        questions.write(recipe_of(folder, questions=settings))


@pytest.fixture
def teacher() -> Iterator[WireServer]:
    """Writes a question about the first fact of the passage that it is shown."""

    def answer(body: Body, time: int) -> Act:
        prompt = body["messages"][-1]["content"]
        for number, fact in enumerate(company(0).facts):
            if fact.sentences[0] in prompt:
                steps = f"The handbook says: {fact.sentences[0]}"
                text = f"**Question:** {fact.questions[0]}\n\n{steps}\nAnswer: {fact.answer}"
                said = "I cannot." if number % 7 == 6 else text
                return Act(payload=completion(body, said, reasoning="which question shall I ask?"))
        return Act(payload=completion(body, "Nothing to ask."))

    with WireServer(answer).running() as it:
        yield it


@pytest.mark.serves
def test_the_teacher_writes_questions_rationales_and_answers_about_passages(
    teacher: WireServer, data: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(handbook(tmp_path / "docs"), teacher.url, triples={"max_failures": 1.0})
    passed = questions.write(recipe)
    made = triples.write(recipe, passed)
    facts = {fact.questions[0]: fact for fact in company(0).facts}
    rows, failures = table(made, "triples"), table(made, "failures")
    assert len(rows) + len(failures) == len(table(passed, "questions")) and len(rows) > 0
    for row in rows.to_dicts():
        fact = facts[row["question"]]
        assert row["answer"] == fact.answer and row["rationale"] == f"The handbook says: {fact.sentences[0]}"
        # What the student learns does not begin with the question again, nor with thoughts about writing one.
        assert row["response"] == f"The handbook says: {fact.sentences[0]}\nAnswer: {fact.answer}"
        assert row["row_id"] in set(table(passed, "questions")["question_id"]) and row["row_id"] != row["question_id"]
        assert fact.sentences[0] in json.loads(row["question_meta"])["document"]
    assert set(failures["error_class"]) == {"NoQuestion"}
    assert all("does not begin with `Question:`" in message for message in failures["message"])
    assert triples.write(recipe, passed).cached
    with pytest.raises(QuestionsError, match=r"replies about documents .*questions\.documents\.prompt"):
        triples.write(recipe_of(tmp_path / "docs", teacher.url, triples={"max_failures": 0.0}), passed)


@pytest.mark.serves
def test_a_judge_can_be_shown_the_passage(teacher: WireServer, data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(handbook(tmp_path / "docs"), teacher.url, triples={"max_failures": 0.9})
    made = triples.write(recipe, questions.write(recipe))
    seen: list[str] = []

    def says(body: Body, time: int) -> Act:
        seen.append(body["messages"][-1]["content"])
        return Act(payload=completion(body, "+1"))

    with WireServer(says).running() as server:
        settings = {
            "kind": "endpoint",
            "model": "j",
            "base_url": server.url,
            "prompt": "{document}|{question}|{answer}",
        }
        labels = relabel(made, {"name": "judge", "judge": settings})
    rows = table(made, "triples").to_dicts()
    expected = {f"{json.loads(r['question_meta'])['document']}|{r['question']}|{r['answer']}" for r in rows}
    assert set(seen) == expected
    metrics = labels.manifest.metrics
    assert isinstance(metrics, dict) and metrics["judge"]["agreement"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Question: Who?\nBecause.\nAnswer: me", ("Who?", "Because.\nAnswer: me")),
        ("<think>Question: no</think>\nQuestion: Who\nis it?\nAnswer: me", ("Who is it?", "Answer: me")),
        ("### Question\n", (None, "### Question\n")),
        ("**Question**: Who?\n\nSteps.\n**Answer:** me", ("Who?", "Steps.\n**Answer:** me")),
        ("Question: Who?", (None, "Question: Who?")),
        ("Sure! Question: Who?\nAnswer: me", (None, "Sure! Question: Who?\nAnswer: me")),
    ],
)
def test_a_question_is_taken_from_the_beginning_of_a_reply(text: str, expected: tuple[str | None, str]) -> None:
    assert take_question(text) == expected


def test_documents_that_cannot_be_used_are_one_sentence(data: Path, tmp_path: Path) -> None:
    for name, content, words in (
        ("empty", b" \n", "are all empty"),
        ("latin", "# Caf\u00e9\n".encode("latin-1"), "not UTF-8 (line 1"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.md").write_bytes(content)
        with pytest.raises(QuestionsError) as caught:
            questions.write(recipe_of(folder))
        assert words in str(caught.value) and str(folder) in str(caught.value)
    with pytest.raises(QuestionsError, match=r"come from \.md, \.markdown or \.txt"):
        (tmp_path / "a.pdf").write_bytes(b"%PDF")
        questions.write(recipe_of(tmp_path / "a.pdf"))
