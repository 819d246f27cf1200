"""Two data sets side by side, against loops over the rows and published intervals; and the gate."""

import itertools
import json
import random
import re
import shutil
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Verification
from cohobate.core.errors import VerifierError
from cohobate.core.fingerprint import hash_file
from cohobate.core.statistics import as_json
from cohobate.datasets.diff import Dataset, diff, labelled, totals
from cohobate.datasets.gate import gate
from cohobate.evaluation.verifiers import labels
from cohobate.report.diff import print_diff, write_page
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Store
from cohobate.store.manifest import FileEntry, read_manifest, write_manifest
from tests.support.browser import ARGUMENTS, CHROMIUM, barriers
from tests.support.command import answer, cohobate, refusal
from tests.support.pipeline import Finished

Sample = tuple[str, str | None, str | None, int, str, float | None]  # question, answer, gold, tokens, finish, cost
KINDS: dict[str, Any] = {"truncated": pl.Boolean, "sample_index": pl.Int32, "prompt_tokens": pl.Int32}
TEXTS = ["sample_id", "question_id", "question", "response", "rationale", "answer", "gold_answer", "teacher_name"]


def dataset(name: str, rows: list[Sample], verifier: str = "exact") -> Dataset:
    made, seen = [], Counter[str]()
    for question, said, gold, tokens, finish, cost in rows:
        made.append(
            {
                "sample_id": f"{question}/{seen[question]}",
                "question_id": question,
                "sample_index": seen[question],
                "question": f"what is {question}?",
                "response": "",
                "rationale": "because",
                "answer": said,
                "gold_answer": gold,
                "teacher_name": name,
                "finish_reason": finish,
                "truncated": finish == "length",
                "prompt_tokens": 3,
                "completion_tokens": tokens,
                "cost_usd": cost,
                "latency_ms": 1.5,
            }
        )
        seen[question] += 1
    kinds = {**dict.fromkeys(TEXTS, pl.String), **KINDS, "cost_usd": pl.Float64}
    frame = pl.DataFrame(made, schema_overrides=kinds)
    verdicts = labels.label(frame, Verification(name=verifier))
    return labelled(f"triples/{name}", frame, verdicts)


def draw(seed: int, questions: range, right: float) -> list[Sample]:
    rng = random.Random(seed)
    rows: list[Sample] = []
    for q in questions:
        gold = None if q % 11 == 0 else str(q)
        for _ in range(rng.randint(1, 4)):
            said = str(q) if rng.random() < right else rng.choice([None, str(q + 1)])
            finish = "length" if said is None and rng.random() < 0.5 else "stop"
            rows.append((f"q{q}", said, gold, rng.randint(1, 90), finish, rng.random()))
    return rows


def judged(row: Sample) -> str:
    _, said, gold, _, _, _ = row
    if gold is None or said is None:
        return "undecided"
    return "correct" if said == gold else "incorrect"


def grouped(rows: list[Sample]) -> dict[str, list[Sample]]:
    found = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


def rate(rows: list[Sample]) -> float | None:
    marks = [judged(row) for row in rows if judged(row) != "undecided"]
    return marks.count("correct") / len(marks) if marks else None


def most_frequent(rows: list[Sample]) -> str | None:
    votes = Counter(row[1] for row in rows if row[1] is not None)
    return min((str(a) for a in votes if votes[a] == max(votes.values())), default=None)


OLD, NEW = draw(1, range(60), 0.8), draw(2, range(8, 70), 0.6)


def test_totals_are_what_a_loop_over_the_rows_counts() -> None:
    for rows in (OLD, NEW):
        found = as_json(totals(dataset("t", rows)))
        marks = Counter(judged(row) for row in rows)
        tokens = [row[3] for row in rows]
        assert {name: found[name] for name in ("correct", "incorrect", "undecided")} == marks
        assert found["pass_rate"] == rate(rows)
        assert found["correct_share"] == pytest.approx(marks["correct"] / len(rows))
        assert found["finish_reasons"] == Counter(row[4] for row in rows)
        assert found["completion_tokens"] == sum(tokens) and found["prompt_tokens"] == 3 * len(rows)
        assert found["mean_completion_tokens"] == pytest.approx(statistics.mean(tokens))
        assert found["median_completion_tokens"] == statistics.median(tokens)
        assert found["cost_usd"] == pytest.approx(sum(row[5] or 0 for row in rows))
        assert found["questions"] == len({row[0] for row in rows}) and found["samples"] == len(rows)
        assert found["low"] < found["pass_rate"] < found["high"]


