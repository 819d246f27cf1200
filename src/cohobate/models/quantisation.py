"""Checkpoints whose weights are quantised: read as the numbers that they stand for, or refused in one sentence.

FP8, MXFP4 and compressed-tensors are turned into whole numbers where they are loaded, but for a teacher on a GPU, whose
kernels multiply them as they are. GPTQ, AWQ and others need a package of their own, which transformers names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.core.errors import ModelError
from cohobate.core.sanitize import one_line

if TYPE_CHECKING:
    import torch

_SCALES = ("weight_scale_inv", "weight_scale", "scale", "qscale_weight")
_INSTEAD = "choose the checkpoint from which it was made, or let vLLM run it where it is a teacher (teacher.kind)"


def method_of(config: Any) -> str | None:
    """The way in which a checkpoint's weights are quantised, by its config; None where they are not."""
    if getattr(config, "quantization_config", None) is None:
        return None
    method = _settings(config).get("quant_method")
    return str(getattr(method, "value", method))


def to_be_read(path: Path, config: Any, device: str, *, train: bool) -> Any:
    """`config` with what transformers must be told, to read quantised weights for this use.

    Raises ModelError where it cannot read them, or they cannot be trained.
    """
    method = method_of(config)
    if method is None:
        return config
    if not _is_known(config):
        raise ModelError(f"model '{path}' is quantised by {method}, which transformers does not know; {_INSTEAD}")
    if train:
        refuse_untrainable(path, config)
    if (train or device != "cuda") and _can_be_whole(method):
        _refuse_unread(path, config)
        config.quantization_config = {**_settings(config), "dequantize": True}
    return config


def without_package(path: Path, config: Any, error: ImportError) -> ModelError:
    """The refusal of a checkpoint that needs a package which is not installed; `error` names it."""
    why, method = one_line(error).rstrip(".")[:300], method_of(config)
    of = f"is quantised ({method}), and cannot" if method else "cannot"
    return ModelError(f"model '{path}' {of} be loaded: {why}" + (f"; or {_INSTEAD}" if method else ""))


def refuse_untrainable(path: Path, config: Any) -> None:
    """Raise ModelError where weights are quantised in a way that cannot be undone, for training needs them whole."""
    method = method_of(config)
    if method is not None and not _can_be_whole(method):
        raise ModelError(
            f"the weights of model '{path}' are quantised ({method}), and training needs them whole; choose the "
            "checkpoint from which it was made"
        )


def made_whole(model: Any, dtype: torch.dtype) -> Any:
    """`model`, which was read from a quantised checkpoint, ready to be trained and saved as one that was not.

    The rest of such a checkpoint is in bfloat16, beside float32. And transformers would save the weights under the
    names that quantised ones had. A model that multiplies quantised weights as they are is left so.
    """
    import torch

    if getattr(model, "hf_quantizer", None) is not None:
        return model
    model._weight_conversions = None
    return model.float() if dtype == torch.float32 else model


def _settings(config: Any) -> dict[str, Any]:
    settings = config.quantization_config
    return dict(settings) if isinstance(settings, Mapping) else dict(settings.to_dict())


def _is_known(config: Any) -> bool:
    from transformers.quantizers.auto import AutoHfQuantizer

    return bool(AutoHfQuantizer.supports_quant_method(_settings(config)))


def _can_be_whole(method: str) -> bool:
    """Whether transformers turns weights of this method into whole numbers where they are loaded."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    kind = AUTO_QUANTIZATION_CONFIG_MAPPING.get(method)
    return kind is not None and "dequantize" in inspect.signature(kind).parameters


def _refuse_unread(path: Path, config: Any) -> None:
    """Raise ModelError for weights of FP8 that transformers would read wrongly, and say nothing.

    That is those without scales, and those that the config's blocks do not divide, for which it takes other blocks.
    """
    sides = _settings(config).get("weight_block_size") or (1, 1)
    block = tuple(max(1, side) for side in sides if isinstance(side, int))
    for name, shape, scaled in _fp8(path):
        if not scaled:
            raise ModelError(
                f"model '{path}' lacks the scales of its quantised weight {name}; fetch the checkpoint again"
            )
        if any(size % side for size, side in zip(shape[-2:], block, strict=False)):
            raise ModelError(
                f"model '{path}' has quantised weights that its blocks of {' x '.join(map(str, block))} do not divide: "
                f"{name}, {' x '.join(map(str, shape))}; {_INSTEAD}"
            )


def _fp8(path: Path) -> Iterator[tuple[str, list[int], bool]]:
    """Name and shape of each weight of FP8 in a folder's files, and whether there are scales for it."""
    from safetensors import safe_open

    tensors: dict[str, tuple[str, list[int]]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                part = opened.get_slice(name)
                tensors[name] = part.get_dtype(), part.get_shape()
    for name, (kind, shape) in tensors.items():
        if name.endswith(".weight") and kind.startswith("F8_E4M3"):
            yield name, shape, any(f"{name.removesuffix('weight')}{each}" in tensors for each in _SCALES)
