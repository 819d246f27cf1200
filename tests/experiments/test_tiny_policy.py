"""The classic tiny policy: its words, its file, what it learns from a right, a noisy and an unusable judge."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cohobate.cli.main import main
from cohobate.config import Recipe, TinyPolicyJudge, TinyPolicySettings
from cohobate.config.load import load_recipe
from cohobate.core.errors import ModelError, QuestionsError, RecipeError
from cohobate.experiments.tiny_policy import noise_study, reinforce, stages, verdicts
from cohobate.experiments.tiny_policy.model import NAME, TinyPolicy, load, word_ids
from cohobate.experiments.tiny_policy.preferences import preference_pairs
from cohobate.stages import questions
from cohobate.store.artifacts import Artifact
from tests.support.wire_server import Act, WireServer, completion

pytestmark = pytest.mark.trains

FRAME = pl.read_ndjson(Path(__file__).parents[2] / "data" / "policy" / "helpdesk.jsonl")
OWN, UNSEEN = FRAME.filter(pl.col("split") == "train"), FRAME.filter(pl.col("split") == "test")
SHIPPED = load_recipe("helpdesk")


def trained(**settings: Any) -> reinforce.TrainedPolicy:
    config = TinyPolicySettings(**settings)
    answers = verdicts.possible_answers(config, FRAME, "helpdesk")
    rewards = verdicts.judge_all(config, OWN, answers, "test").rewards()
    return reinforce.train(config, OWN["question"].to_list(), answers, rewards)


def accuracy(found: reinforce.TrainedPolicy, frame: pl.DataFrame = OWN) -> float:
    return float(reinforce.score(reinforce.answer_greedily(found.policy, frame))["accuracy"])


def test_a_word_has_the_same_row_in_every_process_and_in_any_case() -> None:
    program = (
        "from cohobate.experiments.tiny_policy.model import word_ids; print(word_ids('Where is my parcel?', 2000))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "src"},
            cwd=Path(__file__).parents[2],
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {str(word_ids("WHERE is my parcel", 2000))}
    # sha256("a") begins with ca978112ca1bbdca (FIPS 180-2 test values).
    assert word_ids("a b a", 2000)[::2] == [0xCA978112CA1BBDCA % 2000] * 2


def test_the_sizes_are_the_classic_ones_and_a_question_is_the_mean_of_its_words() -> None:
    made = TinyPolicy([str(i) for i in range(10)])
    assert [tuple(p.shape) for p in made.parameters()] == [(2000, 32), (64, 32), (64,), (10, 64), (10,)]
    rows = made.bag.weight[word_ids("where is it", 2000)]
    expected = made.head(torch.relu(made.inner(rows.mean(0, keepdim=True))))
    torch.testing.assert_close(made(["where is it"]), expected)
    torch.testing.assert_close(made(["it is where", "", "where is it"])[[0, 2]], expected.expand(2, -1))
    assert torch.isfinite(made([""])).all()


def test_what_is_saved_answers_the_same_and_anything_else_is_refused(tmp_path: Path) -> None:
    made = TinyPolicy(["no", "yes"], words=50, embedding=4, hidden=3)
    made.save(tmp_path / NAME)
    again = load(tmp_path / NAME)
    assert again.choose(["well then"]) == made.choose(["well then"])
    (tmp_path / "other.safetensors").write_bytes(b"no policy")
    for path in (tmp_path / "other.safetensors", tmp_path / "absent.safetensors"):
        with pytest.raises(ModelError, match="no tiny policy"):
            load(path)


def test_a_right_judge_teaches_nine_of_ten_of_its_own_questions() -> None:
    for seed in range(3):
        found = trained(seed=seed)
        assert accuracy(found) >= 0.9
        assert accuracy(found, UNSEEN) >= 0.5  # ten answers: a guess is right once in ten times
        assert found.improved and found.saved_at <= 200


def test_the_classic_policy_learns_its_five_answers_in_each_of_ten_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its recipe stands: no question that it does not learn, and the figure is on its page."""
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    classic = load_recipe("classic")
    settings = classic.section(TinyPolicySettings)
    assert (settings.batch, settings.lr, len(settings.answers), settings.study_seeds) == (1, 1e-3, 10, 10)
    asked = questions.write(classic)
    assert pl.read_parquet(asked.path / "questions.parquet")["split"].to_list() == ["train"] * 5
    page = stages.study(classic, asked, stages.train(classic, asked))
    runs = pl.read_parquet(page.path / "runs.parquet")
    assert runs["own"].to_list() == [1.0] * 10 and runs["unseen"].null_count() == 10
    assert "100.0% of its own 5 questions" in (page.path / "report.md").read_text()


