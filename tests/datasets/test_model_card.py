"""A trained model for others: it loads by its folder alone, its card says what it is, and the Hub gets both."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from cohobate.core.errors import ExportError
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.datasets.export.model_card import model_card, write_model
from tests.support.hub_server import TOKEN, hub
from tests.support.pipeline import Finished


def test_the_folder_loads_and_holds_the_same_model(finished: Finished, tmp_path: Path) -> None:
    artifact = finished.artifacts["opd"]
    made = write_model(artifact, "student", tmp_path / "out")
    model, original = (AutoModelForCausalLM.from_pretrained(p) for p in (made.folder, artifact.path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "2 + 2 = ?"}], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, original(ids).logits)
    assert made.size == sum(path.stat().st_size for path in made.folder.iterdir())
    write_model(artifact, "student", made.folder)  # once more replaces it
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ExportError, match="holds something else"):
        write_model(artifact, "student", tmp_path / "mine")


def test_the_card_states_scores_objective_and_lineage(finished: Finished) -> None:
    text = model_card(finished.artifacts["opd"], "somebody/student")
    card = ModelCard(text)
    front = card.data.to_dict()  # type: ignore[no-untyped-call]
    assert front["library_name"] == "transformers" and "distillation" in front["tags"]
    metrics = finished.artifacts["evaluation"].manifest.metrics
    assert isinstance(metrics, list)
    [row] = [each for each in metrics if each["student"] == "opd" and each["n"] == 32]
    line = f"| opd | test | greedy | 32 | {row['accuracy']:.1%} | {row['low']:.1%} to {row['high']:.1%} | 0 |"
    assert line in text
    for stage in ("questions", "triples", "sft", "opd"):
        assert finished.artifacts[stage].id in text
    assert str(Path.home()) not in text and str(finished.root) not in text
    assert front["pipeline_tag"] == "text-generation"


def test_the_card_says_how_the_template_is_to_be_rendered(finished: Finished, tmp_path: Path) -> None:
    artifact = finished.artifacts["opd"]
    assert "chat_template_kwargs" not in model_card(artifact, "x")
    manifest = read_sealed_json(artifact.path / "manifest.json")
    manifest["config"]["student"]["template_args"] = {"enable_thinking": False}
    write_sealed_json(tmp_path / "manifest.json", manifest)
    card = model_card(replace(artifact, path=tmp_path), "x")
    assert "chat_template_kwargs" in card and '{"enable_thinking": false}' in card


def test_an_adapter_names_the_model_that_it_was_trained_on(finished: Finished) -> None:
    """That of opd was trained on what sft ended with: on the recipe's student it is another model."""
    start = finished.artifacts["sft"].id
    card = model_card(finished.artifacts["opd"], "x", adapter=True)
    assert f"puts it on {start}." in card and f"`cohobate publish {start}` writes it" in card
    assert "base_model" not in card
    assert "puts it on world/base." in model_card(finished.artifacts["sft"], "x", adapter=True)


@pytest.mark.parametrize(
    ("stage", "adapter", "part"), [("triples", False, "holds no model"), ("sft", True, "without LoRA")]
)
def test_what_is_not_there_is_said(finished: Finished, tmp_path: Path, stage: str, adapter: bool, part: str) -> None:
    with pytest.raises(ExportError, match=part):
        write_model(finished.artifacts[stage], "x", tmp_path / "out", adapter=adapter)


def test_the_hub_gets_every_file_and_a_wrong_key_is_one_sentence(finished: Finished, tmp_path: Path) -> None:
    artifact = finished.artifacts["opd"]

    def publish(address: str, token: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
        environment |= {"COHOBATE_DATA": str(finished.root), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "cohobate", "publish", artifact.id, "--to", "me/student"]
        command += ["--out", str(tmp_path / "out")]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    with hub() as server:
        done = publish(server.address, TOKEN)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().splitlines()[-1] == f"{server.address}/me/student"
        files = server.repositories["me/student"]
        assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert server.private["me/student"]
        refused = publish(server.address, "hf_wrong")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr and "hf_wrong" not in refused.stdout + refused.stderr
    assert "HF_TOKEN" in refused.stderr and "cohobate: " in refused.stderr
    gone = publish(server.address, TOKEN)
    assert gone.returncode == 2 and "cannot be reached" in gone.stderr and "Traceback" not in gone.stderr
