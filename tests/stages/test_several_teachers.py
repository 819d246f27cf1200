"""Triples by several teachers: each is asked its own questions, is stored by itself, and is named in every row."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.load import make_recipe
from cohobate.core.errors import CohobateError, QuestionsError, SelectionError
from cohobate.report.sample_rows import sample_rows
from cohobate.sources.read import read
from cohobate.stages import evaluation, questions, regeneration
from cohobate.stages.asked import requests_of
from cohobate.stages.dry_run import plan
from cohobate.stages.estimate import Machine, estimate
from cohobate.stages.opd import with_teachers
from cohobate.stages.preflight import check
from cohobate.stages.regeneration import NewTeacher
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, WireServer

COUNTS = {"train": 18, "fresh": 2, "validation": 1, "test": 2, "hard": 1}
STORIES: dict[str, Any] = {"name": "stories", "model": "world/teacher"}
REST: dict[str, Any] = {"name": "rest", "model": "world/base", "prompt": "{question}"}
BY_KIND = {"column": "kind", "values": {"story": "stories"}, "default": "rest"}


def local(**changes: Any) -> Recipe:
    values = {
        "name": "two",
        "questions": COUNTS,
        "teachers": [STORIES, REST],
        "route": BY_KIND,
        "triples": {"max_tokens": 24, "batch_size": 16},
        "sft": {"steps": 0},
        "opd": {"steps": 0},
        "evaluation": {"max_tokens": 4, "decodings": ["greedy"]},
        "runtime": {"threads": 1},
    }
    return make_recipe({**values, **changes}, "two")


def test_each_question_is_answered_by_the_teacher_of_its_kind(data: Path) -> None:
    recipe = local()
    asked = pl.read_parquet(questions.write(recipe).path / "questions.parquet").filter(pl.col("split") == "train")
    made = make(recipe)
    rows = table(made).join(asked.select("question_id", "kind"), on="question_id")
    assert len(rows) == COUNTS["train"] and rows["kind"].n_unique() == 2
    for row in rows.iter_rows(named=True):
        name, prompt = (
            ("stories", "{question} Think step by step.") if row["kind"] == "story" else ("rest", "{question}")
        )
        content = prompt.replace("{question}", row["question"])
        assert row["teacher"] == name and json.loads(row["messages"]) == [{"role": "user", "content": content}]
    counts = Counter(rows["teacher"].to_list())
    assert made.manifest.named_metrics["teachers"] == counts
    assert {e["model"]: e["sequences"] for e in made.manifest.ledger} == {f"teacher {k}": v for k, v in counts.items()}
    shown = sample_rows(made).select("teacher", "model").unique().sort("teacher").collect().rows()
    assert shown == [("rest", "world/base"), ("stories", "world/teacher")]


def test_a_changed_teacher_is_asked_its_own_rows_and_nobody_else(data: Path) -> None:
    first = Counter(table(make(local()))["teacher"].to_list())
    other = local(teachers=[STORIES, {**REST, "prompt": "Q: {question}"}])
    assert plan(other, "triples").demands["stories"].missing == 0
    again = make(other)
    assert {(e["model"], e["paid"]): e["sequences"] for e in again.manifest.ledger} == {
        ("teacher stories", "earlier"): first["stories"],
        ("teacher rest", "here"): first["rest"],
    }
    renamed = make(
        local(teachers=[{**STORIES, "name": "tales"}, REST], route={**BY_KIND, "values": {"story": "tales"}})
    )
    assert {entry["paid"] for entry in renamed.manifest.ledger} == {"earlier"}
    assert set(table(renamed)["teacher"]) == {"tales", "rest"}


def of_servers(folder: Path, url: str, **changes: Any) -> Recipe:
    path = folder / "q.jsonl"
    subjects = ["math", "law", "math", "art", "math", "law"]
    lines = [{"question": f"Question {n}?", "gold_answer": str(n), "split": "train", "subject": subject}
             for n, subject in enumerate(subjects)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = {"kind": "endpoint", "base_url": url, "prompt": "{question}", "price_input": 1.0}
    return local(
        questions={"source": "file", "path": str(path)},
        teachers=[
            {"name": "a", "model": "big", "price_output": 2.0, **common},
            {"name": "b", "model": "small", "price_output": 0.0, **common, **changes.pop("b", {})},
        ],
        route=changes.pop("route", {"column": "subject", "values": {"math": "a"}, "default": "b"}),
        **changes,
    )


@pytest.mark.serves
def test_servers_get_the_requests_of_their_own_questions(tmp_path: Path, data: Path, server: WireServer) -> None:
    def requests() -> dict[str, int]:
        return dict(Counter(seen.body["model"] for seen in server.seen))

    made = make(of_servers(tmp_path, server.url))
    assert requests() == {"big": 3, "small": 3}
    priced = table(made).group_by("teacher").agg(pl.col("cost_usd").sum()).sort("teacher").rows()
    assert priced == [("a", pytest.approx(3 * (10 + 40) / 1e6)), ("b", pytest.approx(3 * 10 / 1e6))]
    make(of_servers(tmp_path, server.url, b={"revision": "2"}))
    assert requests() == {"big": 3, "small": 6}
    make(
        of_servers(
            tmp_path, server.url, route={"column": "subject", "values": {"math": "a", "art": "a"}, "default": "b"}
        )
    )
    assert requests() == {"big": 4, "small": 6}


@pytest.mark.serves
def test_a_teacher_that_fails_is_named_and_what_others_wrote_is_kept(
    tmp_path: Path, data: Path, server: WireServer
) -> None:
    server.plan = lambda body, time: Act(status=404) if body["model"] == "small" else Act()
    with pytest.raises(CohobateError, match=r"^teacher b: "):
        make(of_servers(tmp_path, server.url))
    server.plan = lambda body, time: Act()
    before = len(server.seen)
    make(of_servers(tmp_path, server.url))
    assert Counter(seen.body["model"] for seen in server.seen[before:])["big"] == 0


def test_a_question_of_nobody_is_refused_before_anyone_is_asked(tmp_path: Path, data: Path) -> None:
    nobody = of_servers(
        tmp_path, "http://127.0.0.1:9/v1", route={"column": "subject", "values": {"math": "a", "law": "b"}}
    )
    with pytest.raises(QuestionsError, match="the value 'art'"):
        make(nobody)


def test_a_fresh_question_of_nobody_is_refused_before_anyone_is_asked(tmp_path: Path, data: Path) -> None:
    """Where a teacher scores its rollouts; where the triples alone are to be made, it is nobody's concern."""
    file = tmp_path / "q.jsonl"
    values: dict[str, Any] = {
        "questions": {
            "source": "file",
            "path": str(file),
            "split": {"train": 0.5, "fresh": 0.3, "validation": 0.1, "test": 0.1},
        },
        "route": {"column": "subject", "values": {"math": "stories", "law": "rest"}},
    }
    taught = local(**values, opd={"steps": 1, "warmup": 0, "objective": "sampled"})

    def read_with(odd: str | None) -> pl.DataFrame:
        texts = [f"What is {n} + 1?" for n in range(30)]
        subjects = ["art" if text == odd else ("math", "law")[n % 2] for n, text in enumerate(texts)]
        rows = [{"question": q, "gold_answer": "1", "subject": s} for q, s in zip(texts, subjects, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read(taught.questions).questions

    every = read_with(None)
    frame = read_with(every.filter(pl.col("split") == "fresh")["question"][0])
    [finding] = [each for each in check(taught, ["teacher"]) if each.name == "questions"]
    assert not finding.passed and "the value 'art'" in finding.detail
    frame = read(taught.questions).questions
    with pytest.raises(QuestionsError, match="the value 'art'"):
        requests_of(taught, frame)
    written = requests_of(local(**values), frame)
    assert sum(len(each.requests) for each in written) == (frame["split"] == "train").sum()
    both = local(
        **values, opd={"steps": 1, "warmup": 0, "objective": "sampled", "mixture": {"stories": 0.5, "rest": 0.5}}
    )
    assert len(requests_of(both, frame)) == 2


def test_a_dry_run_with_triples_in_the_store_counts_whose_rollouts_are_scored(data: Path) -> None:
    small = {"max_tokens": 2, "batch_size": 16}
    opd = {"steps": 10, "prompts": 4, "group": 1, "objective": "sampled"}
    recipe = local(questions={**COUNTS, "fresh": 20}, triples=small, opd=opd)
    made = make(recipe)
    fresh = pl.read_parquet(questions.write(recipe).path / "questions.parquet").filter(pl.col("split") == "fresh")
    stories = (fresh["kind"] == "story").sum()
    planned = plan(recipe, "opd")
    assert "triples" not in planned.rest and stories not in (0, 10, 20)
    scored = {line.model: line.sequences for line in planned.lines if line.work == "scoring"}
    assert scored == {"teacher stories": 40 * stories / 20, "teacher rest": 40 * (20 - stories) / 20}
    assert with_teachers(recipe, table(made))["teacher"].to_list() == table(made)["teacher"].to_list()
    with pytest.raises(SelectionError, match="of none of this recipe's teachers"):
        with_teachers(recipe, table(made).drop("teacher"))


def test_a_dataset_of_a_recipe_with_a_mixture_is_regenerated_by_one_teacher(data: Path) -> None:
    mixed = {"steps": 2, "warmup": 0, "objective": "sampled", "mixture": {"stories": 0.5, "rest": 0.5}}
    old = make(local(triples={"max_tokens": 2, "batch_size": 16}, opd=mixed))
    new = regeneration.recipe_of(old, NewTeacher(model="world/base", prompt="{question}"))
    assert new.teacher.model == "world/base" and not new.opd.mixture and new.opd.steps == 2


def test_every_teacher_is_looked_at_and_counted_before_a_run(data: Path) -> None:
    recipe = local(teachers=[STORIES, {**REST, "model": "no/where"}])
    findings = {each.name: each.passed for each in check(recipe)}
    assert findings["teacher loads, teacher stories"] and not findings["teacher loads, teacher rest"]
    assert not any(name.startswith("student") for name in findings)
    lines = {(line.stage, line.model): line.sequences for line in estimate(local(), Machine.with_gpu("h100"))}
    assert lines["triples", "teacher stories"] == lines["triples", "teacher rest"] == COUNTS["train"] // 2
    by_share = local(route={"share": {"stories": 0.25, "rest": 0.75}}, questions={**COUNTS, "train": 40})
    lines = {(line.stage, line.model): line.sequences for line in estimate(by_share, Machine.with_gpu("h100"))}
    assert (lines["triples", "teacher stories"], lines["triples", "teacher rest"]) == (10, 30)


def test_each_teacher_of_this_machine_is_evaluated_by_its_own_prompt(data: Path) -> None:
    recipe = local()
    made = evaluation.evaluate(recipe, questions.write(recipe), [])
    answers = pl.read_parquet(made.path / "answers.parquet")
    assert set(answers["student"]) == {"base", "teacher stories", "teacher rest"}
    longer = {name: rows["prompt_tokens"].sum() for (name,), rows in answers.group_by("student")}
    assert longer["teacher stories"] > longer["teacher rest"]  # which is asked without "Think step by step."