def test_the_same_seed_gives_the_same_policy() -> None:
    first, second = trained(steps=20), trained(steps=20)
    assert first.metrics == second.metrics
    for a, b in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_policy_is_kept_where_its_running_reward_last_beat_the_best_by_the_margin() -> None:
    found = trained(steps=120)
    best, kept, running = 0.0, None, 0.0
    for row in found.metrics:
        running = row["running"]
        if running > best + 0.05:
            best, kept = running, row["step"] + 1
    assert found.saved_at == kept
    none = trained(steps=3)
    assert not none.improved and none.saved_at == 3 and none.metrics[-1]["running"] < 0


def test_a_noisy_judge_hurts_and_a_repeated_error_hurts_more() -> None:
    right, same, anew = (
        accuracy(trained(noise=noise, noise_each_time=each)) for noise, each in ((0, False), (0.3, False), (0.3, True))
    )
    assert same < anew < right


def test_the_share_of_flipped_verdicts_is_the_noise() -> None:
    flipped = sum(verdicts.is_flipped(0, 0.3, question, place) for question in OWN["question"] for place in range(100))
    assert abs(flipped / 6000 - 0.3) < 3 * (0.3 * 0.7 / 6000) ** 0.5


def test_every_gold_answer_must_be_among_the_answers() -> None:
    for settings, frame, said in (
        ({"answers": ("billing", "sales")}, FRAME, "'delivery' is not among policy.answers"),
        ({}, FRAME.filter(pl.col("gold_answer") == "sales"), "all gold answers are the same"),
        ({}, FRAME.with_columns(gold_answer=pl.lit(None, pl.String)), "have no gold answer"),
    ):
        with pytest.raises(QuestionsError, match=said) as caught:
            verdicts.possible_answers(TinyPolicySettings.model_validate(settings), frame, "helpdesk")
        assert "\n" not in str(caught.value)
    assert verdicts.possible_answers(TinyPolicySettings(), FRAME, "helpdesk") == tuple(
        sorted(set(FRAME["gold_answer"]))
    )


def asks(server: WireServer, **settings: Any) -> Recipe:
    values = {"kind": "endpoint", "model": "j", "base_url": server.url, "timeout": 60.0, "attempts": 1, **settings}
    few = TinyPolicySettings(judge=TinyPolicyJudge.model_validate(values), steps=40, study_noise=(0.0,), study_seeds=1)
    return SHIPPED.model_copy(update={"policy": few})


def says(body: dict[str, Any]) -> tuple[str, str]:
    """The gold answer and the answer that a judge is shown."""
    prompt = str(body["messages"][-1]["content"])
    return tuple(prompt.split(f"{name}: ")[1].split("\n", maxsplit=1)[0] for name in ("Correct answer", "Answer"))  # type: ignore[return-value]


def made(recipe: Recipe) -> tuple[Artifact, Artifact]:
    asked = questions.write(recipe)
    return asked, stages.train(recipe, asked)


def test_a_judge_at_an_endpoint_is_asked_each_pair_once_and_held_against_the_verifier(
    server: WireServer, data: Path
) -> None:
    def plan(body: dict[str, Any], time: int) -> Act:
        gold, answer = says(body)
        if answer == "legal":  # always approves of this one
            return Act(payload=completion(body, "+1"))
        if answer == "press":
            return Act(payload=completion(body, "I would say so"))
        return Act(payload=completion(body, "+1" if gold == answer else "-1"))

    server.plan = plan
    asked, found = made(asks(server))
    assert len(server.seen) == 600
    metrics = found.manifest.metrics
    assert isinstance(metrics, dict)
    right = metrics["judge_right"]
    # Of 540 wrong pairs 54 say legal and 54 say press; of 60 right ones 6 say press.
    assert right["wrong"]["share"] == pytest.approx(432 / 540) and right["right"]["share"] == pytest.approx(54 / 60)
    assert right["all"]["share"] == pytest.approx(486 / 600) and right["unusable"] == {"unclear reply": 60}
    assert metrics["judge"]["replies"] == 600
    rewards = verdicts.JudgedPairs(pl.read_parquet(found.path / "judged.parquet"), [], None).rewards()
    assert {rewards[question, "press"] for question in OWN["question"]} == {-1.0}
    again = asks(server).model_copy(update={"policy": asks(server).policy.model_copy(update={"seed": 1})})  # type: ignore[union-attr]
    stages.train(again, asked)
    assert len(server.seen) == 600  # what was judged is never judged again
    assert {entry["work"] for entry in found.manifest.ledger} == {"judging"}


