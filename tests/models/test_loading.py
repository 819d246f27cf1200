"""Models on disk: what of them is part of an identity, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from cohobate.core.errors import ModelError
from cohobate.core.shipped import shipped_path
from cohobate.models.loading import load, logits_revision, save
from tests.support import zoo


@pytest.mark.parametrize(
    ("keys", "revision"),
    [
        ({}, {}),
        ({"logits_scaling": 1.0, "final_logit_softcapping": None, "output_router_logits": False}, {}),
        ({"logits_scaling": 8.0}, {"logits": 2}),
        ({"logit_scale": 0.0625}, {"logits": 2}),
        ({"text_config": {"final_logit_softcapping": 30.0}}, {"logits": 2}),
    ],
)
def test_only_models_that_were_trained_by_another_rule_are_trained_anew(
    tmp_path: Path, keys: dict[str, object], revision: dict[str, int]
) -> None:
    shipped = shipped_path("world/base")
    assert shipped is not None
    config = json.loads((shipped / "config.json").read_text())
    shutil.copytree(shipped, tmp_path / "it")
    (tmp_path / "it" / "config.json").write_text(json.dumps({**config, **keys}))
    assert logits_revision(str(tmp_path / "it")) == revision


def copied(folder: Path, of: str = "world/base") -> Path:
    shipped = shipped_path(of)
    assert shipped is not None
    shutil.copytree(shipped, folder)
    return folder


def merged(path: Path, change: dict[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def _lacks_a_norm(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _has_a_layer_too_many(folder: Path) -> None:
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    merged(folder / "config.json", {"num_hidden_layers": layers - 1, "layer_types": None})


def _is_wider(folder: Path) -> None:
    width = json.loads((folder / "config.json").read_text())["intermediate_size"]
    merged(folder / "config.json", {"intermediate_size": 2 * width})


def _is_cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _lacks_a_shard(folder: Path) -> None:
    model = load(folder, device="cpu").model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="300KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and load(folder, device="cpu").model.num_parameters() == model.num_parameters()
    shards[0].unlink()


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def _is_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Runs(folder / "ran")}, folder / "pytorch_model.bin")


def _lacks_its_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _has_half_a_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])


def _writes_a_token_without_embedding(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = "{{ '<|turn|>' }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)


def _reads_a_word_without_embedding(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["marmalade"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_lacks_a_norm, r"lacks weights that its config asks for: model\.norm\.weight"),
        (_has_a_layer_too_many, r"has weights that its config has no place for: model\.layers.* more"),
        (_is_wider, "has weights of other shapes than its config says: .* more"),
        (_is_cut, "cannot be loaded"),
        (_lacks_a_shard, "cannot be loaded"),
        (_is_pickled, "pickled file, which runs code when it is read"),
        (_lacks_its_tokenizer, r"tokenizer of model .* cannot be read; copy the model's tokenizer\.json"),
        (_has_half_a_tokenizer, r"tokenizer of model .* cannot be read; copy the model's tokenizer\.json"),
        (_writes_a_token_without_embedding, r"embedding of 512 tokens, but its tokenizer makes id 512 of '<\|turn\|>'"),
        (_reads_a_word_without_embedding, "makes id 512 of 'marmalade'"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    folder = copied(tmp_path / "it")
    change(folder)
    with pytest.raises(ModelError, match=words) as refusal:
        load(folder, device="cpu")
    assert "\n" not in str(refusal.value) and str(folder) in str(refusal.value)
    assert not (folder / "ran").exists()


def test_an_image_token_that_no_template_writes_may_lack_its_embedding(tmp_path: Path) -> None:
    folder = copied(tmp_path / "it")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    assert len(load(folder, device="cpu").tokenizer) == 513


def test_the_row_of_the_padding_token_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    """Youtu's class sets it to zero when it is loaded; its head is tied, so that a logit would be 0."""
    folder = zoo.write("youtu", tmp_path / "it")
    weights = load_file(folder / "model.safetensors")
    (name,) = [key for key in weights if key.endswith("embed_tokens.weight")]
    weights[name][0] = torch.linspace(-1, 1, weights[name].shape[1])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = load(folder, device="cpu").model
    assert model.get_input_embeddings().padding_idx == 0
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert torch.equal(layer.weight, weights[name])


def test_a_student_of_images_and_text_is_published_with_its_processors(tmp_path: Path) -> None:
    """vLLM asks for them; a model of text alone has none, whatever lies in its folder."""
    for name, files in (("qwen2_5_vl", ["preprocessor_config.json", "video_preprocessor_config.json"]), ("llama", [])):
        folder, published = zoo.write(name, tmp_path / name), tmp_path / f"{name} published"
        for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
            (folder / file).write_text('{"patch_size": 8}')
        student = load(folder, device="cpu", train=True)
        save(student.model, student.tokenizer, published, student.path)
        assert sorted(file.name for file in published.glob("*processor_config.json")) == files


def test_sampling_settings_without_do_sample_are_published_with_it(tmp_path: Path) -> None:
    folder = copied(tmp_path / "it")
    merged(folder / "generation_config.json", {"temperature": 0.7, "top_k": 20, "do_sample": False})
    loaded = load(folder, device="cpu")
    save(loaded.model, loaded.tokenizer, tmp_path / "published")
    written = GenerationConfig.from_pretrained(tmp_path / "published")
    assert (written.temperature, written.top_k, written.do_sample) == (0.7, 20, True)


def test_a_generation_config_that_cannot_be_saved_is_refused_at_once(tmp_path: Path) -> None:
    folder = copied(tmp_path / "it")
    merged(folder / "generation_config.json", {"max_new_tokens": -3})
    with pytest.raises(ModelError, match=r"generation_config\.json .* is not valid|cannot be loaded"):
        load(folder, device="cpu")
