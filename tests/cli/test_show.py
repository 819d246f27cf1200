"""`cohobate show`: which rows are printed, and that nothing in them is obeyed by a terminal."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from cohobate.cli.sample_view import print_failures, print_samples
from cohobate.core import schema
from cohobate.core.sanitize import harmless
from cohobate.report.sample_rows import COLUMNS, RowFilter, sample_rows
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Artifact
from tests.support.command import answer, cohobate, refusal
from tests.support.made_triples import sample, triples
from tests.support.pipeline import Finished

pytestmark = pytest.mark.serves

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe\u202c \u200b\u2028\x00\rover"


@given(st.text())
@example(HOSTILE)
def test_nothing_that_a_terminal_obeys_or_hides_is_left(text: str) -> None:
    shown = harmless(text)
    assert not {c for c in shown if c != "\n" and (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)}
    assert not set(shown) & set("\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\ufeff")


def test_ordinary_texts_of_every_script_stay_as_they_are() -> None:
    for text in ("two\nlines", "日本語", "مرحبا", "नमस्‍ते", "👩‍💻 ok", "é ü ß", "<b>[red]x[/]</b>"):
        assert harmless(text) == text
    assert harmless("a\tb\r\nc\x1b") == "a   b\nc\\x1b"


ROWS = [
    sample("How many <b>apples</b>?", "Three\nand one\nAnswer: 4", index=0, gold_answer="4"),
    sample("How many <b>apples</b>?", f"{HOSTILE}\nAnswer: 5", index=1, verdict="incorrect", reason="another answer"),
    sample("苹果有多少个？" * 30, "想一想" * 200, verdict="undecided", reason="no final answer"),
]


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    return triples(tmp_path, ROWS)


def printed(capsys: pytest.CaptureFixture[str], artifact: Artifact, wanted: RowFilter, *, full: bool = False) -> str:
    print_samples(artifact, wanted, 10, full=full)
    return capsys.readouterr().out


def test_elsewhere_than_on_a_terminal_a_field_is_a_line(made: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, made, RowFilter()).splitlines()
    assert "question: How many <b>apples</b>?" in lines and "rationale: Three\\nand one" in lines
    assert "gold: 4" in lines and lines[-1] == "3 of 3 matching rows"
    assert any(line.startswith("rationale: \\x1b[2J") for line in lines)
    assert not set("\x1b\x07\x9b\u202e\x00") & set("".join(lines))
    assert f"rationale: {'想一想' * 200}" in lines


def test_on_a_terminal_rows_fit_its_width_and_long_texts_are_cut(
    made: Artifact, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "60", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    shown = printed(capsys, made, RowFilter())
    text = "".join(part.split("m", 1)[1] if i else part for i, part in enumerate(shown.split("\x1b[")))
    assert max(cell_len(line) for line in text.splitlines()) <= 60
    assert "\\x1b[2J" in text and "\x07" not in shown and "\u202e" not in shown
    assert "苹果有多少个" in text and "Three" in text
    long = triples(made.path.parents[1], [sample("Why?", "zig " * 5000)])
    cut, whole = (printed(capsys, long, RowFilter(), full=full) for full in (False, True))
    assert "more characters (--full)" in cut and "(--full)" not in whole and whole.count("zig") == 5000


def test_rows_are_chosen_by_verdict_question_and_text(made: Artifact) -> None:
    def chosen(**wanted: str) -> list[str]:
        return sample_rows(made).filter(RowFilter(**wanted).matches()).collect()["sample_id"].to_list()

    ids = [str(row["sample_id"]) for row in ROWS]
    assert chosen() == ids and chosen(verdict="incorrect") == ids[1:2]
    assert chosen(question=str(ROWS[0]["question_id"])[:12]) == ids[:2] and chosen(question=ids[2][:9]) == ids[2:]
    assert chosen(text="APPLES") == ids[:2] and chosen(text="and ONE") == ids[:1] and chosen(text=".*") == []
    assert chosen(text="apples", verdict="correct") == ids[:1]


def test_failed_requests_are_shown_with_their_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = triples(tmp_path, ROWS)
    row = {"request_key": "k", "question_id": "q" * 20, "sample_index": 3, "error_class": "refused", "status": 400}
    row |= {"message": "too\x1b[1m long", "attempts": 2, "last_at": datetime(2026, 1, 1, tzinfo=UTC)}
    pq.write_table(pa.Table.from_pylist([row], schema=schema.FAILURES.arrow), artifact.path / "failures.parquet")
    print_failures(artifact, RowFilter(), 5)
    shown = capsys.readouterr().out
    assert "# refused 400 question qqqqqqqqqqqq sample 3" in shown and "message: too\\x1b[1m long" in shown
    assert "1 of 1 failed requests" in shown
    print_failures(artifact, RowFilter(text="short"), 5)
    assert "no request failed" in capsys.readouterr().out


def test_labels_show_the_triples_with_their_own_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    made = triples(tmp_path, [sample("How many?", "Answer: 4.0", gold_answer="4", verdict="incorrect")])
    rows = sample_rows(relabel(made, {"name": "numeric"})).collect()
    assert rows.select("question", "answer", "verdict", "pass_rate", "gold").rows() == [
        ("How many?", "4.0", "correct", 1.0, "4")
    ]


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("questions", "questions"),
        ("triples", "triples"),
        ("opd", "rollouts"),
        ("evaluation", "answers"),
    ],
)
def test_every_stage_with_samples_is_read(stage: str, table: str, finished: Finished) -> None:
    artifact = finished.artifacts[stage]
    rows = sample_rows(artifact).collect()
    source = pl.read_parquet(artifact.path / f"{table}.parquet")
    assert rows.columns == list(COLUMNS) and len(rows) == len(source)
    assert rows["question_id"].to_list() == source["question_id"].to_list()
    assert rows["question"].null_count() == 0 and rows["gold"].null_count() == 0
    if stage == "opd":
        first = source.row(0, named=True)
        gap = sum(first["sampler_logprobs"]) - sum(first["teacher_logprobs"])
        assert rows["gap"][0] == pytest.approx(gap / len(first["response_ids"]), rel=1e-4)
        assert rows["completion_tokens"].to_list() == [len(ids) for ids in source["response_ids"]]
    if stage == "evaluation":
        assert rows["verdict"].to_list() == source["verdict"].to_list()


def test_the_command_line_shows_rows(finished: Finished) -> None:
    source = finished.artifacts["triples"]
    verdicts = pq.read_table(source.path / "verdicts.parquet")["verdict"].to_pylist()
    shown = answer("show", source.id, "--verdict", "correct", "--rows", "1000", data=finished.root)
    assert len(shown) == verdicts.count("correct") and {row["verdict"] for row in shown} == {"correct"}
    wrong = answer("show", source.id, "--wrong", "--rows", "1000", data=finished.root)
    assert len(wrong) == verdicts.count("incorrect")
    one = answer("show", source.id, "--question", shown[0]["question_id"], data=finished.root)
    assert shown[0] in one
    result = cohobate("show", source.id, "--rows", "2", data=finished.root)
    assert result.returncode == 0 and result.stdout.count("\nquestion: ") == 2 and "\x1b" not in result.stdout
    brief = cohobate("show", finished.artifacts["opd"].id, data=finished.root)
    assert brief.returncode == 0 and "evaluation points" in brief.stdout and "rationale: " in brief.stdout
    assert json.loads(cohobate("show", source.id, "--failures", "--json", data=finished.root).stdout) == []


@pytest.mark.parametrize(
    ("stage", "options", "part"),
    [
        ("triples", ["--verdict", "right"], "--verdict right: choose one of correct, incorrect"),
        ("triples", ["--verdict", "correct", "--wrong"], "contradict each other"),
        ("sft", ["--rows", "3"], "holds no samples"),
        ("sft", ["--page", "page.html"], "holds no samples"),
        ("opd", ["--failures"], "no table of failed requests"),
        ("triples", ["--page", "/dev/null/page.html"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(stage: str, options: list[str], part: str, finished: Finished) -> None:
    assert part in refusal("show", finished.artifacts[stage].id, *options, data=finished.root)
