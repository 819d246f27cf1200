"""The cost of a model, counted in a skeleton without weights, against torch's own count in a real forward pass."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from cohobate.core.errors import ModelError
from cohobate.models.model_cost import attention_layers, cost_of, skeleton
from cohobate.store.compute_ledger import ModelCost

_LENGTH = 24
_SHAPE = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_HEADS = {"head_dim": 16}
_WINDOW = {"sliding_window": 8}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 24},
    **{"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4},
}
_GPT = {"vocab_size": 100, "n_embd": 64, "hidden_size": 64, "n_layer": 4, "n_head": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {**_SHAPE, **_HEADS},
    "mistral": {**_SHAPE, **_HEADS, **_WINDOW},
    "gemma2": {**_SHAPE, **_HEADS, **_WINDOW},
    "phi3": {**_SHAPE, "pad_token_id": 0},
    "opt": {**_SHAPE, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "gpt2": _GPT,
    "bloom": _GPT,
    "gpt_neox": _SHAPE,
    "falcon": {**_SHAPE, "num_kv_heads": 2, "new_decoder_architecture": True},
    "qwen3_moe": {**_SHAPE, **_HEADS, **_EXPERTS},
    "mixtral": {**_SHAPE, **_EXPERTS},
    "granitemoe": {**_SHAPE, **_EXPERTS},
    "gpt_oss": {**_SHAPE, **_HEADS, **_EXPERTS, **_WINDOW},
    "deepseek_v3": {**_SHAPE, **_EXPERTS, **_LATENT},
    "lfm2": _SHAPE,
    "gemma4_unified_text": {**_SHAPE, **_HEADS, **_WINDOW, "global_head_dim": 24, "attention_k_eq_v": True}
    | {"num_global_key_value_heads": 1, "layer_types": ["sliding_attention", "full_attention"] * 2},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_any_architecture_costs_what_torch_counts(kind: str) -> None:
    """With attention and experts as plain products; torch counts the whole square of every layer of attention."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **CONFIGS[kind]), attn_implementation="eager")
    if "moe" in kind or hasattr(model.config, "num_experts_per_tok"):
        model.set_experts_implementation("eager")
    ids = torch.arange(_LENGTH)[None]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(input_ids=ids, use_cache=False)
    cost = cost_of(model.config)
    square = (cost.pair + cost.near_pair) * _LENGTH**2
    assert cost.linear * _LENGTH + square + cost.head * _LENGTH == counter.get_total_flops()
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


def test_layers_with_a_window_are_told_from_those_without() -> None:
    layers = attention_layers(skeleton(AutoConfig.for_model("gpt_oss", **CONFIGS["gpt_oss"])))
    assert [layer.window for layer in layers] == [8, 0, 8, 0]


@pytest.mark.parametrize(("length", "window"), [(1, 1), (5, 3), (7, 7), (4, 9), (40, 8)])
def test_a_window_costs_the_pairs_that_it_reaches(length: int, window: int) -> None:
    cost = ModelCost(params=0, linear=0, pair=0, head=0, near_pair=1, window=window)
    reached = sum(1 for query in range(length) for key in range(query + 1) if query - key < window)
    assert cost.forward([length], 0) == reached


def test_a_model_of_no_known_kind_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="no language model for a model of type vit"):
        skeleton(AutoConfig.for_model("vit"))