def test_a_cost_that_nobody_knows_is_not_zero() -> None:
    assert totals(dataset("t", [("q", "1", "1", 5, "stop", None)])).cost_usd is None


def test_what_both_share_is_what_a_loop_over_the_questions_counts() -> None:
    found = diff(dataset("a", OLD), dataset("b", NEW)).as_json()
    old, new = grouped(OLD), grouped(NEW)
    both = [q for q in old if q in new]
    shared = found["shared"]
    assert (shared["questions"], shared["only_in_a"], shared["only_in_b"]) == (
        len(both),
        len(old) - len(both),
        len(new) - len(both),
    )
    rates = [(rate(old[q]), rate(new[q])) for q in both]
    pairs = [(a, b) for a, b in rates if a is not None and b is not None]
    assert shared["pass_rate"]["questions"] == len(pairs)
    assert shared["pass_rate"]["difference"] == pytest.approx(statistics.mean(b - a for a, b in pairs))
    shares = [
        tuple(sum(judged(row) == "correct" for row in side[q]) / len(side[q]) for side in (old, new))
        for q in both
        if rate(old[q]) is not None or rate(new[q]) is not None
    ]
    assert shared["improved"] == sum(b > a for a, b in shares)
    assert shared["worsened"] == sum(b < a for a, b in shares)
    assert shared["correct_share"]["questions"] == len(shares)
    assert shared["correct_share"]["difference"] == pytest.approx(statistics.mean(b - a for a, b in shares))
    answers = [(most_frequent(old[q]), most_frequent(new[q])) for q in both]
    told = [(a, b) for a, b in answers if a is not None and b is not None]
    assert shared["agreement"]["questions"] == len(told)
    assert shared["agreement"]["agree"] == sum(a == b for a, b in told)
    by_id = {row["question_id"]: row for row in found["questions"]}
    pairs_same = {
        q: [a[1] == b[1] for a, b in itertools.product(old[q], new[q]) if a[1] is not None and b[1] is not None]
        for q in both
    }
    for name, same in pairs_same.items():
        assert by_id[name]["agreement"] == (pytest.approx(statistics.mean(same)) if same else None)
    shares_same = [statistics.mean(same) for same in pairs_same.values() if same]
    assert shared["agreement"]["of_samples"] == pytest.approx(statistics.mean(shares_same))
    assert shared["cost_usd"]["b"] == pytest.approx(sum(row[5] or 0 for q in both for row in new[q]))
    assert by_id.keys() == old.keys() | new.keys()
    for name, row in by_id.items():
        assert row["n_a"] == (len(old[name]) if name in old else None)
        assert row["pass_rate_b"] == (rate(new[name]) if name in new else None)
        assert row["question"] == f"what is {name}?"
        cost = sum(sample[5] or 0 for sample in old[name]) if name in old else None
        assert row["cost_usd_a"] == (None if cost is None else pytest.approx(cost))
    json.dumps(found)


