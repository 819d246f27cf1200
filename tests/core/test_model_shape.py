"""Sizes read from configs, held against the tensors of the models that transformers makes of them."""

from typing import Any

import pytest

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import ModelShape, context_of, rope_limit
from cohobate.models.model_cost import cost_of

_BY_NAME: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 96, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "bloom": {"vocab_size": 96, "hidden_size": 48, "n_layer": 3, "n_head": 4},
    "falcon": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4},
    "opt": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 80}
    | {"word_embed_proj_dim": 48},
    "mpt": {"vocab_size": 96, "d_model": 48, "n_layers": 3, "n_heads": 4},
    "mamba": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3},
    "qwen3": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16}
    | {"num_key_value_heads": 2, "intermediate_size": 80},
}


def _config(name: str, values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(name, **values)


@pytest.mark.parametrize("name", _BY_NAME)
def test_sizes_are_those_of_the_tensors(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name, _BY_NAME[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    shape = ModelShape.of(config)
    assert (shape.vocabulary, shape.width) == tuple(model.get_input_embeddings().weight.shape)
    assert shape.layers == len(layers) == 3
    assert ModelShape.of(config.to_dict()) == shape
    assert cost_of(config).params > 0


def test_heads_of_keys_and_values_are_those_of_the_cache() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    for name in ("falcon", "qwen3", "gpt2"):
        config = _config(name, _BY_NAME[name])
        model = AutoModelForCausalLM.from_config(config)
        keys = model(input_ids=torch.ones(1, 5, dtype=torch.long), use_cache=True).past_key_values.layers[0].keys
        shape = ModelShape.of(config)
        assert keys.shape == (1, shape.kv_heads, 5, shape.head_dim)


def test_the_text_of_a_checkpoint_of_images_and_text() -> None:
    nested = {"model_type": "gemma3", "text_config": {**_BY_NAME["qwen3"], "max_position_embeddings": 77}}
    assert ModelShape.of(nested).width == 48
    assert context_of(nested) == 77
    assert ModelShape.of({**nested, "tie_word_embeddings": True}).tied


def test_sizes_that_layers_have_of_their_own_are_the_largest() -> None:
    """Of a cache that is as wide for each layer, and of a config that refuses to say one for all."""
    own = {"head_dim": 24, "num_key_value_heads": 1, "intermediate_size": 100}
    config = _config("llama", {**_BY_NAME["qwen3"], "per_layer_config": {1: own}})
    with pytest.raises(RuntimeError, match="per-layer"):
        print(config.head_dim)
    shape = ModelShape.of(config)
    assert (shape.head_dim, shape.kv_heads, shape.inner, shape.heads) == (24, 2, 100, 4)


def test_without_attention_there_are_no_heads_and_no_limit() -> None:
    shape = ModelShape.of(_config("mamba", _BY_NAME["mamba"]))
    assert (shape.heads, shape.head_dim, shape.context) == (0, 0, None)
    assert cost_of(_config("mamba", _BY_NAME["mamba"])).pair == 0


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 48}}, 48),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 48}, 48),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 384),
        ({"rope_parameters": {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 9}}}, 9),
        ({"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 48}}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 48}}, None),
        ({"rope_scaling": None}, None),
    ],
)
def test_the_length_up_to_which_a_row_depends_on_itself_alone(values: dict[str, Any], limit: int | None) -> None:
    config = {"max_position_embeddings": 384, **values}
    assert rope_limit(config) == limit
    assert context_of(config) == (limit or 384)


def test_a_config_without_a_size_is_named() -> None:
    with pytest.raises(ModelError, match="config of strange does not give its layers; known names of it are num_hid"):
        ModelShape.of({"model_type": "strange", "hidden_size": 8})
