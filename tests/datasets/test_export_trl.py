"""Exports as TRL's trainers take them: one step on the shipped student, in which every parameter moves."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.core.conversation import Conversation, Message
from cohobate.core.shipped import shipped_path
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.models.chat_template import PromptFormat
from cohobate.models.sequence import TrainingSequence
from cohobate.training.triple_source import taught_turns, training_sequences
from tests.support.made_triples import sample, triples

pytestmark = pytest.mark.trains

ROWS = [
    sample("What is 2 + 3?", "2 + 3 = 5.\nAnswer: 5", index=0),
    sample("What is 2 + 3?", "2 + 3 = 6.\nAnswer: 6", index=1, verdict="incorrect"),
    sample("What is 4 * 2?", "4 * 2 = 8.\nAnswer: 8", index=0),
    sample("What is 4 * 2?", "4 * 2 = 6.\nAnswer: 6", index=1, verdict="incorrect"),
]


def step(trainer: type[Any], config: type[Any], name: str, root: Path) -> tuple[Any, dict[str, Any]]:
    """The trainer after one step on the export `name`, and its parameters before."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export(triples(root / "data", ROWS), Request(name, Selection("correct")), root / "out")
    rows = datasets.load_dataset(str(root / "out"), split="train", cache_dir=str(root / "cache"))
    student = shipped_path("world/base")
    assert student is not None
    model = AutoModelForCausalLM.from_pretrained(student, dtype="float32")
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    settings = config(
        output_dir=str(root / "trained"),
        max_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        max_length=128,
    )
    tokenizer = AutoTokenizer.from_pretrained(student)
    made = trainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    made.train()
    return made, before


def moved(made: Any, before: dict[str, Any]) -> bool:
    return all(not value.equal(before[key]) for key, value in made.model.named_parameters())


@pytest.mark.parametrize("name", ["messages", "prompt-completion", "text"])
def test_the_sft_trainer_takes_a_step(name: str, tmp_path: Path) -> None:
    import trl

    made, before = step(trl.SFTTrainer, trl.SFTConfig, name, tmp_path)
    assert moved(made, before)
    text = made.processing_class.decode(next(iter(made.train_dataset))["input_ids"])
    assert (" ### 2 + 3 = 5. ### 5" if name == "text" else "<think>\n2 + 3 = 5.\n</think>\n\nAnswer: 5") in text


@pytest.mark.parametrize("name", ["preference", "preference-text"])
def test_the_dpo_trainer_takes_a_step(name: str, tmp_path: Path) -> None:
    import trl

    made, before = step(trl.DPOTrainer, trl.DPOConfig, name, tmp_path)
    assert moved(made, before)
    # Policy and reference are the same model before the first step, so that the loss is log 2.
    losses = [entry["train_loss"] for entry in made.state.log_history if "train_loss" in entry]
    assert losses == pytest.approx([0.693147], abs=1e-3)


THREE = Conversation(
    (
        Message("system", "You count sheep."),
        Message("user", "I have 2."),
        Message("assistant", "<think>\nThey have 2.\n</think>\n\nYou have 2."),
        Message("user", "I buy 3. How many?"),
    )
)


def masks(root: Path, name: str, turns: str, template: str | None, **settings: Any) -> tuple[list[int], list[int]]:
    """The ids of a conversation as TRL's SFTTrainer makes them of an export, and which of them are learnt."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM

    export(conversation_triples(root), Request(name, Selection("all"), turns=turns), root / "out")
    rows = datasets.load_dataset(str(root / "out"), split="train", cache_dir=str(root / "cache"))
    student = shipped_path("world/base")
    tokenizer = tokenizer_with(template)
    config = trl.SFTConfig(
        output_dir=str(root / "trained"), report_to=[], use_cpu=True, bf16=False, max_length=None, **settings
    )
    model = AutoModelForCausalLM.from_pretrained(student, dtype="float32")
    made = trl.SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    batch = next(iter(made.get_train_dataloader()))
    [ids], [labels] = batch["input_ids"].tolist(), batch["labels"].tolist()
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    return ids, [int(label != -100) for label in labels]


def conversation_triples(root: Path) -> Any:
    return triples(root / "data", [sample(THREE.transcript, REPLY, conversation=THREE.written)])


REPLY = "<think>\n2 + 3 = 5\n</think>\n\nAnswer: 5"


def tokenizer_with(template: str | None) -> Any:
    """The shipped tokenizer, with the chat template of a family as TRL ships it."""
    import trl
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped_path("world/base"))
    if template is not None:
        folder = Path(trl.__file__).parent / "chat_templates"
        tokenizer.chat_template = (folder / f"{template}.jinja").read_text(encoding="utf-8")
    return tokenizer


def ours(root: Path, turns: Any, template: str | None) -> list[TrainingSequence]:
    frame = pl.read_parquet(conversation_triples(root).path / "triples.parquet")
    return training_sequences(tokenizer_with(template), taught_turns(frame, PromptFormat(), turns), PromptFormat())


@pytest.mark.parametrize("template", [None, "qwen2_5", "qwen3"])
def test_the_last_turn_has_the_mask_of_a_prompt_with_its_completion(template: str | None, tmp_path: Path) -> None:
    ids, learnt = masks(tmp_path, "prompt-completion", "last", template, completion_only_loss=True)
    [own] = ours(tmp_path, "last", template)
    length = len(own.ids)
    assert ids[:length] == list(own.ids)
    assert learnt[:length] == [0] * own.context + [1] * len(own.response)
    # TRL learns the line end behind the end of the turn too, which no sampler ever writes.
    assert tokenizer_with(template).decode(ids[length:]) == "\n"


def test_all_turns_have_the_mask_of_the_whole_conversation(tmp_path: Path) -> None:
    """Token by token: a template without rewriting gives each turn the place that it has in the conversation."""
    ids, learnt = masks(tmp_path, "messages", "all", None, assistant_only_loss=True)
    own = [0] * len(ids)
    sequences = ours(tmp_path, "all", None)
    assert len(sequences) == 2
    for sequence in sequences:
        assert ids[: len(sequence.ids)] == list(sequence.ids)
        for place in range(sequence.context, len(sequence.ids)):
            own[place] += 1
    assert own == learnt and 0 < sum(own) < len(own)


def test_the_turns_of_a_template_that_rewrites_history_are_learnt_as_they_are_written(tmp_path: Path) -> None:
    """TRL needs another template for Qwen3, in which the prompt of the last turn keeps the first one's thoughts; ours
    learns each turn behind the prompt that the model's own template writes, with the same tokens learnt."""
    ids, learnt = masks(tmp_path, "messages", "all", "qwen3", assistant_only_loss=True)
    tokens = [token for token, is_learnt in zip(ids, learnt, strict=True) if is_learnt]
    own = [token for sequence in ours(tmp_path, "all", "qwen3") for token in sequence.response]
    tokenizer = tokenizer_with("qwen3")
    assert tokenizer.decode(tokens).replace("<|im_end|>\n", "<|im_end|>") == tokenizer.decode(own)
