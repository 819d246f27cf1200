"""A judge in the stages that ask it: agreement, cost, kills, mistakes, and gold answers that decide nothing."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.cli.main import main
from cohobate.config import Recipe
from cohobate.config.load import make_recipe
from cohobate.core.errors import CohobateError, EndpointError, RecipeError, TeacherError
from cohobate.core.statistics import wilson
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.evaluation.verifiers.verify import check
from cohobate.stages import evaluation, preflight, questions, sft, triples
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Artifact, Store
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.judge_requests import prompt, spec
from tests.support.pipeline import Finished
from tests.support.triples_stage import changed, make, table
from tests.support.wire_server import Act, Body, WireServer, completion, error

ROWS = 40


@pytest.fixture
def taught(tmp_path: Path, data: Path) -> Artifact:
    """Triples of which every fourth answer is wrong, and every tenth question has no gold answer."""
    with WireServer().running() as teacher:
        teacher.plan = lambda body, time: Act(
            payload=completion(body, f"Let me see.\nAnswer: {number(body) + (number(body) % 4 == 3)}")
        )
        recipe = recipe_of(tmp_path, teacher.url, ROWS)
        path = Path(recipe.questions.path or "")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**line, "gold_answer": None if n % 10 == 0 else line["gold_answer"]} for n, line in enumerate(lines)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return make(recipe)


def lenient(body: Body, time: int) -> Act:
    """Right about numbers below 30, and content with everything above; undecided about 5."""
    asked, answer = (int(prompt(body).split(mark)[1].split("\n")[0].strip("?")) for mark in ("Question ", "Answer: "))
    right = asked == answer or asked >= 30
    return Act(payload=completion(body, "Hard to say." if asked == 5 else "+1" if right else "-1"))


def settings(server: WireServer, **changes: Any) -> dict[str, Any]:
    return {"name": "judge", "judge": {"kind": "endpoint", "model": "j", "base_url": server.url, **changes}}


def test_agreement_with_the_exact_verifier_is_counted_where_gold_exists(taught: Artifact, server: WireServer) -> None:
    server.plan = lenient
    made = relabel(taught, settings(server))
    metrics: Any = made.manifest.metrics
    wrong = {n for n in range(ROWS) if n % 4 == 3}
    gold = {n for n in range(ROWS) if n % 10}
    assert metrics["verdicts"] == {
        "correct": ROWS - 1 - len({n for n in wrong if n < 30}),
        "incorrect": len({n for n in wrong if n < 30}),
        "undecided": 1,
    }
    assert metrics["reasons"] == {"judged wrong": 7, "unclear reply": 1}
    found, missed = metrics["judge"]["agreement"], {n for n in wrong & gold if n >= 30}
    interval = wilson(len(gold) - 1 - len(missed), len(gold) - 1)
    assert found == {
        "n": len(gold) - 1,
        "agree": len(gold) - 1 - len(missed),
        "share": (len(gold) - 1 - len(missed)) / (len(gold) - 1),
        "low": interval.low,
        "high": interval.high,
        "only_judge": len(missed),
        "only_exact": 0,
        "undecided": 1,
    }
    assert len(server.seen) == ROWS


def test_a_judge_is_paid_once_and_its_work_is_in_the_ledger(taught: Artifact, server: WireServer) -> None:
    server.plan = lenient
    prices = {"price_input": 1.0, "price_output": 10.0}
    first = relabel(taught, settings(server, **prices))
    entry = {"stage": "labels", "model": "judge", "work": "judging", "sequences": ROWS, "tokens": 20 * ROWS}
    (paid,) = first.manifest.ledger
    assert paid.items() >= {**entry, "paid": "here", "prompt_tokens": 10 * ROWS, "flops": 0}.items()
    metrics: Any = first.manifest.metrics
    assert metrics["judge"]["cost_usd"] == pytest.approx(ROWS * (10 + 200) / 1e6)
    assert relabel(taught, settings(server, **prices)).cached and len(server.seen) == ROWS
    again = relabel(taught, {**settings(server), "majority": True})  # another gold answer for some, so asked again
    assert not again.cached and again.manifest.ledger[0]["paid"] == "earlier"
    stricter = relabel(taught, settings(server, max_tokens=2000))
    assert len(server.seen) == ROWS and stricter.manifest.ledger[0]["paid"] == "earlier"
    relabel(taught, settings(server, prompt="Well? {question}\nAnswer: {answer}\n"))
    assert len(server.seen) == 2 * ROWS


def test_a_kill_or_an_outage_of_the_judge_loses_no_reply(taught: Artifact, server: WireServer) -> None:
    def half(body: Body, time: int) -> Act:
        return error(422, "no") if "Question 2" in prompt(body) and time == 1 else lenient(body, time)

    server.plan = half
    with pytest.raises(TeacherError, match=r"11 of 40 requests to the judge .*verifier\.judge\.max_failures"):
        relabel(taught, settings(server))
    made = relabel(taught, settings(server))
    assert len(server.seen) == ROWS + 11 and made.manifest.rows == ROWS
    assert set(table(made, "verdicts")["verdict"]) == {"correct", "incorrect", "undecided"}


def test_a_recipe_judges_by_a_model_and_selects_by_its_verdicts(server: WireServer, tmp_path: Path, data: Path) -> None:
    def both(body: Body, time: int) -> Act:
        return (
            lenient(body, time)
            if body["model"] == "j"
            else Act(payload=completion(body, f"So.\nAnswer: {number(body)}"))
        )

    server.plan = both
    recipe = recipe_of(tmp_path, server.url, 10, triples={"verifier": settings(server)})
    made = make(recipe)
    verdicts = table(made, "verdicts")
    assert Counter(verdicts["verdict"]) == {"correct": 9, "undecided": 1}
    assert set(verdicts["reason"]) == {"+1", "unclear reply: Hard to say."}
    assert {(entry["model"], entry["work"]) for entry in made.manifest.ledger} == {
        ("teacher", "generation"),
        ("judge", "judging"),
    }
    assert export(made, Request("messages", Selection("correct")), tmp_path / "out").written.rows == 9
    assert make(recipe).cached and len(server.seen) == 20


def test_the_command_shows_verdicts_cost_and_agreement(
    taught: Artifact, server: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = lenient
    sets = [f"judge.{name}={value}" for name, value in settings(server)["judge"].items()]
    options = [part for item in sets for part in ("--set", item)]
    with pytest.raises(SystemExit) as ended:
        main(["verify", taught.id, "--verifier", "judge", *options])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "judge:j@" in said
    assert "j: 40 replies, 400 + 800 tokens" in said
    assert "with the exact verifier on 35 answers with gold" in said and "1 undecided by the judge" in said


@pytest.mark.serves
@pytest.mark.parametrize(
    ("changes", "kind", "parts"),
    [
        ({"name": "judge"}, RecipeError, ["needs a model", "triples.verifier.judge.model"]),
        ({"name": "judge", "judge": {"kind": "endpoint", "model": "j"}}, RecipeError, ["judge", "needs base_url"]),
        ({"name": "judge", "judge": {"model": "m", "prompt": "{question}"}}, RecipeError, ["{answer}"]),
        (
            {"name": "judge", "judge": {"model": "m", "modell": "m"}},
            RecipeError,
            ["did you mean 'triples.verifier.judge.model'"],
        ),
        ({"name": "judge", "judge": {"max_tokens": 9}}, RecipeError, ["'triples.verifier.judge.model' is missing"]),
        ({"name": "judge", "judge": {"model": "no/such"}}, CohobateError, ["no/such"]),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    changes: dict[str, Any], kind: type[CohobateError], parts: list[str], taught: Artifact
) -> None:
    with pytest.raises(kind) as caught:
        relabel(taught, changes)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_a_preflight_asks_the_judge_once(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: error(500, "broken") if body["model"] == "j" else Act()
    recipe = recipe_of(tmp_path, server.url, 1, triples={"verifier": settings(server)})
    found = {item.name: item for item in preflight.check(recipe)}
    assert found["teacher answers"].passed and not found["judge answers"].passed
    assert "broken" in found["judge answers"].detail
    server.plan = lambda body, time: Act()
    assert all(item.passed for item in preflight.check(recipe) if item.name == "judge answers")


def test_what_the_endpoint_does_wrong_names_the_judges_settings(taught: Artifact, server: WireServer) -> None:
    server.plan = lambda body, time: error(404, "unknown model")
    with pytest.raises(EndpointError, match=r"correct triples\.verifier\.judge\.model"):
        relabel(taught, settings(server))
    server.plan = lambda body, time: error(401, "who are you")
    with pytest.raises(EndpointError, match=r"triples\.verifier\.judge\.api_key_env"):
        relabel(taught, settings(server))
    with pytest.raises(EndpointError, match=r"judge\.api_key_env names NO_SUCH_KEY"):
        check(spec(server, api_key_env="NO_SUCH_KEY"))


def test_a_judge_in_this_process_is_heard_and_its_agreement_is_told_as_it_is(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    for name in ("questions", "triples", "responses"):
        shutil.copytree(finished.root / name, tmp_path / "data" / name)
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    store = Store().find("triples/")
    # The arithmetic teacher as a judge: it answers the sum, which is a verdict only by accident.
    local = {"name": "judge", "judge": {"model": "world/teacher", "prompt": "{question}{answer}", "max_tokens": 60}}
    made = relabel(store, local)
    assert relabel(store, local).cached
    metrics: Any = made.manifest.metrics
    verdicts, exact = table(made, "verdicts"), table(store, "verdicts")
    both = verdicts.join(exact, on="sample_id", suffix="_exact").filter(pl.col("verdict_exact") != "undecided")
    decided = both.filter(pl.col("verdict") != "undecided")
    found = metrics["judge"]["agreement"]
    assert found["n"] == len(decided) and found["undecided"] == len(both) - len(decided)
    assert found["agree"] == len(decided.filter(pl.col("verdict") == pl.col("verdict_exact")))
    assert found["undecided"] > 0 and set(verdicts["verifier"]) == {verdicts["verifier"][0]}
    assert verdicts["verifier"][0].startswith("judge:teacher@")
    (paid,) = made.manifest.ledger
    assert paid["flops"] > 0 and paid["sequences"] == store.manifest.rows


def test_gold_answers_that_decide_nothing_are_said_or_skipped_before_anything_is_paid(
    server: WireServer, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "q.jsonl"
    golds = ["1", "2", "proof", None, "x plus one"]
    rows = [{"question": f"Question {n}?", "gold_answer": gold, "split": "train"} for n, gold in enumerate(golds)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = {"kind": "endpoint", "model": "m", "base_url": server.url}
    values: dict[str, Any] = {
        "questions": {"source": "file", "path": str(path)},
        "teacher": teacher,
        "opd": {"steps": 0},
        "triples": {"verifier": "numeric", "without_gold": "skip"},
    }
    recipe = make_recipe(values, "r")
    made = triples.write(recipe, questions.write(recipe))
    said = capsys.readouterr().err
    assert made.manifest.rows == 3 and len(server.seen) == 3
    assert "2 of 5 questions have no usable gold answer and are not asked" in said
    assert "1 gold answers cannot be read by the verifier numeric" in said and "'x plus one'" in said


def test_every_request_to_a_judge_stands_in_a_ledger_of_the_stages_that_ask(
    tiny: Recipe, server: WireServer, data: Path
) -> None:
    def says(body: Body, time: int) -> Act:
        return Act(payload=completion(body, "+1" if len(prompt(body)) % 3 else "-1"))

    server.plan = says
    recipe = changed(
        tiny,
        questions={"train": 12, "fresh": 1, "validation": 4, "test": 4, "hard": 0},
        triples={"verifier": settings(server)},
        opd={"steps": 0},
        student={"model": "world/teacher"},  # the untaught one ends no response, and there is nothing to judge
        sft={"steps": 2, "warmup": 1, "evaluate_every": 1, "batch": 2},
        evaluation={"max_tokens": 80},
    )
    asked = questions.write(recipe)
    taught = triples.write(recipe, asked)
    student = sft.train(recipe, taught, asked)
    scores = evaluation.evaluate(recipe, asked, [student])
    judged = [
        entry for made in (taught, student, scores) for entry in made.manifest.ledger if entry["model"] == "judge"
    ]
    assert {(entry["stage"], entry["work"]) for entry in judged} == {
        ("triples", "judging"),
        ("sft", "evaluation"),
        ("evaluation", "evaluation"),
    }
    assert sum(entry["sequences"] for entry in judged if entry["paid"] == "here") == len(server.seen)
    assert len(set(server.keys)) == len(server.seen)
