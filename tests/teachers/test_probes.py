"""Probes against a real server: one that stays, one whose model changes, one that is unsteady, one that is away."""

import json
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Gate, Recipe
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.datasets.gate_checks import probes as check_of
from cohobate.datasets.teacher_names import changed_teachers, teacher_label
from cohobate.sources.read import read
from cohobate.stages import questions, triples
from cohobate.teachers.probes import ProbeResult, first_change, probe
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.wire_server import Act, Body, Plan, WireServer, completion, error

pytestmark = pytest.mark.serves


def answering(model: str, unsteady: int = 0) -> Plan:
    """A model that says its name; to `unsteady` of twenty questions it says something else each time."""

    def plan(body: Body, time: int) -> Act:
        again = f" ({time})" if number(body) < unsteady else ""
        return Act(completion(body, f"{model} counts{again}.\nAnswer: {number(body)}"))

    return plan


@pytest.fixture
def recipe(data: Path, tmp_path: Path, server: WireServer) -> Recipe:
    return recipe_of(tmp_path, server.url, 20, teacher={"probes": 20})


def asked(recipe: Recipe) -> ProbeResult:
    return probe(recipe, read(recipe.questions).questions)


def test_a_teacher_that_stays_the_same_differs_in_nothing(recipe: Recipe, server: WireServer) -> None:
    server.plan = answering("one")
    first = asked(recipe)
    assert (first.since, first.answered, first.probes) == (None, 0, 20) and check_of(first, Gate()).passed
    assert [seen.body["temperature"] for seen in server.seen] == [0] * 60
    assert sorted(server.times.values()) == [3] * 20
    second = asked(recipe)
    assert (second.answered, second.differing, second.unsteady) == (20, 0, 0)
    assert len(server.seen) == 80 and check_of(second, Gate()).passed


def test_another_model_under_the_same_name_is_noticed_until_the_revision_says_so(
    recipe: Recipe, server: WireServer
) -> None:
    server.plan = answering("one")
    asked(recipe)
    server.plan = answering("two")
    for _ in range(2):  # what differs is never taken for the model's own
        check = check_of(asked(recipe), Gate())
        assert check.reason and "20 of 20 probes of endpoint/m@unknown differ" in check.reason
        assert "set teacher.revision" in check.reason and (check.before, check.now) == (0, 1)
    assert check_of(asked(recipe), Gate(probes=1)).passed
    revised = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"revision": "2"})})
    assert asked(revised).since is None and asked(revised).differing == 0


@pytest.mark.parametrize(
    ("unsteady", "changed", "passes"), [(10, 10, True), (10, 20, False), (0, 2, True), (0, 10, False)]
)
def test_what_a_server_says_otherwise_by_itself_is_no_other_model(
    recipe: Recipe, server: WireServer, unsteady: int, changed: int, passes: bool
) -> None:
    """The share that differs is held against the share of the first night, with its interval."""
    server.plan = answering("one", unsteady)
    first = asked(recipe)
    other = answering("two")
    server.plan = lambda body, time: (other if number(body) < changed else answering("one"))(body, time)
    result = asked(recipe)
    assert (result.unsteady, result.probes, result.differing) == (unsteady, 20, changed)
    assert check_of(result, Gate()).passed is passes
    assert f"{changed} of 20 probes" in result.sentence and first.sentence.endswith("20 are kept")


def test_the_name_in_the_replies_tells_too(recipe: Recipe, server: WireServer) -> None:
    def dated(day: str) -> Plan:
        return lambda body, time: Act(completion(body, f"So.\nAnswer: {number(body)}", model=f"m-{day}"))

    server.plan = dated("2026-11-01")
    asked(recipe)
    server.plan = dated("2026-11-20")
    result = asked(recipe)
    assert result.differing == 20 and "replies say m-2026-11-20, and said m-2026-11-01" in result.sentence


def test_a_server_that_is_away_is_told_and_says_nothing_of_the_model(recipe: Recipe, server: WireServer) -> None:
    server.plan = answering("one")
    asked(recipe)
    server.plan = lambda body, time: error(400, "the model is away")
    result = asked(recipe)
    assert (result.answered, result.differing) == (0, 0)
    check = check_of(result, Gate())
    assert check.reason and "the model is away" in check.reason and "nothing says whether" in check.reason
    server.plan = answering("one")
    assert asked(recipe).answered == 20


def test_requests_of_another_length_or_seed_are_compared_with_their_own_replies_alone(
    recipe: Recipe, server: WireServer
) -> None:
    def plan(body: Body, time: int) -> Act:
        return Act(completion(body, f"{body['max_tokens']} tokens, seed {body['seed']}"))

    server.plan = plan
    for triples_of in ({"max_tokens": 64}, {"max_tokens": 128}, {"seed": 3}, {"max_tokens": 512}):
        other = changed(recipe, {"triples": triples_of}, "other limits")
        assert asked(other).since is None
        assert (asked(other).answered, asked(other).differing) == (20, 0)
    longer = changed(recipe, {"triples": {"max_tokens": 4096}}, "no other request")
    assert (asked(longer).answered, asked(longer).differing) == (20, 0)


