"""The settings of an endpoint: its key, price and identity, wrong values, and the checks of preflight."""

import json
from pathlib import Path
from typing import Any

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import EndpointError, RecipeError
from cohobate.stages.preflight import check
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, WireServer, completion, error

pytestmark = pytest.mark.serves


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: WireServer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = lambda body, time: error(400, "who is s3cret?") if number(body) == 0 else Act()
    recipe = recipe_of(tmp_path, server.url, 20)
    keyed = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"api_key_env": "KEY"})})
    with pytest.raises(EndpointError, match="names KEY, which is not set"):
        make(keyed)
    monkeypatch.setenv("KEY", "s3cret")
    monkeypatch.setenv("OPENAI_API_KEY", "of another provider")
    assert table(make(keyed), "failures")["message"].to_list() == ["who is ***?"]
    assert {seen.headers["Authorization"] for seen in server.seen} == {"Bearer s3cret"}
    everything = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(b"s3cret" in content for content in everything)
    assert "s3cret" not in "".join(capsys.readouterr())
    make(recipe_of(tmp_path, server.url, 20, triples={"seed": 1}))
    assert server.seen[-1].headers["Authorization"] == "Bearer none"


def test_tokens_cost_what_the_recipe_says(server: WireServer, tmp_path: Path, data: Path) -> None:
    prices = {"base_url": server.url, "kind": "endpoint", "model": "m", "price_input": 1.0, "price_output": 2.5}
    made = make(recipe_of(tmp_path, server.url, 20, teacher=prices))
    assert table(made)["cost_usd"].to_list() == pytest.approx([10e-6 + 50e-6] * 20)
    more = make(recipe_of(tmp_path, server.url, 30, teacher=prices))
    metrics = more.manifest.metrics
    assert isinstance(metrics, dict)
    assert metrics["cost_usd"] == pytest.approx(600e-6) and metrics["cost_usd_earlier"] == pytest.approx(1200e-6)
    free = make(recipe_of(tmp_path, server.url, 10)).manifest.metrics
    assert isinstance(free, dict) and free["cost_usd"] is None


def test_a_row_says_who_answered(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: Act(payload=completion(body, model="m-2024-08-06"))
    teacher = {"kind": "endpoint", "model": "m", "base_url": server.url, "provider": "acme", "revision": "7"}
    made = make(recipe_of(tmp_path, server.url, 1, teacher={**teacher, "extra": {"min_p": 0.1}}))
    row = table(made).to_dicts()[0]
    names = ("teacher_name", "teacher_model", "teacher_revision", "provider")
    assert [row[name] for name in names] == ["m", "m-2024-08-06", "7", "acme"]
    assert json.loads(row["extra"]) == {"min_p": 0.1} == {"min_p": server.seen[0].body["min_p"]}
    [entry] = made.manifest.ledger
    assert (entry["tokens"], entry["prompt_tokens"], entry["flops"], entry["params"]) == (20, 10, 0, 0)


def test_where_it_is_served_is_no_part_of_what_it_is(tmp_path: Path, data: Path) -> None:
    first, second = WireServer(), WireServer()
    with first.running(), second.running():
        made = make(recipe_of(tmp_path, first.url, 5))
        moved = make(recipe_of(tmp_path, second.url, 5, triples={"concurrency": 3, "timeout": 9.0, "attempts": 2}))
        assert moved.cached and moved.fingerprint == made.fingerprint and not second.seen
        others: list[dict[str, Any]] = [
            {"model": "n"},
            {"revision": "2"},
            {"provider": "acme"},
            {"extra": {"min_p": 0.1}},
            {"system": "Be."},
        ]
        for changes in others:
            teacher = {"kind": "endpoint", "model": "m", "base_url": second.url, "prompt": "{question}", **changes}
            assert not make(recipe_of(tmp_path, second.url, 5, teacher=teacher)).cached
        assert len(second.seen) == 5 * len(others)


ENDPOINT = ["teacher.kind=endpoint", "teacher.model=m", "teacher.base_url='http://localhost:8000/v1'"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (ENDPOINT, "set opd.objective = 'topk' or 'sampled' or 'ghost', or opd.steps = 0"),
        (ENDPOINT[:2], "needs base_url"),
        ([ENDPOINT[0], ENDPOINT[2]], "needs model"),
        (ENDPOINT[2:], "set kind = 'endpoint'"),
        ([*ENDPOINT, "teacher.base_url=localhost"], "http://HOST:PORT/v1"),
        ([*ENDPOINT, "teacher.base_url='http://h/v1/chat/completions'"], "end it before /chat/completions"),
        ([*ENDPOINT, "teacher.base_url='http://u:s3cret@h/v1'"], "must not carry a key"),
        ([*ENDPOINT, "teacher.base_url='http://h/v1?key=s3cret'"], "must not carry a key"),
        ([*ENDPOINT, "teacher.api_key_env=sk-s3cret"], "the name of an environment variable"),
        ([*ENDPOINT, "teacher.price_input=1.0"], "belong together"),
    ],
)
def test_a_wrong_setting_is_one_sentence_without_the_key(overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tiny", overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_preflight_says_whether_the_endpoint_answers(server: WireServer, tmp_path: Path, data: Path) -> None:
    results = {item.name: item for item in check(recipe_of(tmp_path, server.url, 5))}
    assert results["teacher answers"].passed and "m at" in results["teacher answers"].detail
    assert all(item.passed for item in results.values()) and "student loads" in results
    assert len(server.seen) == 1 and server.seen[0].body["max_tokens"] == 16
    server.plan = lambda body, time: error(404, "no such model")
    last = check(recipe_of(tmp_path, server.url, 5))[-1]
    assert last.name == "teacher answers" and not last.passed and "has no model 'm'" in last.detail


# As its documentation says; values are single precision.
PROPS = {"default_generation_settings": {"params": {"top_k": 40, "top_p": 0.949999988079071, "repeat_penalty": 1.0}}}


def test_preflight_says_what_llama_cpp_does_unasked(server: WireServer, tmp_path: Path, data: Path) -> None:
    def line(**extra: Any) -> tuple[bool, str]:
        teacher = {"extra": extra}
        checks = check(recipe_of(tmp_path, server.url, 5, teacher=teacher, triples={"temperature": 1.0}))
        return next((item.passed, item.detail) for item in checks if item.name == "teacher as asked")

    assert line() == (True, "does not say what it adds to a request")
    server.pages["/props"] = PROPS
    passed, said = line(top_k=0)
    assert not passed and "(top_p 0.95); set teacher.extra = {top_p = 1}" in said
    assert line(top_k=0, top_p=1.0) == (True, "adds nothing to a request")
    server.pages["/v1/models"] = {"data": [{"id": "other", "owned_by": "llamacpp"}]}
    passed, said = line(top_k=0, top_p=1.0)
    assert not passed and f"{server.url} serves 'other' and answers to any name, 'm' too; correct teacher.model" in said
    for listed in ("m", "models/m"):
        server.pages["/v1/models"] = {"data": [{"id": listed, "owned_by": "llamacpp"}]}
        assert line(top_k=0, top_p=1.0)[0]
    # A provider's list need not be whole, and it refuses what it does not know.
    server.pages["/v1/models"] = {"data": [{"id": "other", "owned_by": "system"}]}
    assert line(top_k=0, top_p=1.0)[0]
