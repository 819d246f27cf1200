"""From a GGUF file to a Hugging Face folder that any reader of safetensors loads, and the proof that it is the same.

transformers reads a GGUF file as it is, with weights widened to float32. It does not save what it has read so, which a
fresh model of the same configuration does. Weights are saved in bfloat16: the file's own are of 4 to 6 bits.
"""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.core.errors import ModelError
from cohobate.core.sanitize import one_line
from cohobate.models import checkpoint
from cohobate.models.end_of_response import end_ids, turn_end
from cohobate.models.loading import load, save

if TYPE_CHECKING:
    import torch

# In nats: between the folder's model and the file's after the same rounding, and by rounding alone, a token's KL.
TOLERANCE, ROUNDING = 1e-3, 0.02
_PROBES = (
    "What is the capital of France?",
    "Write the word lantern in capital letters, then count to 12: 1, 2, 3.",
    'Give a JSON object with the keys "name" and "colour".\n\nÉté, Straße, 東京, 3.5 % - it\'s 2024!',
)


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds: a model in float32, its tokenizer with chat template, and the ids that end a response."""

    model: Any
    tokenizer: Any
    ends: tuple[int, ...]


def require_gguf() -> None:
    """Raise ModelError without the package gguf."""
    if find_spec("gguf") is None:
        raise ModelError("reading a GGUF file takes the package gguf; install it with: pip install 'cohobate[gguf]'")


def read_gguf(file: Path) -> GgufModel:
    """The model of a GGUF file. Raises ModelError when it cannot be read, or has no chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    require_gguf()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # bars of its own
            how = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
            model, report = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **how)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # gguf and transformers raise what they like at a damaged or unknown file
        raise ModelError(f"the GGUF file {file} cannot be read: {one_line(error)[:300]}") from error
    checkpoint.refuse_other_weights(file, report)
    end = turn_end(tokenizer)
    if end is None:
        raise ModelError(f"the chat template in {file} writes no special token behind a response, so nothing ends one")
    return GgufModel(model.eval(), tokenizer, tuple(dict.fromkeys((end, *end_ids(model.config)))))


def write_folder(source: GgufModel, folder: Path, leave_out: int = 0) -> int:
    """Write the model of `source` to `folder`, without the middle one of each `leave_out` layers; its parameters.

    0: all layers. Raises ModelError when what was written is not what was read.
    """
    import torch

    unrounded = _without_layers(_unquantised(source.model), leave_out)
    rounded = copy.deepcopy(unrounded)
    with torch.no_grad():
        for parameter in rounded.parameters():  # and no buffer: rotary frequencies are not saved
            parameter.copy_(parameter.bfloat16())
    model = copy.deepcopy(unrounded).to(torch.bfloat16)
    tokenizer = source.tokenizer
    tokenizer.model_max_length = int(model.config.max_position_embeddings)
    model.generation_config.eos_token_id = list(source.ends)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    save(model, tokenizer, folder)
    _require_same(folder, unrounded, rounded, tokenizer)
    return sum(parameter.numel() for parameter in unrounded.parameters())


def _unquantised(model: Any) -> Any:
    """A model with the same weights whose configuration does not say that they came from a GGUF file."""
    values = model.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "dtype", "transformers_version"):
        values.pop(name, None)
    fresh = type(model)(type(model.config)(**values))
    fresh.load_state_dict(model.state_dict())
    fresh.tie_weights()
    return fresh.eval()


def _without_layers(model: Any, every: int) -> Any:
    """`model` without the middle one of each `every` layers: the first and the last stay, which models need most."""
    if not every:
        return model
    import torch

    layers, config = model.model.layers, model.config
    remaining = [place for place in range(len(layers)) if place % every != every // 2]
    for place, layer in enumerate(layers[old] for old in remaining):
        layer.self_attn.layer_idx = place  # of the cache
    model.model.layers = torch.nn.ModuleList(layers[old] for old in remaining)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[old] for old in remaining]
    config.num_hidden_layers = len(remaining)
    return model


def _require_same(folder: Path, unrounded: Any, rounded: Any, tokenizer: Any) -> None:
    """Raise ModelError unless the folder gives the rounded model's log-probabilities, near the unrounded's."""
    written = load(folder, device="cpu")
    for text in _PROBES:
        turn = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        read = written.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        if written.tokenizer(read, add_special_tokens=False)["input_ids"] != ids:
            raise ModelError(f"the tokenizer in {folder} cuts text into other tokens than that of the GGUF file")
        ours, same, wide = (_logprobs(model, ids) for model in (written.model, rounded, unrounded))
        apart = float((ours - same).abs().max())
        lost = float((wide.exp() * (wide - ours)).sum(-1).mean())
        if not apart <= TOLERANCE or not lost <= ROUNDING:
            raise ModelError(
                f"the model in {folder} is not that of the GGUF file: log-probabilities differ by {apart:.2g} nats, "
                f"and by {lost:.2g} nats per token through rounding"
            )


def _logprobs(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [T, V] after each of the ids."""
    import torch

    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits.float().log_softmax(-1)
