"""A GGUF file from a folder with a Qwen3 model of the world: run by the Python that has llama-cpp-python.

    python gguf_file.py FOLDER FILE

Weights are written as float32, so that nothing but the order of additions differs from transformers.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TYPES = {"F16": np.float16, "F32": np.float32}
# Of llama.cpp's ways to cut text into words, the one that cuts what the world is made of as the model's own does.
WORDS = "gpt-2"


def tensors(path: Path) -> dict[str, np.ndarray]:
    """What a safetensors file holds: a length, a header in JSON, and the values one after the other."""
    raw = path.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    return {
        name: np.frombuffer(raw[start:][slice(*held["data_offsets"])], TYPES[held["dtype"]]).reshape(held["shape"])
        for name, held in header.items()
        if name != "__metadata__"
    }


def write(folder: Path, file: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    out = gguf.GGUFWriter(file, "qwen3")
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    words(out, json.loads((folder / "tokenizer.json").read_text()), config)
    out.add_chat_template((folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, values in tensors(folder / "model.safetensors").items():
        if name != "lm_head.weight":  # the embeddings again
            out.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values.astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def words(out: gguf.GGUFWriter, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    model = tokenizer["model"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    kinds = gguf.TokenType
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(WORDS)
    out.add_token_list(sorted(model["vocab"], key=model["vocab"].get))
    out.add_token_types([kinds.CONTROL if n in special else kinds.NORMAL for n in range(len(model["vocab"]))])
    out.add_token_merges([" ".join(pair) for pair in model["merges"]])
    out.add_eos_token_id(config["eos_token_id"])
    out.add_pad_token_id(config["pad_token_id"])
    out.add_add_bos_token(False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
