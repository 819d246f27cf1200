"""Every family of causal language models that transformers has, built tiny: random weights, the shipped tokenizer.

The names are those of transformers' own table of causal language models, so that a family which a new release brings is
tried too, and those of `zoo_multimodal`. What is left out is left out by name, with the reason.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from cohobate.core.shipped import shipped_path
from cohobate.models.model_class import model_class
from tests.support.zoo_multimodal import nested_configs

_MLA = {
    **{"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12},
    **{"num_key_value_heads": 4, "head_dim": 8, "qk_head_dim": 16},
}
_MOE = {
    **{"num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "moe_num_experts": 4, "n_shared_experts": 1},
    **{
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    **{"shared_expert_intermediate_size": 32, "num_dense_layers": 1, "moe_num_shared_experts": 1, "moe_k": 2},
}
_LINEAR = {
    **{"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
    "head_dim": 16,
}
_HYBRID = {"layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"]}
_MAMBA2 = {"mamba_n_heads": 12, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_SHARED = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512}
_INDEX = {"index_n_heads": 8, "index_head_dim": 16, "index_topk": 8}
_FOUR = ["sliding_attention", "full_attention"] * 2

SIZE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.1,
}
_NO_HEAD_DIM = {"head_dim": 12}
_RELATIVE = {
    **{"head_dim": 12, "swa_head_dim": 12, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "d_rel": 4},
    **{"sliding_window_size": 8, "rel_extent": 16, "conv_kernel_size": 3},
    "layer_types": ["hybrid_sliding", "hybrid"] * 2,
}

# What a family needs beside the common sizes, and what makes its peculiarity matter.
CHANGES: dict[str, dict[str, Any]] = {
    "afmoe": {**_MOE, "num_dense_layers": 1, **_NO_HEAD_DIM, "sliding_window": 8},
    "axk1": {**_MLA, **_MOE},
    "axk2": {**_MLA, **_MOE, **_INDEX},
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2},
    "bailing_hybrid": {**_MLA, **_MOE, "layer_group_size": 2},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1]},
    "beam": {**_MOE, **_NO_HEAD_DIM, "sliding_window": 8, "layer_types": _FOUR},
    "bitnet": {},
    "codegen": {"rotary_dim": 8},
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.2, **_NO_HEAD_DIM, "sliding_window": 8, "layer_types": _FOUR},
    "cohere2_moe": {**_MOE, "sliding_window": 8},
    "cohere_compass_text": {"layer_types": _FOUR, "sliding_window": 8, "logit_scale": 0.2}
    | {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in _FOUR}},
    "dbrx": {"d_model": 48, "n_heads": 4, "n_layers": 4, "max_seq_len": 512}
    | {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4}, "ffn_config": {"ffn_hidden_size": 64}},
    "deepseek_v2": {**_MLA, **_MOE, "topk_method": "greedy"},
    "deepseek_v3": {**_MLA, **_MOE},
    "deepseek_v32": {**_MLA, **_MOE, **_INDEX},
    "deepseek_v4": {**_MOE, "num_key_value_heads": 1, "head_dim": 16, "q_lora_rank": 24, "o_groups": 2}
    | {"o_lora_rank": 16, **_INDEX, "sliding_window": 8},
    "dots3_note_text": {**_MLA, **_MOE, **_INDEX, "head_dim": 16, "sliding_window": 8, "swa_num_attention_heads": 4}
    | {"shared_experts_intermediate_size": 32, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 24, "swa_head_dim": 16}
    | {"swa_kv_lora_rank": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 12},
    "dots1": {**_MOE, "layer_types": _FOUR, "sliding_window": 8},
    "ernie4_5": _NO_HEAD_DIM,
    "ernie4_5_moe": {**_MOE, "moe_intermediate_size": 32},
    "exaone4": {"sliding_window": 8, "sliding_window_pattern": 2},
    "exaone_moe": {**_MOE, "sliding_window": 8},
    "falcon": {"alibi": True, "multi_query": True, "new_decoder_architecture": False},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 96},
    "flex_olmo": _MOE,
    "flint": _MOE,
    "gemma": _NO_HEAD_DIM,
    "gemma2": {"final_logit_softcapping": 2.5, **_NO_HEAD_DIM, "query_pre_attn_scalar": 12, "sliding_window": 8},
    "gemma3_text": {**_NO_HEAD_DIM, "query_pre_attn_scalar": 12, "sliding_window": 8, "layer_types": _FOUR},
    "gemma3n_text": {**_NO_HEAD_DIM, **_SHARED, "layer_types": _FOUR, "num_kv_shared_layers": 2, "sliding_window": 8}
    | {"activation_sparsity_pattern": [0.0] * 4},
    "gemma4_text": {**_NO_HEAD_DIM, **_SHARED, "layer_types": _FOUR, "sliding_window": 8, "global_head_dim": 12},
    "gemma4_unified_text": {"sliding_window": 8, "head_dim": 12, "global_head_dim": 24, "attention_k_eq_v": True}
    | {"num_global_key_value_heads": 1, "layer_types": _FOUR},
    "glm": _NO_HEAD_DIM,
    "glm4": _NO_HEAD_DIM,
    "glm4_moe": {**_MOE, **_NO_HEAD_DIM},
    "glm4_moe_lite": {**_MOE, **_MLA},
    "glm_moe_dsa": {**_MOE, **_MLA, **_INDEX},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "window_size": 8},
    "gpt_oss": {**_MOE, "head_dim": 16, "sliding_window": 8, "layer_types": _FOUR},
    "gptj": {"rotary_dim": 8},
    "granite": {"logits_scaling": 7.0, "embedding_multiplier": 5.0, "residual_multiplier": 0.4},
    "granitemoe": {**_MOE, "logits_scaling": 6.0},
    "granitemoehybrid": {**_MOE, **_MAMBA2, "layer_types": ["mamba", "attention"] * 2, "logits_scaling": 6.0},
    "helium": _NO_HEAD_DIM,
    "hunyuan_v1_dense": _NO_HEAD_DIM,
    "hunyuan_v1_moe": {**_NO_HEAD_DIM, **_MOE, "moe_topk": 2},
    "hy_v3": {**_MOE, "head_dim": 16},
    "hy_v4": {**_MOE, "head_dim": 16},
    "inkling_text": {**_MOE, **_RELATIVE, "logits_mup_width_multiplier": 2.0},
    "inkling2_text": {**_MOE, **_RELATIVE, "n_layers_per_attn_res_block": 2, "unpadded_vocab_size": 512}
    | {"log_scaling_n_floor": 16},
    "jamba": {**_MOE, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "mamba_d_state": 8}
    | {"mamba_dt_rank": 4, "use_mamba_kernels": False},
    "jetmoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 12, "activation_function": "silu"},
    "kimi_linear": {**_MOE, **_MLA, "linear_head_dim": 8, "linear_num_heads": 4, **_HYBRID},
    "kolibri1": _MOE,
    "laguna": {**_MOE, "head_dim": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
    "lfm2_moe": {**_MOE, "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
    "llama": {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
        | {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    },
    "llama4_text": {**_MOE, "head_dim": 12, "attention_chunk_size": 8, "intermediate_size_mlp": 64}
    | {"interleave_moe_layer_step": 2},
    "longcat_flash": {**_MLA, **_MOE, "num_layers": 2, "ffn_hidden_size": 64, "zero_expert_num": 2, "moe_topk": 2}
    | {"expert_ffn_hidden_size": 32},
    "mamba": {"state_size": 8},
    "falcon_mamba": {"state_size": 8},
    "mamba2": {"num_heads": 12, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "mellum": {**_MOE, "head_dim": 12},
    "mimo_v2_flash": {**_MOE, "head_dim": 16, "v_head_dim": 12, "swa_head_dim": 16, "swa_v_head_dim": 12}
    | {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "sliding_window": 8},
    "minicpm3": _MLA,
    "minimax": {**_MOE, "head_dim": 12, "block_size": 8, **_HYBRID},
    "minimax_m2": {**_MOE, "head_dim": 16},
    "ministral": {**_NO_HEAD_DIM, "sliding_window": 8},
    "mistral": {"sliding_window": 8},
    "mixtral": {"num_local_experts": 4, "sliding_window": 8},
    "mpt": {"d_model": 48, "n_heads": 4, "n_layers": 4, "max_seq_len": 512},
    "nemotron_h": {"layers_block_type": ["mamba", "moe", "attention", "mlp"], "mamba_num_heads": 12}
    | {"mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8, **_MOE, "head_dim": 12}
    | {"moe_shared_expert_intermediate_size": 32},
    "olmo_hybrid": {**_LINEAR, **_HYBRID, "num_key_value_heads": 4, "head_dim": 12},
    "olmo3": {"sliding_window": 8, "layer_types": _FOUR},
    "olmoe": _MOE,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 48},
    "phi3": {
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 6, "factor": 2.0}
        | {"long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], "original_max_position_embeddings": 256},
        "original_max_position_embeddings": 256,
        "sliding_window": None,
    },
    "phimoe": _MOE,
    "qwen2": {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
        | {"original_max_position_embeddings": 128}
    },
    "qwen2_moe": {**_MOE, "shared_expert_intermediate_size": 32},
    "qwen3": {"head_dim": 16},
    "qwen3_5_moe_text": {**_MOE, **_LINEAR, **_HYBRID},
    "qwen3_5_text": {**_LINEAR, **_HYBRID},
    "qwen3_moe": {**_MOE, "head_dim": 16},
    "qwen4_exp_text": {**_MOE, **_LINEAR, "hc_lowrank": 8, "ngram_vocab_size_base": 64, "heads_per_ngram": 2}
    | {"make_ngram_vocab_size_divisible_by": 8, "split_ngram_parts": 1, "ple_embed_dim": 48, "ple_layer_ids": [1]}
    | {"layer_types": ["linear_attention", "full_attention"] * 2, "indexer_n_heads": 4, "indexer_kv_heads": 1}
    | {"indexer_head_dim": 16, "indexer_budget": 8, "indexer_compress_ratio": 4},
    "qwen3_next": {**_MOE, **_LINEAR, **_HYBRID},
    "recurrent_gemma": {"lru_width": 48, "attention_window_size": 8, "num_key_value_heads": 1, "head_dim": 12},
    "rwkv": {"attention_hidden_size": 48, "context_length": 512},
    "seed_oss": {"head_dim": 12, "residual_dropout": 0.1, "attention_dropout": 0.1},
    "solar_open": {**_MOE, "head_dim": 12},
    "stablelm": {"partial_rotary_factor": 1.0},
    "starcoder2": {"sliding_window": 8},
    "vaultgemma": {**_NO_HEAD_DIM, "query_pre_attn_scalar": 12, "sliding_window": 8},
    "xlstm": {"num_heads": 4, "chunk_size": 8, "embedding_dim": 48},
    "youtu": _MLA,
    "zamba": {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "n_mamba_heads": 2, "mamba_d_state": 8}
    | {"mamba_dt_rank": 4, "use_mamba_kernels": False, "num_key_value_heads": 4},
    "zamba2": {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8, "n_mamba_heads": 12}
    | {"chunk_size": 8, "num_mem_blocks": 1, "use_shared_attention_adapter": False, "mamba_headdim": 8},
    "zaya": {**_MOE, "num_experts_per_tok": 1, "head_dim": 16, "router_hidden_size": 16},
}
# Those that need a package which is not among the requirements.
UNTRIED: dict[str, str] = {"gemma3n": "its tower of images needs the package timm; `gemma3n_text` is tried"}
# Those whose trials fail today.
OPEN: frozenset[str] = frozenset()
# Those that preflight refuses, in one sentence: no width, attention to what comes behind, images' logits shut.
REFUSED = frozenset({"blt", "paligemma", "chameleon"})
# Those of transformers' table that are no causal language models of text by themselves, or are another's class again.
LEFT_OUT: dict[str, str] = {
    name: why
    for why, group in {
        "reads both ways": """
            bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta reformer
            roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xmod xlnet cpmant git""",
        "the decoder of an encoder": """
            bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet trocr whisper
            moshi musicgen musicgen_melody""",
        "another family's class under a name of its own": "gpt-sw3 internlm3 iquestcoder",
        "drafts for another model": "gemma4_assistant gemma4_unified_assistant",
    }.items()
    for name in group.split()
}


def names() -> list[str]:
    """The families that are tried."""
    text = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in LEFT_OUT]
    return [*text, *(name for name in nested() if name not in text)]


def tried() -> list[str]:
    """Those of `names` that have a trial."""
    return [name for name in names() if name not in UNTRIED.keys() | OPEN]


def class_of(name: str) -> str:
    """The name of a family's class."""
    return str({**MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, **MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}[name])


def nested() -> dict[str, dict[str, Any]]:
    """The whole configs of checkpoints of images, sound and text."""
    return nested_configs(SIZE, CHANGES, _MOE)


def build(name: str, seed: int = 0) -> Any:
    """A model of a family, in float32 and eval mode."""
    config = AutoConfig.for_model(name, **nested().get(name, {**SIZE, **CHANGES.get(name, {})}))
    with torch.device("meta"):
        size = model_class(config).from_config(config).num_parameters()
    if size > 3e7:
        raise ValueError(f"{name} is not tiny: {size:,} parameters")
    torch.manual_seed(seed)
    return model_class(config).from_config(config).float().eval()


def write(name: str, folder: Path, seed: int = 0) -> Path:
    """A model of a family as a checkpoint, with the shipped tokenizer."""
    model = build(name, seed)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    shipped = shipped_path("world/base")
    assert shipped is not None
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)
    return folder