def test_refusals_and_time_outs_count_as_minus_one_and_are_told(server: WireServer, data: Path) -> None:
    def plan(body: dict[str, Any], time: int) -> Act:
        gold, answer = says(body)
        if gold == "jobs":
            return Act(payload=completion(body, "", refusal="no"))
        if gold == "sales" and answer == "sales":
            return Act(hang=True)
        return Act(payload=completion(body, "+1" if gold == answer else "-1"))

    server.plan = plan
    _, found = made(asks(server, timeout=8.0, max_failures=0.2))
    metrics = found.manifest.metrics
    assert isinstance(metrics, dict)
    assert metrics["judge_right"]["unusable"] == {"Refused": 60, "Timeout": 6}
    judged = pl.read_parquet(found.path / "judged.parquet")
    assert verdicts.JudgedPairs(judged, [], None).rewards()["Are you hiring engineers?", "jobs"] == -1.0


def test_a_model_in_this_process_can_judge(data: Path) -> None:
    few = TinyPolicySettings(judge=TinyPolicyJudge(model="world/base", max_tokens=2), steps=5, study_noise=())
    recipe = SHIPPED.model_copy(update={"policy": few})
    asked, found = made(recipe)
    metrics = found.manifest.metrics
    assert isinstance(metrics, dict)
    assert metrics["judge_right"]["unusable"] == {"reply cut at the token limit": 600}  # it can only do sums
    page = (stages.study(recipe, asked, found).path / "index.html").read_text(encoding="utf-8")
    assert "world/base" in page or "the judge base" in page


def test_feedback_is_a_pair_a_question_in_the_preference_form(data: Path) -> None:
    _, found = made(SHIPPED)
    lines = (found.path / "preferences.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = {row["prompt"][0]["content"]: row for row in map(json.loads, lines)}
    gold = dict(OWN.select("question", "gold_answer").iter_rows())
    assert set(pairs) == set(gold)
    for question, row in pairs.items():
        assert row["chosen"] == [{"role": "assistant", "content": gold[question]}]
        [rejected] = row["rejected"]
        assert rejected["role"] == "assistant" and rejected["content"] != gold[question]
    judged = pl.read_parquet(found.path / "judged.parquet")
    undecided = judged.with_columns(verdict=pl.lit("undecided"))
    assert preference_pairs(load(found.path / NAME), undecided) == []


def test_the_page_says_what_the_study_found(data: Path) -> None:
    config = TinyPolicySettings(steps=30, study_noise=(0.0, 0.3), study_seeds=2)
    recipe = SHIPPED.model_copy(update={"policy": config})
    asked, found = made(recipe)
    studied = stages.study(recipe, asked, found)
    rows: Any = pl.read_parquet(studied.path / "runs.parquet").to_dicts()
    assert [(row["noise"], row["seed"]) for row in rows] == [(0, 0), (0, 1), *[(0.3, 0), (0.3, 1)] * 2]
    text = (studied.path / "report.md").read_text(encoding="utf-8")
    for condition in noise_study.summarise(rows):
        mean = sum(r["own"] for r in rows if (r["noise"], r["errors"]) == (condition.noise, condition.errors)) / 2
        assert f"{mean:.1%}" in text
    html = (studied.path / "index.html").read_text(encoding="utf-8")
    assert "<svg" in html and found.id in html and "<script" not in html and "src=" not in html


def test_ask_prints_the_choice(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = made(SHIPPED)
    with pytest.raises(SystemExit):
        main(["policy", "answer", found.id, "Where is my parcel?", "--json"])
    [row] = json.loads(capsys.readouterr().out)
    assert next(iter(row["answers"])) == "delivery" and sum(row["answers"].values()) == pytest.approx(1, abs=1e-4)


def test_a_recipe_without_the_section_is_refused() -> None:
    with pytest.raises(RecipeError, match="no section"):
        load_recipe("tiny").section(TinyPolicySettings)


@pytest.mark.prefect
def test_the_flow_tells_what_it_found_and_finds_it_the_second_time(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from flows.judge import judge as flow

    few = TinyPolicySettings(steps=20, study_noise=(0.1,), study_seeds=1)
    recipe = SHIPPED.model_copy(update={"policy": few})
    with prefect_test_harness(server_startup_timeout=120):
        first, second = flow(recipe), flow(recipe)
    assert [artifact.stage for artifact in first] == ["questions", "policy", "judge"]
    assert all(artifact.cached for artifact in second)
    told, page = capsys.readouterr().out, first[-1].path / "index.html"
    assert page.is_file() and told.count(f"report: {page}\n") == 2
    assert told.count((first[-1].path / "report.md").read_text()) == 2
