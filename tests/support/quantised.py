"""Checkpoints in the layouts of quantised models, packed by hand, and the weights that they stand for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from cohobate.core.shipped import shipped_path
from tests.support import zoo

Tensors = dict[str, torch.Tensor]
_GROUP = 32
# The numbers of FP4 (E2M1), by their four bits: the sign is the highest.
_FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_SIZES: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}


@dataclass(frozen=True)
class Packed:
    """settings: quantization_config. tensors: what the file has for one weight, by suffix. meant: the weight."""

    settings: dict[str, Any]
    pack: Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]
    kind: str = "llama"
    packed: str = "_proj.weight"


def write(folder: Path, form: Packed) -> Tensors:
    """Write a tiny model in this form, and return the weights that it stands for."""
    torch.manual_seed(3)
    changes = {"llama": {"num_key_value_heads": 4}, "gpt_oss": {**zoo.CHANGES["gpt_oss"], "head_dim": 32}}[form.kind]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(form.kind, **{**zoo.SIZE, **_SIZES, **changes}))
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    shipped = shipped_path("world/base")
    assert shipped is not None
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)
    tensors: Tensors = {}
    meant: Tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        if name.endswith(form.packed):
            made, meant[name] = form.pack(value)
            stem = name.removesuffix("weight")
            tensors |= {f"{stem}{suffix}": tensor.contiguous() for suffix, tensor in made.items()}
        else:
            tensors[name] = value.bfloat16()
            meant[name] = tensors[name].float()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    change(folder, {"quantization_config": form.settings, "dtype": "bfloat16"})
    return meant


def change(folder: Path, settings: dict[str, Any]) -> None:
    """Change values of a folder's config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def _fp8_blocks(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    rows, columns = (size // 128 for size in weight.shape)
    blocks = weight.view(rows, 128, columns, 128)
    scales = blocks.abs().amax((1, 3)) / 448
    numbers = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    meant = (numbers.float() * scales[:, None, :, None]).view_as(weight)
    return {"weight": numbers.view_as(weight), "weight_scale_inv": scales}, meant


def _fp8_whole(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    scale = weight.abs().max() / 448
    numbers = (weight / scale).to(torch.float8_e4m3fn)
    made = {"weight": numbers, "weight_scale_inv": scale, "activation_scale": torch.tensor(0.05)}
    return made, numbers.float() * scale


def _fp8_rows(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    scales = (weight.abs().amax(1, keepdim=True) / 448).bfloat16()
    numbers = (weight / scales.float()).to(torch.float8_e4m3fn)
    # The format's numbers are those of its scales.
    return {"weight": numbers, "weight_scale": scales}, (numbers.bfloat16() * scales).float()


def _groups(weight: torch.Tensor, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers from -levels on, and the scale of each group of a row."""
    grouped = weight.view(len(weight), -1, _GROUP)
    scales = (grouped.abs().amax(-1) / (levels - 1)).half().float()
    numbers = (grouped / scales[..., None]).round().clamp(-levels, levels - 1).long()
    return numbers.view_as(weight), scales


def _words(numbers: torch.Tensor, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Eight numbers of four bits in each word of 32, the one that `order` names first in the lowest bits."""
    parts = numbers.view(*numbers.shape[:-1], -1, 8)
    words = sum(parts[..., place] << (4 * i) for i, place in enumerate(order))
    assert isinstance(words, torch.Tensor)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


def _int4_packed(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales = _groups(weight, 8)
    meant = (numbers.view(len(weight), -1, _GROUP) * scales[..., None]).view_as(weight)
    shape = torch.tensor(weight.shape)
    made = {"weight_packed": _words(numbers + 8), "weight_scale": scales.half(), "weight_shape": shape}
    return made, meant.half().float()


def _gptq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales = _groups(weight, 8)
    meant = (numbers.view(len(weight), -1, _GROUP) * scales[..., None]).view_as(weight)
    made = {
        "qweight": _words(numbers + 8).T,  # along the inputs
        "qzeros": _words(torch.full((scales.shape[1], len(weight)), 7)),  # one less, by its first version
        "scales": scales.T.half(),
        "g_idx": torch.arange(weight.shape[1]).div(_GROUP, rounding_mode="floor").int(),
    }
    return made, meant


def _awq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales = _groups(weight, 8)
    meant = (numbers.view(len(weight), -1, _GROUP) * scales[..., None]).view_as(weight)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    made = {
        "qweight": _words((numbers + 8).T.contiguous(), order),  # along the outputs
        "qzeros": _words(torch.full((scales.shape[1], len(weight)), 8), order),
        "scales": scales.T.half(),
    }
    return made, meant


def _mxfp4(experts: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Of a tensor of experts [E, inputs, outputs], which the file has as [E, outputs, inputs]."""
    grouped = experts.transpose(1, 2).reshape(len(experts), experts.shape[2], -1, _GROUP)
    powers = (grouped.abs().amax(-1) / 6).log2().ceil()
    sizes = (grouped.abs() / powers.exp2()[..., None]).unsqueeze(-1)
    nearest = (sizes - _FP4).abs().argmin(-1)
    numbers = nearest + 8 * (grouped < 0)
    meant = torch.where(grouped < 0, -1.0, 1.0) * _FP4[nearest] * powers.exp2()[..., None]
    blocks = numbers[..., 0::2] | numbers[..., 1::2] << 4
    made = {"_blocks": blocks.to(torch.uint8), "_scales": (powers + 127).to(torch.uint8)}
    return made, meant.flatten(2).transpose(1, 2)


def _compressed(form: str, weights: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, **inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": {**group, "format": form}},
        "ignore": ["lm_head"],
    }


_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
_ROW = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False}
_TOKEN = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
_INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": _GROUP, "dynamic": False}
_KEPT = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
READ: dict[str, Packed] = {
    "fp8 in blocks": Packed(_FP8, _fp8_blocks),
    "fp8 of a whole weight": Packed({**_FP8, "activation_scheme": "static", "weight_block_size": None}, _fp8_whole),
    "fp8 of compressed-tensors": Packed(_compressed("float-quantized", _ROW, input_activations=_TOKEN), _fp8_rows),
    "int4 of compressed-tensors": Packed(_compressed("pack-quantized", _INT4), _int4_packed),
    "mxfp4": Packed({"quant_method": "mxfp4", "modules_to_not_convert": _KEPT}, _mxfp4, "gpt_oss", packed="up_proj"),
}
_FOUR_BITS = {"bits": 4, "group_size": _GROUP}
REFUSED: dict[str, Packed] = {
    "gptq": Packed({"quant_method": "gptq", **_FOUR_BITS, "desc_act": False, "sym": True}, _gptq),
    "awq": Packed({"quant_method": "awq", **_FOUR_BITS, "version": "gemm", "zero_point": True}, _awq),
}
