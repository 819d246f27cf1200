"""What is left out of the last layer changes nothing that is read, neither its value nor its gradient."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, Qwen3Config, Qwen3ForCausalLM

from cohobate.models import logprobs
from cohobate.models.batching import Batch, Padded, batches, hidden_states
from cohobate.models.sequence import TrainingSequence

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL),
    "qwen": Qwen3Config(**SMALL, head_dim=8),
    "mixture of experts": MixtralConfig(**SMALL, num_local_experts=2),
    "another layout": GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
}
ROWS = [TrainingSequence([1, 2, 3, 4, 5, 6, 7], 5), TrainingSequence([9, 8, 7], 1), TrainingSequence([5] * 6, 3)]


def padded() -> tuple[Batch, Padded]:
    [batch] = batches(ROWS, 1000, 0, "cpu")
    assert isinstance(batch.layout, Padded)
    return batch, batch.layout


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_what_is_read_and_its_gradient_are_those_of_the_whole_model(config: Any, checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).train()
    # A module with a hook is called as a module, whatever its class.
    model.get_decoder().register_forward_hook(lambda module, args, output: None)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batch, layout = padded()

    def learn(found: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
        model.zero_grad()
        found.sin().sum().backward()
        return found.detach(), {
            name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
        }

    whole = model.get_decoder()(input_ids=layout.inputs, use_cache=False).last_hidden_state
    expected, gradients = learn(whole[layout.rows, layout.columns])
    found, ours = learn(hidden_states(model, batch))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, gradients, rtol=1e-5, atol=1e-6)


def test_the_last_mlp_sees_only_what_is_read_and_later_passes_see_everything() -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"])
    batch, layout = padded()
    seen: list[int] = []
    for layer in model.get_decoder().layers:
        layer.mlp.down_proj.register_forward_hook(lambda module, args, output: seen.append(output[..., 0].numel()))
    hidden_states(model, batch)
    assert seen == [layout.inputs.numel(), 2 + 2 + 3]
    seen.clear()
    model(layout.inputs)
    assert seen == [layout.inputs.numel()] * 2


def test_a_vocabulary_too_large_for_one_chunk_is_scored_alike() -> None:
    torch.manual_seed(0)
    vocabulary = 500_000  # several chunks
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, num_key_value_heads=1, head_dim=8, **sizes))
    rows = [TrainingSequence([9999 * t % vocabulary for t in range(20 + i)], 1 + i) for i in range(3)]
    for row, score in zip(rows, logprobs.score(model.eval(), rows, 1000, 0), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0, row.context - 1 : -1]
        expected = logits.log_softmax(-1)[torch.arange(19), torch.tensor(row.response)]
        torch.testing.assert_close(score.logprobs, expected, rtol=0, atol=1e-4)
