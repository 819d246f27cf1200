"""Exports as TRL's trainers take them: one step on the shipped student, in which every parameter moves."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.core.shipped import shipped_path
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
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
