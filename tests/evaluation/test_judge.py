"""A language model as verifier: what it says, what it does not say, and how often it agrees with the exact verifier."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.cli.main import main
from cohobate.config import Judge, Recipe, Verification
from cohobate.config.load import make_recipe
from cohobate.core.errors import CohobateError, EndpointError, RecipeError, TeacherError
from cohobate.core.statistics import wilson
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.evaluation.verifiers.judge import read_verdict
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import check, verdicts_of, verifier
from cohobate.stages import evaluation, preflight, questions, sft, triples
from cohobate.stages.labels import relabel
from cohobate.store.artifacts import Artifact, Store
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.pipeline import Finished
from tests.support.triples_stage import changed, make, table
from tests.support.wire_server import Act, Body, WireServer, completion, error

ROWS = 40


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[(text, "correct") for text in ("+1", " +1\n", "1", "**+1**", "Verdict: +1", "Sound.\n\n+1.", "$+1$")],
        *[(text, "incorrect") for text in ("-1", "\u22121", "-1.", "`-1`", "Score = -1", "<think>+1</think>\n-1")],
        *[(text, "undecided") for text in ("", "correct", "I cannot judge that.", "0", "10", "+1 or -1", "+1\nHm.")],
    ],
)
def test_only_a_last_line_of_plus_or_minus_one_is_a_verdict(text: str, label: str) -> None:
    verdict = read_verdict(text)
    assert verdict.label == label and (verdict.reason or "").endswith(" ".join(text.split()))


def test_a_reply_that_was_cut_decides_nothing() -> None:
    assert read_verdict("Let us see: +1", truncated=True).label == "undecided"


def spec(server: WireServer, **settings: Any) -> Verification:
    values = {"kind": "endpoint", "model": "j", "base_url": server.url, "timeout": 2.0, "attempts": 2, **settings}
    return Verification(name="judge", judge=Judge.model_validate(values))


def prompt(body: Body) -> str:
    return str(body["messages"][-1]["content"])


# What the judge does with the n-th answer, and the verdict and the beginning of its reason.
REPLIES: list[tuple[Any, str, str]] = [
    (lambda body: Act(payload=completion(body, "+1")), "correct", "+1"),
    (lambda body: Act(payload=completion(body, "-1")), "incorrect", "-1"),
    (lambda body: Act(payload=completion(body, "It looks right to me")), "undecided", "unclear reply: It looks right"),
    (lambda body: Act(payload=completion(body, "", refusal="no")), "undecided", "Refused: no"),
    (lambda body: Act(payload=completion(body, "")), "undecided", "EmptyContent: "),
    (lambda body: Act(hang=True), "undecided", "Timeout: no answer within 0.3 s"),
    (lambda body: error(400, "too long"), "undecided", "BadRequestError: too long"),
    (lambda body: Act(payload=completion(body, "Hm", finish_reason="length")), "undecided", "reply cut at the token"),
    (lambda body: Act(payload=completion(body, "", reasoning="+1", finish_reason="stop")), "undecided", "unclear"),
]


def test_every_reply_ends_as_a_verdict_with_what_was_said(server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: REPLIES[int(prompt(body).split("Question ")[1].split("?")[0])][0](body)
    cases = [Case("4", "5", question=f"Question {n}?", response="So.\nAnswer: 4") for n in range(len(REPLIES))]
    found = verdicts_of(spec(server, timeout=0.3, attempts=1, max_failures=1.0), cases)
    for verdict, (_, label, said) in zip(found, REPLIES, strict=True):
        assert verdict.label == label and (verdict.reason or "").startswith(said)
    assert len(server.seen) == len(REPLIES)


def test_what_is_asked_is_the_prompt_with_its_fields_at_temperature_0(server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: Act(payload=completion(body, "+1"))
    template = "{question}|{gold}|{rationale}|{answer}|{document}|{other}"
    chosen = spec(server, prompt=template, system="Be strict.", max_tokens=9, extra={"min_p": 0.1})
    cases = [
        Case("4", "5", question="2 + 2 {gold}?", response="Two and two.\nAnswer: 4", document="a page"),
        Case(None, "proof", question="Why?", response="Because."),
        Case("4", None, question="2 + 2?", response="\\boxed{4}", truncated=True),
        Case(None, "5", question="cut?", response="So", truncated=True),
    ]
    found = verdicts_of(chosen, [*cases, cases[0]])
    assert [verdict.label for verdict in found] == ["correct"] * 3 + ["undecided", "correct"]
    assert sorted(prompt(seen.body) for seen in server.seen) == [
        "2 + 2 {gold}?|5|Two and two.|4|a page|{other}",
        "2 + 2?|not known|none|4|none|{other}",
        "Why?|not known|Because.|none|none|{other}",
    ]
    body = server.seen[0].body
    assert body["messages"][0] == {"role": "system", "content": "Be strict."}
    assert (body["model"], body["temperature"], body["max_tokens"], body["min_p"]) == ("j", 0.0, 9, 0.1)


def test_another_model_or_prompt_is_another_judge_and_another_place_is_not(server: WireServer) -> None:
    name = verifier(spec(server)).name
    assert name.startswith("judge:j@")
    assert verifier(spec(server, base_url="http://elsewhere/v1", concurrency=3)).name == name
    for change in ({"model": "k"}, {"prompt": "{question} {answer}"}, {"revision": "2"}, {"max_tokens": 5}):
        assert verifier(spec(server, **change)).name != name


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
