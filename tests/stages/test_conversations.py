"""A dataset of three turns with system messages, from its file through every stage to other trainers' files."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core.conversation import Conversation, Message
from cohobate.core.errors import ModelError
from cohobate.core.shipped import shipped_path
from cohobate.stages import questions, suites, triples
from cohobate.stages.preflight import require_templates
from tests.support.endpoint_recipe import recipe_of
from tests.support.pipeline import run_stages
from tests.support.triples_stage import make, table
from tests.support.wire_server import WireServer

SPLITS = ["train"] * 6 + ["fresh"] * 6 + ["validation"] * 2 + ["test"] * 3


def turns(number: int) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": f"You are accountant {number}."},
        {"role": "user", "content": f"I have {number}."},
        {"role": "assistant", "content": f"<think>\nWrite {number}.\n</think>\n\nYou have {number}."},
        {"role": "user", "content": "Now 3 more."},
        {"role": "assistant", "content": f"Now {number + 3}."},
        {"role": "user", "content": f"What is {number} + 3?"},
        {"role": "assistant", "content": f"Answer: {number + 3}"},
    ]


def written(folder: Path) -> Path:
    path = folder / "chats.jsonl"
    rows = [
        {"messages": turns(number), "gold_answer": str(number + 3), "split": split}
        for number, split in enumerate(SPLITS)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def recipe_for(path: Path, **sections: dict[str, Any]) -> Recipe:
    training = {"steps": 2, "warmup": 1, "evaluate_every": 2, "evaluate_questions": 2}
    values: dict[str, Any] = {
        "questions": {"source": "file", "path": str(path), "columns": {"question": "messages"}},
        "teacher": {"system": "Think step by step.", "prompt": "{question}"},
        "triples": {"max_tokens": 24, "samples": 2},
        "sft": {**training, "batch": 4, "select": "all", "turns": "all"},
        "opd": {**training, "prompts": 2, "max_tokens": 12},
        "evaluation": {"max_tokens": 8, "samples": 1, "splits": ["test"]},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes}
    return Recipe.model_validate(values)


def prompt_of(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=True)
    ids: list[int] = encoded["input_ids"]
    return ids


@pytest.mark.trains
def test_every_stage_asks_the_whole_conversation(data: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    recipe = recipe_for(written(tmp_path))
    made = run_stages(recipe)
    tokenizer = AutoTokenizer.from_pretrained(shipped_path("world/base"))
    asked = table(made["questions"], "questions")
    numbers = {row["question_id"]: number for number, row in enumerate(asked.iter_rows(named=True))}
    assert len(numbers) == len(SPLITS)
    assert asked["gold_response"].to_list() == [f"Answer: {number + 3}" for number in range(len(SPLITS))]

    samples = table(made["triples"])
    assert len(samples) == 12
    for row in samples.iter_rows(named=True):
        whole = turns(numbers[row["question_id"]])[:-1]
        assert Conversation.read(row["conversation"]).as_dicts() == whole
        system = {"role": "system", "content": f"Think step by step.\n\n{whole[0]['content']}"}
        assert json.loads(row["messages"]) == [system, *whole[1:]]
        assert row["prompt_tokens"] == len(prompt_of(tokenizer, [system, *whole[1:]]))
        assert row["gold_answer"] == str(numbers[row["question_id"]] + 3)

    assert made["sft"].manifest.named_metrics["triples"] == 12
    rollouts = table(made["opd"], "rollouts")
    assert len(rollouts) == 2 * 2 * 2
    for row in rollouts.iter_rows(named=True):
        whole = turns(numbers[row["question_id"]])[:-1]
        system = {"role": "system", "content": f"Think step by step.\n\n{whole[0]['content']}"}
        assert row["prompt_ids"] == prompt_of(tokenizer, whole)
        assert row["teacher_prompt_tokens"] == len(prompt_of(tokenizer, [system, *whole[1:]]))
    answers = table(made["evaluation"], "answers").filter(pl.col("student") == "opd")
    for row in answers.iter_rows(named=True):
        assert row["prompt_tokens"] == len(prompt_of(tokenizer, turns(numbers[row["question_id"]])[:-1]))
    assert set(answers["question_id"]) == {name for name, number in numbers.items() if SPLITS[number] == "test"}


@pytest.mark.slow
def test_a_suite_asks_the_whole_conversation(data: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = written(tmp_path)
    suite = {"name": "chats", "path": str(path), "columns": {"question": "messages"}, "samples": 1, "max_tokens": 4}
    values = {**recipe_for(path).model_dump(), "suites": [{**suite, "temperature": 0.0}]}
    made = suites.measure(Recipe.model_validate(values), "world/base")
    tokenizer = AutoTokenizer.from_pretrained(shipped_path("world/base"))
    lengths = sorted(len(prompt_of(tokenizer, turns(number)[:-1])) for number in range(len(SPLITS)))
    assert sorted(table(made, "answers")["prompt_tokens"].to_list()) == lengths


@pytest.mark.serves
def test_a_server_is_sent_the_whole_conversation_and_a_text_as_before(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    rows = [{"messages": turns(5)[:-1], "split": "train"}, {"messages": "What is 2 + 3?", "split": "train"}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with WireServer().running() as server:
        told = {"path": str(path), "columns": {"question": "messages"}}
        make(recipe_of(tmp_path, server.url, 0, questions=told, teacher={"prompt": "Q: {question}"}))
        sent = [seen.body["messages"] for seen in server.seen]
        make(recipe_of(tmp_path, server.url, 0, questions={**told, "system": "Be brief."}))
        again = [seen.body["messages"] for seen in server.seen[2:]]
    assert sorted(sent, key=len) == [
        [{"role": "user", "content": "Q: What is 2 + 3?"}],
        [*turns(5)[:5], {"role": "user", "content": "Q: What is 5 + 3?"}],
    ]
    assert sorted(again, key=len) == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}],
        turns(5)[:-1],
    ]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", "leaves out the system message"),
        ("{{ messages[0].content }}{{ messages[-1].content }}", "leaves out the user message"),
        ("{% for m in messages[1:] %}{% if (m.role == 'user') == (loop.index0 % 2 != 0) %}"
         "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}",
         "leaves out the system"),
    ],
)  # fmt: skip
def test_a_template_that_leaves_out_a_message_is_refused(template: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(template)
    recipe = recipe_for(tmp_path / "q.jsonl", student={"template_file": str(file)})
    three = Conversation(tuple(Message(**turn) for turn in turns(1)[:-1]))  # type: ignore[arg-type]
    frame = pl.DataFrame({"question": [three.transcript, "a?"], "conversation": [three.written, None]})
    with pytest.raises(ModelError, match=words) as caught:
        require_templates(recipe, frame)
    assert (
        "conversations of system, user, assistant, user, assistant, user, such as the one that asks"
        in f"{caught.value}"
    )
    require_templates(recipe, frame[1:])


@pytest.mark.serves
def test_a_student_whose_template_has_no_such_conversation_costs_nothing(data: Path, tmp_path: Path) -> None:

    base = shipped_path("world/base")
    assert base is not None
    shutil.copytree(base, student := tmp_path / "student")
    refusing = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (student / "chat_template.jinja").write_text(refusing + "{{ m.content }}{% endfor %}")
    with WireServer().running() as server:
        recipe = recipe_for(
            written(tmp_path),
            student={"model": str(student)},
            teacher={"kind": "endpoint", "model": "m", "base_url": server.url},
            opd={"steps": 0},
        )
        with pytest.raises(ModelError, match="takes no system message"):
            triples.write(recipe, questions.write(recipe))
        assert server.seen == []