def rows(right: int, of: int, cut: int = 0) -> list[Sample]:
    said = ["1"] * right + ["2"] * (of - right)
    made: list[Sample] = [(f"q{i}", answer, "1", 5, "stop", None) for i, answer in enumerate(said)]
    return [(q, None, gold, 5, "length", None) if i < cut else (q, a, gold, t, f, c)
            for i, (q, a, gold, t, f, c) in enumerate(made)]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "allowed", "passed"),
    [
        (rows(90, 100), rows(90, 100), 0.0, True),
        (rows(90, 100), rows(95, 100), 0.0, True),
        (rows(90, 100), rows(89, 100), 0.0, True),  # one question is within the interval
        (rows(90, 100), rows(60, 100), 0.0, False),
        (rows(90, 100), rows(60, 100), 0.35, True),
        (rows(1, 1), rows(0, 1), 0.0, False),  # one question says too little
        (rows(8, 8), rows(8, 8), 0.0, False),  # and so do eight that agree
        (rows(20, 20), rows(20, 20), 0.0, True),
        (rows(100, 100), rows(100, 100, cut=40), 0.0, False),  # right where it ends, but four in ten are cut
        (rows(5, 5), [("other", "1", "1", 5, "stop", None)], 0.0, False),  # nothing to compare
    ],
)
def test_the_gate_closes_where_b_is_worse_beyond_the_interval(
    old: list[Sample], new: list[Sample], allowed: float, passed: bool
) -> None:
    found = gate(diff(dataset("a", old), dataset("b", new)), allowed)
    assert found.passed is passed and bool(found.reasons) is not passed


def test_data_sets_of_different_verifiers_do_not_pass_or_fail() -> None:
    found = diff(dataset("a", OLD), dataset("b", NEW, verifier="numeric"))
    with pytest.raises(VerifierError, match=r"judged by exact and .* by numeric"):
        gate(found)


