"""Suites: avg@k and pass@k with their intervals, files of questions, and lm-evaluation-harness on a local task."""

import importlib.metadata
import itertools
import json
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.cli.main import main
from cohobate.config import Harness, Recipe, Suite
from cohobate.config.load import load_recipe
from cohobate.core.errors import QuestionsError, RecipeError, UserError
from cohobate.core.statistics import wilson
from cohobate.evaluation import lm_eval
from cohobate.evaluation.pass_at_k import average_interval, pass_at, score
from cohobate.sources.world.splits import generate
from cohobate.stages.suites import measure

THINK = "{question} Think step by step."


class _Shallow:
    seed, min_depth, max_depth, hard_depth, story = 3, 1, 2, (5, 6), 0.0


QUESTIONS = list(generate(_Shallow(), {"test": 8}))


@pytest.mark.parametrize(("n", "correct"), [(5, 0), (5, 2), (5, 5), (7, 1)])
def test_pass_at_j_is_the_share_of_subsets_with_a_right_answer(n: int, correct: int) -> None:
    answers = [True] * correct + [False] * (n - correct)
    subsets = [list(itertools.combinations(answers, j)) for j in range(1, n + 1)]
    shares = [sum(map(any, drawn)) / len(drawn) for drawn in subsets]
    assert [pass_at(n, correct, j) for j in range(1, n + 1)] == pytest.approx(shares)


def test_the_interval_of_the_average_counts_what_the_answers_tell() -> None:
    # All answers to a question agree: as many independent answers as questions.
    alike = average_interval([1.0] * 12 + [0.0] * 18, 30 * 16)
    assert astuple(alike) == pytest.approx(astuple(wilson(12, 30)), abs=0.01)
    assert average_interval([1.0] * 30, 30 * 16) == wilson(30, 30)
    # Every question has the same mean: all answers are independent.
    assert astuple(average_interval([0.25] * 30, 30 * 16)) == pytest.approx(astuple(wilson(120, 480)))
    between = average_interval([0.1, 0.4, 0.25, 0.25, 0.3, 0.2] * 5, 30 * 16)
    assert wilson(12, 30).high - wilson(12, 30).low > between.high - between.low


def test_scores_are_means_over_questions() -> None:
    verdicts = {"a": [1, 1, 0, 0], "b": [0, 0, 0, 0], "c": [1, 1, 1, 1]}
    rows = [(q, "correct" if v else "incorrect") for q, found in verdicts.items() for v in found]
    found = score(pl.DataFrame(rows, schema=["question_id", "verdict"], orient="row"))
    assert (found.n, found.questions, found.k, found.accuracy.mean) == (12, 3, 4, 0.5)
    passed = {j: share.mean for j, share in found.pass_at.items()}
    assert passed == pytest.approx({1: 0.5, 2: (5 / 6 + 0 + 1) / 3, 4: 2 / 3})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A Parquet file as AIME's, with other names for its columns, for the shipped teacher."""
    rows = [{"problem": each.text, "answer": int(each.gold_answer or "")} for each in QUESTIONS]
    pl.DataFrame(rows).write_parquet(tmp_path / "sums.parquet")
    suite = {
        "name": "sums",
        "path": str(tmp_path / "sums.parquet"),
        "columns": {"question": "problem", "gold_answer": "answer"},
        "samples": 4,
        "max_tokens": 64,
    }
    made = load_recipe("tiny")
    asks = made.student.model_copy(update={"prompt": THINK})
    return made.model_copy(update={"student": asks, "suites": (Suite.model_validate(suite),)})


