"""Scores of given tokens from a server: what is sent, what is refused, and that nothing is asked twice."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import EndpointError, RecipeError, TeacherError
from cohobate.models.loading import load
from cohobate.models.logprobs import TokenScores
from cohobate.models.sequence import TrainingSequence
from cohobate.store.artifacts import Artifact, Store
from cohobate.teachers.endpoint.client import Exchange
from cohobate.teachers.endpoint.prompt_logprobs import PromptLogprobs, ScoreRequest, ScoreWire, Unscored
from cohobate.training.distributed import ALONE
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import ScoringInput
from cohobate.training.scoring.server import ServerScorer, in_requests
from tests.support.pipeline import SMALL, train_stages
from tests.support.preflight import failed
from tests.support.training_runs import published_weights
from tests.support.wire_server import Act, Body, WireServer, completion, error, likeliest, logprob, scored

pytestmark = pytest.mark.serves

LENGTHS = [8, 5, 30, 12, 9, 21]
ROWS = {n: TrainingSequence(list(range(10 + n, 10 + n + length)), 3) for n, length in enumerate(LENGTHS)}


def recipe_of(url: str, *changes: str) -> Recipe:
    served = [
        "teacher.kind=endpoint",
        "teacher.model=m",
        f"teacher.base_url={url}",
        "opd.objective=topk",
        "opd.topk.k=4",
    ]
    return load_recipe("tiny", [*SMALL, *served, "opd.tokens_per_batch=120", "triples.timeout=20", *changes])


def ask(
    server: WireServer, rows: Mapping[int, TrainingSequence] = ROWS, top_k: int = 0
) -> list[list[PromptLogprobs] | Unscored]:
    recipe = recipe_of(server.url)
    exchange = Exchange(recipe.teacher, recipe.triples, ScoreWire(recipe.teacher))
    return [item for batch in exchange.answer(list(in_requests(rows, 40, top_k))) for item in batch]


def by_number(outcomes: list[list[PromptLogprobs] | Unscored]) -> dict[int, PromptLogprobs]:
    scores = [score for item in outcomes if not isinstance(item, Unscored) for score in item]
    assert len({score.number for score in scores}) == len(scores)
    return {score.number: score for score in scores}


def test_each_row_gets_the_scores_of_its_response_place_by_place() -> None:
    with WireServer().running() as server:
        found = by_number(ask(server, top_k=3))
    assert found.keys() == ROWS.keys() and found
    for number, row in ROWS.items():
        places = range(row.context, len(row.ids))
        score = found[number]
        for own, top, ids, at in zip(score.logprobs, score.top_logprobs, score.top_ids, places, strict=True):
            listed = likeliest(at, 3)
            assert own == pytest.approx(listed.get(row.ids[at], logprob(row.ids[at], at)))
            # The token itself, which vLLM adds, is one of them only if it is among the likeliest.
            assert dict(zip(ids, top, strict=True)) == pytest.approx(listed)
            assert top == sorted(top, reverse=True)


def test_requests_hold_as_many_rows_as_their_tokens_allow() -> None:
    assert [list(part.rows) for part in in_requests(ROWS, 40, 2)] == [[0, 1], [2], [3, 4], [5]]
    assert [list(part.rows) for part in in_requests(ROWS, 1, 2)] == [[n] for n in range(6)]
    assert [part.top_k for part in in_requests(ROWS, 10_000, 2)] == [2] and list(in_requests({}, 5, 0)) == []


def test_refusals_and_lost_connections_cost_a_retry_and_nothing_more() -> None:
    def plan(body: Body, time: int) -> Act:
        if time == 1:
            first = body["prompt"][0][0]
            return {10: Act(tear=True), 12: error(503, "busy"), 13: Act(halfway=True), 15: Act(raw="{")}[first]
        return Act()

    with WireServer(plan).running() as server:
        found = by_number(ask(server))
    assert set(found) == set(range(6)) and set(server.times.values()) == {2}


def test_a_server_that_goes_away_between_two_steps_is_waited_for() -> None:
    server = WireServer()
    recipe = recipe_of("http://127.0.0.1:1")
    with server.running():
        recipe = recipe_of(server.url)
        exchange = Exchange(recipe.teacher, recipe.triples, ScoreWire(recipe.teacher))
        assert by_number([item for batch in exchange.answer([ScoreRequest({0: ROWS[0]}, 0)]) for item in batch])
    answers = exchange.answer([ScoreRequest({1: ROWS[1]}, 0)])
    import threading

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(item for batch in answers for item in batch))
    thread.start()
    thread.join(0.7)
    assert thread.is_alive() and not found
    with server.running():
        thread.join(20)
        assert set(by_number(found)) == {1} and set(server.times.values()) == {1}


def spoilt(body: Body, **changes: Any) -> Act:
    payload = scored(body)
    payload["choices"][0].update(changes)
    return Act(payload=payload)


def shifted(body: Body, time: int) -> Act:
    places = scored(body)["choices"][0]["prompt_logprobs"]
    return spoilt(body, prompt_logprobs=[None, *places[2:], places[1]])


# What llama.cpp's server says to a prompt of token ids: of the prompt nothing.
GENERATED = {
    "index": 0,
    "text": "5",
    "finish_reason": "length",
    "logprobs": {"content": [{"id": 25, "token": "5", "logprob": -0.1, "bytes": [53], "top_logprobs": []}]},
}
REFUSED = {
    "log-probabilities of generated tokens alone, as of llama.cpp": (
        lambda body, time: Act(payload=completion({**body, "messages": []}, choices=[GENERATED])),
        r"returns no log-probabilities of given tokens \(prompt_logprobs\), as Ollama, llama.cpp .*with vLLM",
    ),
    "shifted by one": (shifted, "scores other tokens than it was sent"),
    "another prompt": (lambda body, time: spoilt(body, prompt_token_ids=[1, 2]), "scores other tokens than it was"),
    "a token too few": (
        lambda body, time: spoilt(body, prompt_logprobs=scored(body)["choices"][0]["prompt_logprobs"][:-1]),
        r"other tokens .*8 ids were sent, 7 scores came",
    ),
    "too few of the likeliest": (
        lambda body, time: Act(payload=scored({**body, "prompt_logprobs": 2})),
        "gives [23] likeliest tokens, not 4",
    ),
    "another model": (lambda body, time: error(404, "The model `m` does not exist", "404"), r"has no model 'm'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_garbage_is_refused_in_one_sentence(kind: str) -> None:
    plan, sentence = REFUSED[kind]
    with WireServer(plan).running() as server, pytest.raises(EndpointError, match=sentence) as caught:
        ask(server, {0: ROWS[0]}, top_k=4)
    assert "\n" not in str(caught.value) and server.url in str(caught.value) and len(server.seen) == 1


def test_a_recipe_that_needs_distributions_distributions_is_refused_with_the_way_out() -> None:
    url = "http://127.0.0.1:1/v1"
    for objective in ("exact", "gkd"):
        with pytest.raises(RecipeError, match=r"whole distribution.*'topk' or 'sampled'"):
            recipe_of(url, f"opd.objective={objective}")
    with pytest.raises(RecipeError, match=r"set sft\.logit_kd\.top_k"):
        recipe_of(url, "sft.objective=logit_kd")
    with pytest.raises(RecipeError, match=r"scoring = 'server'"):
        load_recipe("tiny", [f"teacher.base_url={url}"])
    assert recipe_of(url, "sft.objective=logit_kd", "sft.logit_kd.top_k=8").served_scores


def test_scores_are_kept_as_they_come_and_only_the_rest_is_asked_again(tmp_path: Path) -> None:
    student = load("world/base")
    inputs = [ScoringInput(n, f"What is {n} + 1?", list(range(5, 25))) for n in range(12)]
    refused = [True]

    def plan(body: Body, time: int) -> Act:
        return error(400, "not this one") if refused[0] and len(server.seen) == 3 else Act()

    def scorer() -> ServerScorer:
        changes = ["triples.concurrency=1", "triples.attempts=1"]
        needs = TeacherNeeds(top_k=4)
        return ServerScorer(recipe_of(server.url, *changes), student, needs, tmp_path, 120, ALONE)

    with WireServer(plan).running() as server:
        with pytest.raises(
            TeacherError, match=r"does not score .*rollouts of up to \d+ tokens.*not this one.*run again"
        ):
            scorer().score(7, inputs)
        before = {number(key) for path in tmp_path.glob("*.safetensors") for key in load_file(path)}
        refused[0] = False
        found = scorer().score(7, inputs)
        sent = rows_sent(server)
        assert 0 < len(before) < len(inputs) and max(Counter(sent).values()) == 1 and len(sent) == len(inputs)
        assert all(same(one, other) for one, other in zip(found, scorer().load(7, inputs) or [], strict=True))
        assert sent == rows_sent(server)
    for scores in found:
        assert scores.top_ids is not None and scores.top_ids.shape == (20, 4) and scores.logprobs.shape == (20,)
    scorer().forget(8)
    assert not list(tmp_path.iterdir())


def rows_sent(server: WireServer) -> list[tuple[int, ...]]:
    """The rows that were scored, once for each time."""
    bodies = [seen.body for seen in server.seen if seen.status == 200 and "prompt_logprobs" in seen.body]
    return [tuple(ids) for body in bodies for ids in body["prompt"]]


def number(key: str) -> int:
    return int(key.partition(".")[0])


def same(one: TokenScores, other: TokenScores) -> bool:
    ours, theirs = one.features(), other.features()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_stage_that_the_teacher_left_in_the_lurch_asks_and_samples_only_for_the_rest(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollouts of the step are not sampled again, and the student comes out the same to the last bit."""
    tokenizer = load("world/base").tokenizer
    failing = [True]

    def plan(body: Body, time: int) -> Act:
        if "prompt" not in body or "prompt_logprobs" not in body:
            return Act()
        if failing[0] and sum("prompt_logprobs" in seen.body for seen in server.seen) == 16:
            return error(400, "enough for today")
        return Act(payload=scored(body, lambda token: str(tokenizer.decode([token]))))

    def run(root: Path) -> Artifact:
        monkeypatch.setenv("COHOBATE_DATA", str(root))
        changes = [
            "triples.concurrency=1",
            "triples.attempts=1",
            "opd.steps=4",
            "opd.topk.k=2",
            "sft.steps=2",
            "sft.select=all",
        ]
        return train_stages(recipe_of(server.url, *changes, "opd.tokens_per_batch=400"))["opd"]

    with WireServer(plan).running() as server:
        with pytest.raises(TeacherError, match="enough for today"):
            run(data)
        [held] = data.glob("**/held-*.parquet")
        before = pl.read_parquet(held)
        failing[0] = False
        made = run(data)
        sent = rows_sent(server)
        whole = run(tmp_path / "whole")
    log = pl.read_parquet(made.path / "rollouts.parquet")
    step = log.filter(pl.col("step") == before["step"][0])
    assert step["response_ids"].equals(before["response_ids"])
    assert log.equals(pl.read_parquet(whole.path / "rollouts.parquet"))
    weights = [published_weights(artifact) for artifact in (made, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    keys = Counter(zip(log["teacher_prompt_tokens"].to_list(), map(tuple, log["response_ids"].to_list()), strict=True))
    asked = Counter((prompt, ids[prompt:]) for ids in sent for prompt in set(log["teacher_prompt_tokens"].to_list()))
    assert len(log) == 64 and {key: asked[key] for key in keys} == dict(keys)
    assert not list(data.glob("**/held-*.parquet"))
    assert len(Store(data).all()) == 4


@pytest.mark.parametrize(
    ("kind", "line", "sentence"),
    [
        ("none", "server scores", "returns no log-probabilities of given tokens"),
        ("ollama", "server scores", r"does not score given token ids .*cannot unmarshal array.*Ollama and llama\.cpp"),
        ("noise", "server repeats", r"scores of the same tokens differ by 0\.\d+ nats"),
        ("other", "server tokenizer", r"reads other tokens: \d+ of \d+ differ, such as id \d+, which is 'x\d+' there"),
    ],
)
def test_preflight_names_what_is_wrong_with_a_server(data: Path, kind: str, line: str, sentence: str) -> None:
    import re

    tokenizer = load("world/base").tokenizer

    def plan(body: Body, time: int) -> Act:
        if "prompt_logprobs" not in body:
            return Act()
        if kind == "ollama":
            said = "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"
            return error(400, said)
        payload = scored(body, lambda token: f"x{token}" if kind == "other" else str(tokenizer.decode([token])))
        for choice in payload["choices"]:
            if kind == "none":
                choice["prompt_logprobs"] = None
            elif kind == "noise":
                for place in choice["prompt_logprobs"][1:]:
                    for found in place.values():
                        found["logprob"] -= len(server.seen) % 3 / 4
        return Act(payload=payload)

    with WireServer(plan).running() as server:
        found = failed(recipe_of(server.url))
    assert list(found) == [line] and re.search(sentence, found[line]) and "\n" not in found[line]