@pytest.fixture(scope="module")
def data(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the finished triples, and labels by a verifier that accepts nothing."""
    root = tmp_path_factory.mktemp("compare") / "data"
    shutil.copytree(finished.root / "triples", root / "triples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(root))
        relabel(Store().find("triples/"), {"name": "tests.support.verifiers:explains"})
    return root


def test_a_data_set_agrees_with_itself(data: Path) -> None:
    found = answer("diff", "triples/", "triples/", "--gate", data=data)
    assert found["gate"]["passed"] and found["shared"]["agreement"]["share"] == 1
    assert found["shared"]["pass_rate"]["difference"] == 0 and found["shared"]["improved"] == 0
    assert found["a"] == found["b"] and found["a"]["samples"] == len(found["questions"])


def test_the_command_line_relabels_compares_and_closes_the_gate(data: Path) -> None:
    made = answer("verify", "triples/", "--verifier", "numeric", data=data)
    again = answer("verify", "triples/", "--verifier", "numeric", data=data)
    assert made == again and made["id"].startswith("labels/")
    result = cohobate("verify", "triples/", "--verifier", "numeric", data=data)
    assert result.returncode == 0 and made["id"] in result.stdout and "pass rate" in result.stdout
    line = refusal("diff", "triples/", made["id"], "--gate", data=data)
    assert "judged by exact" in line and "by numeric" in line
    page = data.parent / "page.html"
    result = cohobate("diff", "triples/", made["id"], "--page", str(page), data=data)
    assert result.returncode == 0 and "pass rate" in result.stdout and page.read_text().startswith("<!doctype html>")


def test_a_worse_data_set_exits_with_3_and_says_why(finished: Finished, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(finished.root / "triples", root / "triples")
    [old] = (root / "triples").glob("*-????????")
    new = old.with_name("worse-00000000")
    shutil.copytree(old, new)
    verdicts = pl.read_parquet(new / "verdicts.parquet").with_columns(verdict=pl.lit("incorrect"))
    verdicts.write_parquet(new / "verdicts.parquet")
    files = [
        FileEntry(path=entry.path, bytes=(new / entry.path).stat().st_size, sha256=hash_file(new / entry.path))
        for entry in read_manifest(new).files
    ]
    changed = {"id": "triples/worse-00000000", "fingerprint": "0" * 64, "files": files}
    write_manifest(new, read_manifest(new).model_copy(update=changed))
    for json_flag, allowed, code in itertools.product(([], ["--json"]), ("0", "1"), (3,)):
        expected = code if allowed == "0" else 0
        command = ["diff", f"triples/{old.name}", "triples/worse", "--gate", "--allow", allowed, *json_flag]
        result = cohobate(*command, data=root)
        assert result.returncode == expected and result.stdout
        if expected:
            [line] = result.stderr.splitlines()
            assert "does not pass the gate" in line and "pass rate is lower by" in line
        if "--json" not in json_flag:
            assert ("refused" in result.stdout) == bool(expected) and "undecided share" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["verify", "nothing"], "no artifact 'nothing'"),
        (["verify", "triples/", "--verifier", "exakt"], "there is no verifier 'exakt'"),
        (["verify", "triples/", "--verifier", "nowhere:check"], "no module 'nowhere'"),
        (["verify", "triples/", "--verifier", "numeric", "--tolerance", "7"], "triples.verifier.tolerance"),
        (["diff", "triples/", "questions/none"], "no artifact 'questions/none'"),
        (["diff", "triples/", "triples/", "--page", "/dev/null/page.html"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], part: str, data: Path) -> None:
    assert part in refusal(*arguments, data=data)


def test_the_page_is_whole_and_escapes_what_teachers_say(tmp_path: Path) -> None:
    said = "<script>alert(1)</script>"
    old: list[Sample] = [(f"q{i}", "1", "1", 5, "stop", None) for i in range(40)]
    new: list[Sample] = [(f"q{i}", said, "1", 9, "stop", None) for i in range(40)]
    found = diff(dataset("a", old), dataset("b", new))
    write_page(found, tmp_path / "page.html", gate(found))
    page = (tmp_path / "page.html").read_text()
    assert said not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("data-question=") == 40 and "does not pass the gate" in page
    assert page.count('data-kind="worse"') == 40 and "All 40 changes" in page
    assert "http://" not in page and "https://" not in page and "src=" not in page
    assert re.search(r"<td>pass rate</td><td[^>]*>100\.0%</td><td[^>]*>0\.0%</td>", page)


def test_the_page_names_what_only_one_side_has_and_how_many_changes_there_are(tmp_path: Path) -> None:
    old: list[Sample] = [(f"q{i}", "1", "1", 5, "stop", None) for i in range(700)]
    new: list[Sample] = [(f"q{i}", "2", "1", 9, "stop", None) for i in range(30, 730)]
    found = diff(dataset("a", old), dataset("b", new))
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "The 500 largest of 670 changes" in page
    assert "30 questions only in A" in page and "30 questions only in B" in page
    assert "what is q7?" in page and "what is q729?" in page


def test_what_teachers_say_is_not_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    old: list[Sample] = [("q", "1", "1", 5, "stop", None)]
    new: list[Sample] = [("q", "\x1b[2J\u202e[red]2", "1", 9, "stop", None)]
    print_diff(diff(dataset("a", old), dataset("b", new)))
    said = capsys.readouterr().out
    assert "\\x1b[2j" in said.lower() and not set("\x1b\u202e") & set(said)


def test_an_answer_that_was_correct_and_is_undecided_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the counts, the sentences and the page."""
    found = diff(dataset("a", rows(100, 100)), dataset("b", rows(100, 100, cut=40)))
    assert (found.shared.worsened, found.shared.improved) == (40, 0)
    assert found.shared.pass_rate.difference.mean == 0 and found.shared.correct_share.difference.mean == -0.4
    write_page(found, tmp_path / "page.html", gate(found))
    page = (tmp_path / "page.html").read_text()
    assert page.count('data-kind="worse"') == 40 and "1 undecided" in page
    print_diff(found)
    assert "40 worse" in capsys.readouterr().out
    back = diff(dataset("a", rows(100, 100, cut=40)), dataset("b", rows(100, 100)))
    assert (back.shared.worsened, back.shared.improved) == (0, 40)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 400)])
def test_the_page_shuts_nobody_out(scheme: str, width: int, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    old: list[Sample] = [(f"q{i}", "1", "1", 5, "stop", None) for i in range(40)]
    new: list[Sample] = [(f"q{i}", str(i % 2), "1", 9, "stop", None) for i in range(45)]
    found = diff(dataset("a", old), dataset("b", new))
    write_page(found, tmp_path / "page.html", gate(found))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(page) == []
        browser.close()
