"""A GGUF file of a small Llama with the world's tokenizer, as llama.cpp's converter writes one."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch

from cohobate.core.shipped import shipped_path
from tests.support.gguf_file import words


def write(model: Any, tokenizer: Any, file: Path) -> None:
    """`model` in float32; its queries and keys in the order of llama.cpp's rotary embedding."""
    config, folder = model.config, shipped_path("world/base")
    assert folder is not None
    out = gguf.GGUFWriter(file, "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_vocab_size(config.vocab_size)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    written = json.loads((folder / "tokenizer.json").read_text())
    words(out, written, {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id})
    out.add_chat_template((folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, values in model.state_dict().items():
        if name == "lm_head.weight":  # the embeddings again
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = next((heads[part] for part in heads if part in name), None)
        ordered = values if count is None else _interleaved(values, count)
        out.add_tensor(names.get_name(name, try_suffixes=(".weight",)), ordered.contiguous().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of each head with its two halves, which transformers rotates against each other, side by side."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)