def test_a_parquet_file_is_answered_k_times(recipe: Recipe, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = measure(recipe, "world/teacher")
    [row] = made.manifest.metrics
    assert isinstance(row, dict)
    assert (row["student"], row["suite"], row["questions"], row["k"], row["n"]) == ("teacher", "sums", 8, 4, 32)
    assert row["accuracy"] > 0.8 and row["low"] <= row["accuracy"] <= row["high"]
    answers = pl.read_parquet(made.path / "answers.parquet")
    right = [a == str(g) for a, g in answers.select("answer_extracted", "gold_answer").iter_rows()]
    assert row["accuracy"] == sum(right) / 32
    assert measure(recipe, "world/teacher").cached
    assert made.manifest.ledger[0]["tokens"] == answers["tokens"].sum()
    greedy = recipe.suites[0].model_copy(update={"temperature": 0.0, "samples": 1})
    [one] = measure(recipe.model_copy(update={"suites": (greedy,)}), "world/teacher").manifest.metrics
    assert isinstance(one, dict) and (one["k"], one["decoding"], one["n"]) == (1, "greedy", 8)


def test_mistakes_are_one_sentence(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no suite"):
        measure(load_recipe("tiny"), "world/teacher")
    missing = recipe.suites[0].model_copy(update={"path": str(tmp_path / "none.parquet")})
    with pytest.raises(QuestionsError, match=r"none\.parquet does not exist"):
        measure(recipe.model_copy(update={"suites": (missing,)}), "world/teacher")
    pl.DataFrame({"problem": ["1 + 1?"], "answer": [None]}).write_parquet(tmp_path / "sums.parquet")
    with pytest.raises(QuestionsError, match="have no gold answer"):
        measure(recipe, "world/teacher")
    with pytest.raises(RecipeError, match="is no folder"):
        lm_eval.identity(Harness(tasks=("sums",), include=str(tmp_path / "nowhere")))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden here as Python sees a package that is not there: no distribution, and no module."""

    def nothing_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing_installed)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"cohobate\[suites\]"):
        lm_eval.identity(Harness(tasks=("gsm8k",)))
    with pytest.raises(UserError, match=r"cohobate\[suites\]"):
        lm_eval.run(Harness(tasks=("gsm8k",)), tmp_path, "cpu", {})


def test_shares_of_the_harness_become_scores_with_its_standard_error() -> None:
    row = {"alias": "t", "exact_match,strict": 0.5, "exact_match_stderr,strict": 0.1, "bleu,none": 31.0}
    bare = {"acc,none": 1.0, "acc_stderr,none": "N/A"}
    found = lm_eval.scores("opd", {"results": {"t": row, "u": bare}, "n": {"t": 25, "u": 3}})
    assert [(s.student, s.suite, s.n, s.accuracy.mean) for s in found] == [
        ("opd", "t exact_match (strict)", 25, 0.5),
        ("opd", "u acc", 3, 1.0),
    ]
    assert (found[0].accuracy.low, found[0].accuracy.high) == pytest.approx((0.304, 0.696), abs=1e-3)
    assert (found[1].accuracy.low, found[1].accuracy.high) == (0.0, 1.0)


TASK = """\
task: local_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}} Think step by step."
doc_to_target: "{{{{gold_answer}}}}"
generation_kwargs: {{until: ["<|im_end|>"], do_sample: false, max_gen_toks: 64}}
filter_list:
  - name: answer
    filter:
      - function: regex
        regex_pattern: "Answer: (-?[0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.slow
def test_the_harness_runs_a_local_task_and_agrees_with_our_own_evaluation(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    file = tmp_path / "sums.jsonl"
    # One gold answer is wrong on purpose, so that not everything is right.
    golds = ["x", *(question.gold_answer for question in QUESTIONS[1:])]
    rows = [{"question": each.text, "gold_answer": gold} for each, gold in zip(QUESTIONS, golds, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tasks / "sums.yaml").write_text(TASK.format(file=file), encoding="utf-8")
    suite = Suite(name="own", path=str(file), samples=1, temperature=0.0, max_tokens=64)
    settings = Harness(tasks=("local_sums",), include=str(tasks))
    both = recipe.model_copy(update={"suites": (suite,), "harness": settings})
    made = measure(both, "world/teacher")
    own, theirs = made.manifest.metrics
    assert isinstance(own, dict) and isinstance(theirs, dict)
    assert theirs["suite"] == "local_sums exact_match (answer)" and theirs["n"] == own["n"] == 8
    assert theirs["accuracy"] == own["accuracy"] <= 7 / 8
    found: dict[str, Any] = json.loads((made.path / "harness.json").read_text(encoding="utf-8"))
    assert found["n"] == {"local_sums": 8}
    unknown = settings.model_copy(update={"tasks": ("nothing_such",)})
    with pytest.raises(RecipeError, match="knows no task 'nothing_such'"):
        measure(both.model_copy(update={"harness": unknown}), "world/teacher")


def test_the_shipped_recipe_names_aime_and_the_harness(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("aime")
    assert recipe.suites[0].samples == 64 and recipe.harness is not None
    with pytest.raises(SystemExit) as caught:
        main(["suites", "aime", "world/teacher"])
    assert caught.value.code == 2
    assert "does not exist" in capsys.readouterr().err
