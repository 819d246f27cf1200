"""Answers in the triples stage: their forms, missing and free ones, and what an export makes of thoughts."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.datasets.export.export import Request, export
from cohobate.store.artifacts import Artifact
from tests.support.endpoint_recipe import number, recipe_of
from tests.support.exports import ALL, lines
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, WireServer, completion

pytestmark = pytest.mark.serves

REPLIES = [
    ("0 it is.\n\n**Answer:** 0", "correct"),
    ("So the answer is 1.", "correct"),
    ("<|channel|>analysis<|message|>two<|end|><|start|>assistant<|channel|>final<|message|>Answer: 2", "correct"),
    ("[THINK]Answer: 4?[/THINK]Three it is: \\boxed{3}", "correct"),
    ("答案：4", "correct"),
    ("It is 5, I think.", "undecided"),
    ("<think>Answer: 6", "undecided"),
    ("Answer: 8", "incorrect"),
]


def replied(server: WireServer, tmp_path: Path, replies: list[str], **sections: dict[str, Any]) -> Artifact:
    """Triples of one question for each reply; question n has the gold answer n."""
    server.plan = lambda body, time: Act(payload=completion(body, replies[number(body)]))
    return make(recipe_of(tmp_path, server.url, len(replies), **sections))


def judged(artifact: Artifact) -> pl.DataFrame:
    joined = table(artifact).join(table(artifact, "verdicts"), on="sample_id")
    return joined.sort(pl.col("gold_answer").cast(pl.Int64))


def test_replies_in_many_forms_get_their_verdicts_and_missing_answers_are_said(
    server: WireServer, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = replied(server, tmp_path, [reply for reply, _ in REPLIES], triples={"verifier": "numeric"})
    rows = judged(artifact)
    assert rows["verdict"].to_list() == [verdict for _, verdict in REPLIES]
    assert rows["reason"].to_list()[5:7] == ["no final answer"] * 2
    assert "2 of 8 responses have no final answer in a form that is read" in capsys.readouterr().err
    metrics = artifact.manifest.metrics
    assert isinstance(metrics, dict) and metrics["pass_rate"] == 5 / 6


def test_no_mark_of_a_thought_is_exported_but_one_pair_of_tags(server: WireServer, tmp_path: Path, data: Path) -> None:
    texts = [
        "<think><think>two</think>and three</think>Answer: 0",
        REPLIES[2][0],
        "[THINK]why[/THINK]Answer: 2",
        "a</think>Answer: 3<|im_end|>",
    ]
    artifact = replied(server, tmp_path, texts)
    read = exported(artifact, tmp_path / "out")
    assert [text.count("<think>") for text in read] == [1] * 4 == [text.count("</think>") for text in read]
    assert not any(mark in text for text in read for mark in ("<|", "THINK]"))
    assert read[0] == "<think>\ntwo\nand three\n</think>\n\nAnswer: 0"


def test_a_form_of_the_recipe_is_read(server: WireServer, tmp_path: Path, data: Path) -> None:
    artifact = replied(server, tmp_path, ["RESULT 0", "RESULT 2"], teacher={"answer": r"RESULT (\d+)"})
    assert judged(artifact)["verdict"].to_list() == ["correct", "incorrect"]


def test_free_answers_are_whole_responses_and_need_no_rationale(server: WireServer, tmp_path: Path, data: Path) -> None:
    replies = [f"Dear {n},\nit rains." for n in range(25)]
    artifact = replied(server, tmp_path, replies, teacher={"answer": "response"})
    assert judged(artifact)["answer"].to_list() == replies
    assert table(artifact)["rationale"].null_count() == len(replies)


def test_short_facts_are_judged_in_their_sentence(server: WireServer, tmp_path: Path, data: Path) -> None:
    replies = ["It is 0.", "There are 2 of them.", "It is 2 or 3.", "It is 3, not 4."]
    artifact = replied(server, tmp_path, replies, triples={"verifier": "phrase"})
    assert judged(artifact)["verdict"].to_list() == ["correct", "incorrect", "undecided", "undecided"]


def exported(artifact: Artifact, folder: Path) -> list[str]:
    """The assistant's turns."""
    export(artifact, Request("messages", ALL), folder)
    return [line["messages"][-1]["content"] for line in lines(folder)]