def test_noise_is_no_change_and_the_first_night_of_a_change_is_remembered(
    recipe: Recipe, server: WireServer, data: Path
) -> None:
    def other_for(count: int) -> Plan:
        return lambda body, time: answering("two" if number(body) < count else "one")(body, time)

    server.plan = answering("one")
    asked(recipe)
    server.plan = other_for(1)
    assert asked(recipe).differing == 1 and first_change("endpoint/m@unknown") is None
    server.plan = other_for(20)
    asked(recipe)
    moment = first_change("endpoint/m@unknown")
    [path] = (data / "probes").glob("m-*.json")
    file = read_sealed_json(path)
    noise, change = file["nights"]
    assert (len(noise["differing"]), change["at"]) == (1, moment)
    write_sealed_json(path, {**file, "nights": [change, *[noise] * 99]})
    asked(recipe)
    assert moment not in [night["at"] for night in read_sealed_json(path)["nights"]]
    assert first_change("endpoint/m@unknown") == moment


def test_a_probe_with_empty_replies_is_not_kept_and_told(recipe: Recipe, server: WireServer) -> None:
    def plan(body: Body, time: int) -> Act:
        return Act(completion(body, "" if number(body) < 5 else "So.", finish_reason="length"))

    server.plan = plan
    for new in (20, 5):  # those without a kept reply are asked again
        result = asked(recipe)
        assert result.probes == 15
        assert f"5 of {new} new probes got neither text nor reasoning within 64 tokens" in result.sentence
    assert (result.answered, result.differing) == (15, 0)
    server.plan = lambda body, time: Act(completion(body, "", reasoning="Well.", finish_reason="length"))
    result = asked(recipe)
    assert (result.answered, result.differing) == (15, 15) and "neither" not in result.sentence
    assert asked(recipe).answered == 20


def test_kept_questions_are_asked_though_the_file_has_others_now(
    recipe: Recipe, server: WireServer, tmp_path: Path
) -> None:
    server.plan = answering("one")
    asked(recipe)
    before = {json.dumps(seen.body) for seen in server.seen}
    other = recipe_of(tmp_path, server.url, 40, teacher={"probes": 24})
    server.seen.clear()
    result = asked(other)
    bodies = [json.dumps(seen.body) for seen in server.seen]
    assert before <= set(bodies) and len(set(bodies)) == 24 and len(bodies) == 20 + 4 * 3
    assert (result.answered, result.differing) == (20, 0)


def test_of_an_endless_reply_a_bounded_part_is_kept(recipe: Recipe, server: WireServer, data: Path) -> None:
    server.plan = lambda body, time: Act(completion(body, "so " * 400_000, reasoning="hm " * 400_000))
    assert asked(recipe).probes == 20 and asked(recipe).differing == 0
    [path] = (data / "probes").glob("m-*.json")
    assert path.stat().st_size < 60 * 2 * 20_000


def test_a_damaged_file_is_moved_aside_and_replies_are_kept_anew(
    recipe: Recipe, server: WireServer, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = answering("one")
    asked(recipe)
    [path] = (data / "probes").glob("m-*.json")
    path.write_text(path.read_text().replace("one counts", "two counts"))
    assert asked(recipe).since is None
    assert "cannot be read as probes" in capsys.readouterr().err and path.with_name(f"{path.name}.damaged-1").exists()


def test_a_dataset_of_two_models_names_both(recipe: Recipe, server: WireServer, tmp_path: Path) -> None:
    server.plan = answering("one")
    asked(recipe)
    first = triples.write(recipe, questions.write(recipe))
    assert changed_teachers(first.path) == []
    more = recipe_of(tmp_path, server.url, 30, teacher={"probes": 20})
    server.plan = answering("two")
    asked(more)
    moment = first_change("endpoint/m@unknown")
    assert moment
    both = triples.write(more, questions.write(more))
    [sentence] = changed_teachers(both.path)
    assert f"otherwise from {moment[:16].replace('T', ' ')} UTC on" in sentence
    assert "20 responses are from before, 10 since" in sentence
    assert changed_teachers(first.path) == []
    revised = recipe_of(tmp_path, server.url, 30, teacher={"revision": "of November"})
    asked_before = len(server.seen)
    new = triples.write(revised, questions.write(revised))
    assert len(server.seen) == asked_before + 30 and changed_teachers(new.path) == []
    rows = pl.scan_parquet(new.path / "triples.parquet").select(teacher_label().unique()).collect()
    assert rows.to_series().to_list() == ["m (of November)"]


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"kind": "local", "model": "world/teacher", "base_url": None}, "probes are for an endpoint"),
        ({"probes": 3}, "probes = 3 are too few"),
        ({"omit": ["temperature"]}, "omit leaves out temperature"),
        ({"probes": 65}, "less than or equal to 64"),
    ],
)
def test_probes_that_can_say_nothing_are_refused(tmp_path: Path, teacher: dict[str, object], said: str) -> None:
    from cohobate.config.load import make_recipe

    base = {"kind": "endpoint", "model": "m", "base_url": "http://127.0.0.1:9/v1", "probes": 8}
    with pytest.raises(RecipeError, match=said):
        make_recipe({"teacher": {**base, **teacher}, "opd": {"steps": 0}}, "recipe x")
