"""`teacher.kind = "vllm"`: the real engine, beside this process, with the shipped teacher."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Runtime
from cohobate.core.errors import EngineError, TeacherError
from cohobate.models.chat_template import messages
from cohobate.store.artifacts import Artifact
from cohobate.teachers.base import Failure, Request, Response
from cohobate.teachers.vllm.teacher import VllmTeacher
from tests.support.preflight import failed
from tests.support.processes import wait_until_gone, wait_while_running
from tests.support.triples_stage import make, table
from tests.support.vllm_runs import QUESTIONS, engines, needs_vllm, recipe_of, start, stored_keys

pytestmark = needs_vllm


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The same triples by transformers, in another data folder."""
    with monkeypatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path / "local"))
        return make(recipe_of())


@pytest.mark.kill
def test_a_killed_run_asks_only_for_the_rest_and_the_answers_are_those_of_transformers(
    local: Artifact, tmp_path: Path, data: Path
) -> None:
    slow = recipe_of("teacher.kind=vllm", "triples.batch_size=4")
    process = start(slow, data)
    wait_while_running(process, lambda: len(stored_keys(data)) >= 20, 240)
    running = engines(data)
    process.kill()
    process.wait()
    assert running
    wait_until_gone(running)
    before = stored_keys(data)
    assert 20 <= len(before) < QUESTIONS - 8  # it was in the middle

    made = make(recipe_of("teacher.kind=vllm", "triples.batch_size=32"))
    keys = stored_keys(data)
    assert len(keys) == len(set(keys)) == QUESTIONS  # what was stored was not asked again
    paid = {entry["paid"]: entry for entry in made.manifest.ledger}
    assert sum(entry["sequences"] for entry in paid.values()) == QUESTIONS

    assert made.fingerprint == local.fingerprint  # which engine computes a model's answers changes no data
    ours, theirs = table(made), table(local)
    assert set(ours["provider"]) == {"vllm"} and set(theirs["provider"]) == {"transformers"}
    assert ours["engine_version"].str.starts_with("vllm 0.").all()
    both = ours.join(theirs, on="request_key", suffix="_local")
    same = both.filter(pl.col("response") == pl.col("response_local"))
    assert len(both) == QUESTIONS and len(same) >= 0.97 * QUESTIONS
    assert same["completion_tokens"].equals(same["completion_tokens_local"], check_dtypes=False)
    assert same["finish_reason"].equals(same["finish_reason_local"])
    assert ours["prompt_tokens"].equals(theirs["prompt_tokens"])
    rates = [a.manifest.named_metrics["pass_rate"] for a in (made, local)]
    assert rates[1] > 0.95 and abs(rates[0] - rates[1]) < 0.04
    flops = [sum(entry["flops"] for entry in a.manifest.ledger) for a in (made, local)]
    assert flops[0] == pytest.approx(flops[1], rel=0.05) and flops[0] > 0


def request(question: str, index: int = 0, **changes: float) -> Request:
    asked = messages(question, "{question} Think step by step.", None)
    values = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 48, "seed": 0, **changes}
    return Request(question, asked, "m", sample_index=index, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmTeacher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("engine")))
        teacher = VllmTeacher(recipe_of("teacher.kind=vllm").teacher, 8, Runtime(threads=1))
        yield teacher
        teacher.stop()


def answers(engine: VllmTeacher, requests: list[Request]) -> list[Response | Failure]:
    return [item for batch in engine.answer(requests) for item in batch]


def texts(engine: VllmTeacher, requests: list[Request]) -> dict[str, str]:
    found = answers(engine, requests)
    assert all(isinstance(item, Response) for item in found)
    return {item.key: item.text for item in found if isinstance(item, Response)}


def test_a_sample_has_noise_of_its_own_whatever_runs_beside_it(engine: VllmTeacher) -> None:
    samples = [request("What is 17 + 5 * 3?", index) for index in range(12)]
    together = texts(engine, samples)
    assert len(set(together.values())) > 1
    alone = {key: text for sample in samples[:4] for key, text in texts(engine, [sample]).items()}
    assert alone == {sample.key: together[sample.key] for sample in samples[:4]}


def test_a_prompt_that_is_too_long_is_a_failure_of_its_own(engine: VllmTeacher) -> None:
    found = answers(engine, [request("What is 2 + 3?"), request("1 + " * 600 + "1?"), request("What is 4 + 4?")])
    [failure] = [item for item in found if isinstance(item, Failure)]
    assert failure.error_class == "VLLMValidationError" and "512" in failure.message and len(found) == 3


def test_a_response_is_cut_at_the_limit_and_the_sampling_is_that_of_the_request(engine: VllmTeacher) -> None:
    [cut] = answers(engine, [request("What is 17 + 5 * 3?", max_tokens=5)])
    assert isinstance(cut, Response) and (cut.finish_reason, cut.completion_tokens) == ("length", 5)
    greedy = texts(engine, [request("What is 17 + 5 * 3?", temperature=0.0)])
    top = texts(engine, [request("What is 17 + 5 * 3?", index, top_k=1) for index in range(4)])
    assert set(top.values()) == set(greedy.values())


def test_an_engine_that_dies_is_one_sentence_and_what_it_answered_is_kept(engine: VllmTeacher) -> None:
    samples = [request(f"What is {n} + {n} * 3?") for n in range(1, 60)]
    kept: list[Response | Failure] = []
    with pytest.raises(TeacherError, match=r"vLLM stopped in the middle: killed by signal 9.*run again") as caught:
        for batch in engine.answer(samples):
            kept += batch
            if len(kept) >= 5:
                assert engine.process is not None
                engine.process.group.process.kill()
    kept += engine.stop()
    assert "\n" not in str(caught.value) and 5 <= len(kept) < len(samples)
    assert len({item.key for item in kept if isinstance(item, Response)}) == len(kept)


def test_preflight_starts_the_engine_and_says_which_setting_it_refuses(data: Path) -> None:
    found = failed(recipe_of("teacher.kind=vllm", "teacher.extra={min_pp = 0.1}"))
    assert list(found) == ["teacher answers"] and "\n" not in found["teacher answers"]
    assert "min_pp" in found["teacher answers"] and "teacher.extra" in found["teacher answers"]
    assert not engines(data)


def test_what_needs_no_engine_is_refused_before_one_starts(data: Path) -> None:
    short = recipe_of("teacher.kind=vllm", "teacher.max_length=100")
    with pytest.raises(Exception, match=r"triples\.max_tokens is 120, but teacher\.max_length only 100"):
        make(short)
    assert not (data / "logs").exists()


def test_a_model_that_vllm_cannot_start_is_one_sentence(data: Path) -> None:
    with pytest.raises(EngineError, match=r"vLLM does not start: .*max_model_len.*log: .*; of \[teacher\], ") as caught:
        make(recipe_of("teacher.kind=vllm", "teacher.max_length=100000"))
    assert "\n" not in str(caught.value)
