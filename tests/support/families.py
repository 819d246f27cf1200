"""Small models of real families with random weights, and what plain transformers computes with them."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cohobate.models.sequence import TrainingSequence

SIZE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.25,
}
# What each does behind its head, with values that no test passes by chance.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 16},
    "granite": {"logits_scaling": 7.0, "embedding_multiplier": 5.0, "residual_multiplier": 0.4},
    "granitemoe": {"logits_scaling": 6.0, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.2, "head_dim": 12, "sliding_window": 8},
    "gemma2": {"final_logit_softcapping": 2.5, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 8},
}


def family(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model of one of FAMILIES, in float32 and eval mode."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(name, **{**SIZE, **FAMILIES[name], **changes})
    return AutoModelForCausalLM.from_config(config).float().eval()


def random_rows(lengths: list[tuple[int, int]]) -> list[TrainingSequence]:
    """Rows of random ids, of these lengths of context and response."""
    draw = torch.Generator().manual_seed(4)
    return [TrainingSequence(torch.randint(3, 96, (a + b,), generator=draw).tolist(), a) for a, b in lengths]


def plain_logprobs(model: Any, row: TrainingSequence) -> torch.Tensor:
    """Log-probabilities [R, V] at the response tokens, by the model's own forward pass over the row alone."""
    logits = model(input_ids=torch.tensor([list(row.ids)]), use_cache=False).logits[0, row.context - 1 : -1]
    logprobs: torch.Tensor = logits.float().log_softmax(-1)
    return logprobs
