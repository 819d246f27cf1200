"""llama-cpp-python's server with the shipped teacher: it answers and judges, and says why it cannot score."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Judge, Recipe, Verification
from cohobate.core.errors import UserError
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.models.loading import load
from cohobate.stages.preflight import Finding, check
from cohobate.teachers.endpoint.scoring_checks import require_scores
from tests.support.llama_runs import llama, needs_llama, write_gguf
from tests.support.processes import wait_while_running
from tests.support.triples_stage import make, table
from tests.support.vllm_runs import QUESTIONS, recipe_of, start, stored_keys
from tests.support.wire_server import unused_port

pytestmark = needs_llama

CONCURRENCY = 4
# What its server must be told not to do.
NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
AS_IT_IS = "teacher.extra={" + ", ".join(f"{name} = {value}" for name, value in NEUTRAL.items()) + "}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "teacher.gguf")


@pytest.fixture(scope="module")
def url(file: Path) -> Iterator[str]:
    port = unused_port()
    with llama(file, port, file.with_name("log")):
        yield f"http://127.0.0.1:{port}/v1"


def asking(url: str, *changes: str) -> Recipe:
    settings = ["kind=endpoint", "model=world/teacher", f"base_url={url}"]
    return recipe_of(*(f"teacher.{setting}" for setting in settings), f"triples.concurrency={CONCURRENCY}", *changes)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The triples of transformers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("local")))
        return table(make(recipe_of()))


def different(served: pl.DataFrame, theirs: pl.DataFrame) -> int:
    """How many responses to the same prompts are."""
    both = served.join(theirs, on=["question_id", "sample_index"], suffix="_local")
    assert len(both) == QUESTIONS and both["prompt_tokens"].equals(both["prompt_tokens_local"])
    return len(both.filter(pl.col("response") != pl.col("response_local")))


@pytest.mark.kill
def test_killed_and_started_again_it_loses_nothing_and_answers_as_transformers_do(
    file: Path, theirs: pl.DataFrame, tmp_path: Path, data: Path
) -> None:
    port = unused_port()
    recipe = asking(f"http://127.0.0.1:{port}/v1", AS_IT_IS)
    with llama(file, port, tmp_path / "first") as server:
        client = start(recipe, data)
        wait_while_running(client, lambda: len(stored_keys(data)) >= 20, 240)
        server.kill()
    time.sleep(1)  # what had arrived is stored by now
    before = len(stored_keys(data))
    assert 20 <= before < QUESTIONS - 8 and client.poll() is None
    with llama(file, port, tmp_path / "second"):
        assert client.wait(120) == 0, client.communicate()
    keys = stored_keys(data)
    assert len(keys) == len(set(keys)) == QUESTIONS
    answered = re.findall(r"POST /v1/chat/completions HTTP/1.1\" 200", (tmp_path / "second").read_text())
    assert len(answered) == QUESTIONS - before

    made = make(recipe)
    assert made.cached and table(made, "failures").is_empty()
    rows = table(made)
    assert set(rows["provider"]) == {"endpoint"} and set(rows["teacher_model"]) == {"world/teacher"}
    assert (rows["completion_tokens"] > 0).all()
    assert len(rows.filter(pl.col("attempts") > 1)) <= 2 * CONCURRENCY
    assert made.manifest.named_metrics["pass_rate"] > 0.8
    assert different(rows, theirs) <= 0.03 * QUESTIONS


def failed(recipe: Recipe) -> list[Finding]:
    return [item for item in check(recipe) if not item.passed]


def test_left_alone_it_penalises_repetitions_and_preflight_says_what_to_set(
    url: str, theirs: pl.DataFrame, data: Path
) -> None:
    left_alone = asking(url)
    [found] = failed(left_alone)
    assert found.name == "teacher as asked" and "(repeat_penalty 1.1)" in found.detail
    assert "set teacher.extra = {repeat_penalty = 1}" in found.detail
    assert different(table(make(left_alone)), theirs) > 0  # "No, 27 + 5 = 32."

    [found] = failed(asking(url, "triples.temperature=1.0", "triples.top_k=5"))
    assert "(top_p 0.95, min_p 0.05, repeat_penalty 1.1)" in found.detail
    assert "teacher.extra = {top_p = 1, min_p = 0, repeat_penalty = 1}" in found.detail
    for temperature in ("0.0", "1.0"):
        lines = check(asking(url, AS_IT_IS, f"triples.temperature={temperature}"))
        assert all(line.passed for line in lines)
        assert "adds nothing" in {line.name: line.detail for line in lines}["teacher as asked"]


def test_preflight_names_the_model_that_it_serves_whatever_it_is_asked_for(url: str, data: Path) -> None:
    [found] = failed(asking(url, AS_IT_IS, "teacher.model=Qwen/Qwen3-8B"))
    assert "serves 'world/teacher' and answers to any name, 'Qwen/Qwen3-8B' too" in found.detail


def test_it_is_refused_for_scores_with_the_reason(url: str, data: Path) -> None:
    scoring = ["opd.steps=2", "opd.objective=topk", "opd.topk.k=2", "triples.attempts=1"]
    recipe = asking(url, AS_IT_IS, *scoring)
    [found] = failed(recipe)
    assert found.name == "server scores" and "\n" not in found.detail
    assert re.search(
        r"does not score given token ids .*Input should be a valid string.*llama\.cpp cannot", found.detail
    )
    with pytest.raises(UserError, match=r"does not score given token ids .*\(preflight: server scores\)"):
        require_scores(recipe, load("world/base"))


def test_its_replies_are_read_as_verdicts_or_as_the_reason_for_none(url: str, data: Path) -> None:
    """The teacher knows arithmetic alone, and judges nothing; what it says is kept."""
    settings = {"kind": "endpoint", "model": "world/teacher", "base_url": url, "attempts": 2, "max_failures": 0.5}
    shaped = {"extra": {"repeat_penalty": 1.0}, "max_tokens": 64}
    asked = Judge.model_validate({**settings, **shaped, "prompt": "What is {question} + {answer}?"})
    cases = [
        Case("3", "5", question="2", response="Answer: 3"),
        Case("3 " * 600, "5", question="2", response="Answer: 3"),
    ]
    plain, long = verdicts_of(Verification(name="judge", judge=asked), cases)
    assert (plain.label, plain.reason) == ("undecided", "unclear reply: 2 + 3 = 5. Answer: 5")
    assert long.label == "undecided" and "maximum context length is 512 tokens" in (long.reason or "")
    cut = Verification(name="judge", judge=asked.model_copy(update={"max_tokens": 3}))
    [verdict] = verdicts_of(cut, cases[:1])
    assert (verdict.reason or "").startswith("reply cut at the token limit: 2")
