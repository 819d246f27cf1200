"""Quantised checkpoints: read as the numbers that their files stand for, by another reading of them, or refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cohobate.core.errors import ModelError
from cohobate.models.loading import load, save
from cohobate.models.own_forward import require_own_logits
from tests.support import quantised


@pytest.mark.parametrize("train", [False, True], ids=["teacher", "student"])
@pytest.mark.parametrize("form", quantised.READ)
def test_weights_are_those_that_the_file_stands_for(form: str, train: bool, tmp_path: Path) -> None:
    meant = quantised.write(tmp_path / "it", quantised.READ[form])
    loaded = load(tmp_path / "it", device="cpu", train=train)
    held = dict(loaded.model.named_parameters())
    assert {value.dtype for value in held.values()} == {torch.float32}
    assert meant.keys() <= loaded.model.state_dict().keys()
    for name, value in meant.items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    assert "for the student" in require_own_logits(loaded, "student", 1000, samples=True)


@pytest.mark.parametrize("form", ["fp8 in blocks", "int4 of compressed-tensors", "mxfp4"])
def test_what_a_student_learnt_is_published_whole(form: str, tmp_path: Path) -> None:
    quantised.write(tmp_path / "it", quantised.READ[form])
    student = load(tmp_path / "it", device="cpu", train=True)
    with torch.no_grad():
        for value in student.model.parameters():
            value.mul_(1.01)
    save(student.model, student.tokenizer, tmp_path / "published")
    assert "quantization_config" not in json.loads((tmp_path / "published" / "config.json").read_text())
    again = load(tmp_path / "published", device="cpu").model.state_dict()
    for name, value in student.model.state_dict().items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        ("fp8 in blocks", "layers.1.mlp.up_proj.weight_scale_inv"),
        ("fp8 in blocks", "layers.1.mlp.up_proj.weight"),
        ("fp8 of a whole weight", "layers.0.self_attn.k_proj.weight_scale_inv"),
        ("fp8 of compressed-tensors", "layers.0.self_attn.k_proj.weight_scale"),
        ("int4 of compressed-tensors", "layers.3.mlp.down_proj.weight_scale"),
        ("int4 of compressed-tensors", "layers.3.mlp.down_proj.weight_packed"),
        ("mxfp4", "layers.2.mlp.experts.gate_up_proj_scales"),
        ("mxfp4", "layers.2.mlp.experts.gate_up_proj_blocks"),
    ],
)
def test_a_quantised_weight_or_its_scales_that_lack_are_refused(form: str, suffix: str, tmp_path: Path) -> None:
    quantised.write(tmp_path, quantised.READ[form])
    tensors = load_file(tmp_path / "model.safetensors")
    left = {name: value for name, value in tensors.items() if not name.endswith(suffix)}
    assert len(left) == len(tensors) - 1
    save_file(left, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as refusal:
        load(tmp_path, device="cpu")
    assert "\n" not in str(refusal.value) and str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("form", quantised.REFUSED)
def test_a_form_whose_package_lacks_is_refused_with_its_name(form: str, tmp_path: Path) -> None:
    quantised.write(tmp_path, quantised.REFUSED[form])
    with pytest.raises(ModelError, match=rf"is quantised \({form}\).*requires (optimum|gptqmodel).*let vLLM run it"):
        load(tmp_path, device="cpu")
    with pytest.raises(ModelError, match=rf"quantised \({form}\), and training needs them whole"):
        load(tmp_path, device="cpu", train=True)


def test_a_form_that_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    quantised.write(tmp_path, quantised.READ["fp8 in blocks"])
    quantised.change(tmp_path, {"quantization_config": {"quant_method": "exl9"}})
    with pytest.raises(ModelError, match="is quantised by exl9, which transformers does not know"):
        load(tmp_path, device="cpu")


def test_blocks_that_do_not_divide_a_weight_are_refused(tmp_path: Path) -> None:
    """Of 192 rows in blocks of 128 transformers would make two blocks of 96, and say nothing."""
    quantised.write(tmp_path, quantised.READ["fp8 in blocks"])
    tensors = load_file(tmp_path / "model.safetensors")
    for layer in range(4):
        for name, rows in (("gate_proj", 192), ("up_proj", 192)):
            stem = f"model.layers.{layer}.mlp.{name}.weight"
            tensors[stem] = tensors[stem].view(torch.uint8)[:rows].contiguous().view(torch.float8_e4m3fn)
        stem = f"model.layers.{layer}.mlp.down_proj.weight"
        tensors[stem] = tensors[stem].view(torch.uint8)[:, :192].contiguous().view(torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    quantised.change(tmp_path, {"intermediate_size": 192})
    with pytest.raises(ModelError, match=r"blocks of 128 x 128 do not divide: .*(192 x 128|128 x 192)"):
        load(tmp_path, device="cpu")
