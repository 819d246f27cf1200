"""What a run would take, held against what it then takes: requests at a server, artifacts, the bill and the ledger."""

import re
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.core.errors import QuestionsError
from cohobate.stages.dry_run import Plan, plan
from cohobate.store.artifacts import STAGES
from tests.support.command import cohobate, refusal
from tests.support.endpoint_recipe import recipe_of
from tests.support.pipeline import Finished
from tests.support.triples_stage import changed, make
from tests.support.wire_server import WireServer

PRICES = {"price_input": 3.0, "price_output": 7.0}


def of_server(folder: Path, server: WireServer, samples: int) -> Recipe:
    return recipe_of(folder, server.url, 20, teacher=PRICES, triples={"samples": samples}, sft={"steps": 0})


@pytest.mark.serves
def test_the_requests_and_dollars_are_those_that_the_run_then_takes(
    tmp_path: Path, data: Path, server: WireServer
) -> None:
    first = plan(of_server(tmp_path, server, 1), "triples")
    assert first.rest == ["questions", "triples"] and first.demand.missing == first.demand.requests == 20
    assert not data.exists() and server.seen == []
    made = make(of_server(tmp_path, server, 1))
    assert len(server.seen) == 20
    assert first.most_usd is not None and first.most_usd >= (20 * 20 * 7.0) / 1e6

    again = plan(of_server(tmp_path, server, 1), "triples")
    assert again.rest == [] and again.stored["triples"].id == made.id
    assert list(again.sentences()) == ["everything is in the store, so that the run takes seconds and spends nothing"]

    more = plan(of_server(tmp_path, server, 3), "triples")
    assert (more.demand.requests, more.demand.missing, more.demand.measured) == (60, 40, True)
    # The server counts 10 tokens of each prompt; a response may have the 64 of triples.max_tokens, and has 20.
    assert more.most_usd == pytest.approx(40 * (10 * 3.0 + 64 * 7.0) / 1e6)
    assert any("about 800 by the mean" in sentence for sentence in more.sentences())
    assert len(server.seen) == 20
    make(of_server(tmp_path, server, 3))
    assert len(server.seen) == 60


def test_the_prompts_of_any_script_take_about_as_many_tokens_as_a_tokenizer_makes(tmp_path: Path, data: Path) -> None:
    # 30 Chinese characters are 20 to 40 tokens of today's vocabularies.
    asked: dict[str, Any] = {"teacher": {**PRICES, "prompt": "\u4eba" * 30 + "{question}"}, "sft": {"steps": 0}}
    chinese = plan(recipe_of(tmp_path, "http://127.0.0.1:9/v1", 20, **asked), "triples")
    assert 20 <= chinese.demand.prompt <= 40
    sentences = " ".join(chinese.sentences())
    assert "USD if every response is as long as its limit" in sentences and "at most 1,280 tokens" in sentences
    assert not re.search(r"at most [\d.]+ USD", sentences)


def test_batches_cost_their_part_of_the_price(tmp_path: Path, data: Path) -> None:
    def planned(**teacher: Any) -> Plan:
        url = "http://127.0.0.1:9/v1"
        return plan(recipe_of(tmp_path, url, 20, teacher={**PRICES, **teacher}, sft={"steps": 0}), "triples")

    direct, half, third = planned(), planned(batch=True), planned(batch=True, batch_price=0.3)
    assert direct.most_usd is not None
    assert (half.most_usd, third.most_usd) == pytest.approx((direct.most_usd / 2, direct.most_usd * 0.3))
    assert any("in batches, at 30% of its price" in line for line in third.sentences())
    assert not any("batches" in line for line in direct.sentences())


@pytest.mark.serves
def test_without_a_price_none_is_told(tmp_path: Path, data: Path, server: WireServer) -> None:
    unpriced = plan(recipe_of(tmp_path, server.url, 20, sft={"steps": 0}), "triples")
    assert unpriced.most_usd is None and any("no price is known" in sentence for sentence in unpriced.sentences())


def test_a_judge_is_counted(tmp_path: Path, data: Path) -> None:
    judge = {"kind": "endpoint", "model": "j", "base_url": "http://127.0.0.1:9/v1", **PRICES}
    verifier = {"name": "judge", "judge": judge}
    asked = plan(
        recipe_of(tmp_path, "http://127.0.0.1:9/v1", 20, triples={"samples": 2, "verifier": verifier}), "triples"
    )
    assert asked.judged == 40 and any("the judge is asked at most 40 times" in line for line in asked.sentences())


def test_questions_that_cannot_be_read_are_refused(tmp_path: Path, data: Path) -> None:
    recipe = recipe_of(tmp_path, "http://127.0.0.1:9/v1", 20)
    with pytest.raises(QuestionsError, match="does not exist"):
        plan(changed(recipe, questions={"path": str(tmp_path / "none.jsonl")}))
    assert not data.exists()


def test_a_finished_run_is_found_and_a_change_leaves_what_comes_behind_it(
    finished: Finished, tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(finished.root))
    whole = plan(tiny)
    assert {stage: artifact.id for stage, artifact in whole.stored.items()} == {
        stage: artifact.id for stage, artifact in finished.artifacts.items()
    }
    assert whole.rest == [] and whole.flops == 0
    longer = plan(changed(tiny, opd={"lr": tiny.opd.lr / 2}))
    assert longer.rest == list(STAGES[STAGES.index("opd") :])
    # The bound holds for the run that differs by its learning rate alone.
    ledger = [entry for entry in finished.artifacts["opd"].manifest.ledger if entry["stage"] == "opd"]
    spent = sum(entry["flops"] for entry in ledger)
    bound = sum(line.flops for line in longer.lines if line.stage == "opd")
    assert 0 < spent <= bound


@pytest.mark.serves
def test_the_command_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    result = cohobate("run", "tiny", "--dry-run", data=tmp_path / "data")
    assert (result.returncode, result.stderr) == (0, "")
    assert "64 of 64 requests" in result.stdout and "to do" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert "teacher.model" in refusal("run", "tiny", "--dry-run", "--set", "teacher.modl=x", data=tmp_path / "data")
