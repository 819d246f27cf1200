"""LoRA on families other than Llama: what is merged is what was trained, and what is left out is said."""

from typing import Any

import pytest
import torch

from cohobate.config import Lora, Training
from cohobate.core.errors import UserError
from cohobate.training.lora import full_weights, require_mergeable, unadapted_experts, with_lora
from tests.support.zoo import build

pytestmark = pytest.mark.slow


def _adapted(model: Any, *targets: str) -> Any:
    """`model` with adapters that change it."""
    adapted = with_lora(model, Training(lora=Lora(rank=4, alpha=8, targets=targets), steps=20), "somebody/base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.1)
    return adapted


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    ids = torch.randint(3, 508, (2, 20), generator=torch.Generator().manual_seed(3))
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


@pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v3", "gpt2", "jamba", "mamba", "llama4_text", "gemma3"])
def test_full_weights_are_the_adapted_model(name: str) -> None:
    """Also where tensors of experts have adapters, weights are read past them, or a tower of images is not called."""
    model, bare = build(name), build(name)
    before = _logits(bare)
    _adapted(model)
    named = {key for key, _ in bare.named_parameters()}
    weights = full_weights(model, torch.float32)
    assert weights.keys() == named
    bare.load_state_dict(weights, strict=False)
    torch.testing.assert_close(_logits(bare), _logits(model), rtol=0, atol=2e-5)
    assert (before - _logits(bare)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt2", "jamba"])
def test_merged_adapters_are_the_adapted_model(name: str) -> None:
    model = build(name)
    adapted = _adapted(model)
    before = _logits(model)
    torch.testing.assert_close(_logits(adapted.merge_and_unload()), before, rtol=0, atol=2e-5)


def test_layers_that_merge_into_another_model_are_refused() -> None:
    for name, targets in (("zamba2", ()), ("jamba", ("dt_proj",))):
        model = build(name)
        with pytest.raises(
            UserError, match=r"published as another .*nats per token apart once merged.*name other layers"
        ):
            require_mergeable(_adapted(model, *targets), model)


def test_a_layer_that_gives_other_than_its_product_has_no_adapter() -> None:
    """DeepSeek V4 multiplies each group of heads by its part of the weights."""
    model = build("deepseek_v4")
    adapted = _adapted(model)
    names = [name for name, _ in model.named_parameters() if ".lora_A" in name]
    require_mergeable(adapted, model)
    assert any("o_b_proj" in name for name in names) and not any("o_a_proj" in name for name in names)
    asked = build("deepseek_v4")
    with pytest.raises(UserError, match=r"does not fit these layers of DeepseekV4ForCausalLM .*name other layers"):
        require_mergeable(_adapted(asked, "o_a_proj"), asked)


@pytest.mark.parametrize(("target", "layer"), [("lm_head", "output layer"), ("embed_tokens", "embedding")])
def test_adapters_on_one_of_two_tied_layers_are_refused(target: str, layer: str) -> None:
    with pytest.raises(UserError, match=f"student's {layer}, but embedding and output layer are one tensor"):
        _adapted(build("gemma"), "q_proj", target)


def test_layers_that_are_not_tied_may_have_adapters() -> None:
    model = build("llama")
    require_mergeable(_adapted(model, "q_proj", "lm_head"), model)


def test_experts_without_adapters_are_counted() -> None:
    counts = {name: sum(p.numel() for n, p in build(name).named_parameters() if ".experts." in n) for name in
              ("gpt_oss", "qwen3_moe", "llama")}  # fmt: skip
    assert counts["gpt_oss"] > 0 and counts["qwen3_moe"] > 0 and counts["llama"] == 0
    for name, left in (("gpt_oss", counts["gpt_oss"]), ("qwen3_moe", 0), ("llama", 0)):
        model = build(name)
        _adapted(model)
        assert unadapted_experts(model) == left
