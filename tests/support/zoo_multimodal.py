"""Families of checkpoints of images, sound and text, built tiny, which are used for text."""

from collections.abc import Mapping
from typing import Any

_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
_DEEP: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 48,
    "patch_size": 8,
}
_WIDE = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
_VQ = {"embed_dim": 16, "base_channels": 32, "channel_multiplier": [1], "num_res_blocks": 1}
_SOUND: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
_SOUND |= {"num_mel_bins": 8}
_ALIKE = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
# The positions of a token in time, height and width of an image, which are the same for text.
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}}
_IMAGES = {"image_token_id": 511, "video_token_id": 510, "vision_start_token_id": 509, "vision_end_token_id": 508}
_SIGLIP = {"vision_config": {"model_type": "siglip_vision_model", **_VISION}}
_CLIP = {"vision_config": {"model_type": "clip_vision_model", **_VISION}, "image_token_index": 511}
_BYTES = {**_ALIKE, "hidden_size_global": 48, "num_key_value_heads": 2, "vocab_size": 512}
_STACK = {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}


def nested_configs(
    size: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]], experts: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The whole configs, by family.

    size: sizes of a tiny model of text. changes: what a family of text needs beside them. experts: of a mixture.
    """

    def text(kind: str, **more: Any) -> dict[str, Any]:
        return {"text_config": {"model_type": kind, **size, **changes.get(kind, {}), **more}}

    def own(**more: Any) -> dict[str, Any]:
        return {"text_config": {**size, **more}}

    half = {**_MROPE["rope_parameters"], "mrope_section": [1, 1, 1], "partial_rotary_factor": 0.5}
    return {
        "aya_vision": {**text("cohere2"), **_SIGLIP, "image_token_index": 511},
        "blt": {"vocab_size": 512, "encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]}
        | {f"{part}_config": _BYTES for part in ("patcher", "encoder", "decoder")}
        | {"global_config": {**_BYTES, "hidden_size": 48}, "eos_token_id": 2},
        "chameleon": {**size, "vq_config": _VQ, "vocabulary_map": {"<image>": 5, "IMGIMGA": 6}},
        "cohere2_vision": {**text("cohere2"), **_SIGLIP, "image_token_id": 511},
        "cohere_compass": {**text("cohere_compass_text"), "vision_config": {**_DEEP, **_STACK}, **_IMAGES},
        "dots3_note": {**text("dots3_note_text"), "image_token_id": 511, "video_token_id": 510, "audio_token_id": 509}
        | {"vision_config": {**_VISION, "mlp_layer_types": ["dense"], "adapter_in_dim": 32, "adapter_out_dim": 48}}
        | {"audio_config": {**_ALIKE, "feature_size": 16, "adapter_input_size": 32, "adapter_out_dim": 48}},
        "emu3": {**own(), "vocabulary_map": {"<image>": 5}, "vq_config": _VQ},
        "gemma3": {**text("gemma3_text"), **_SIGLIP, "mm_tokens_per_image": 4, "image_token_index": 511}
        | {"boi_token_index": 510, "eoi_token_index": 509},
        "gemma4": {**own(**changes["gemma4_text"]), "vision_config": _VISION, "audio_config": None},
        "gemma4_unified": {**own(**changes["gemma4_unified_text"]), "audio_config": None}
        | {"vision_config": {"mm_embed_dim": 32, "output_proj_dims": 48, "mm_posemb_size": 8, "num_soft_tokens": 4}},
        "glm4v": {**own(head_dim=12, rope_parameters=half), "vision_config": {**_DEEP, "image_size": 16}, **_IMAGES},
        "got_ocr2": {**text("qwen2"), "image_token_index": 511}
        | {"vision_config": {**_VISION, "output_channels": 16, "mlp_dim": 32, "global_attn_indexes": [0]}},
        "idefics3": {**text("llama"), "vision_config": _VISION, "image_token_id": 511},
        "internvl": {**text("qwen2"), "image_token_id": 511}
        | {"vision_config": {**_VISION, "image_size": [16, 16], "patch_size": [8, 8]}},
        "lfm2_vl": {**text("lfm2"), "vision_config": {"model_type": "siglip2_vision_model", **_VISION}}
        | {"image_token_id": 511},
        "llama4": {**own(**changes["llama4_text"]), "vision_config": {**_VISION, **_WIDE}},
        "llava": {**text("llama"), **_CLIP},
        "llava_next": {**text("mistral"), **_CLIP},
        "llava_onevision": {**text("qwen2"), **_SIGLIP, "image_token_index": 511, "video_token_index": 510},
        "mistral3": {**text("mistral"), "image_token_index": 511}
        | {"vision_config": {"model_type": "pixtral", **_VISION, "head_dim": 16}},
        "mllama": {**own(cross_attention_layers=[1])}
        | {"vision_config": {**_VISION, "attention_heads": 2, "num_global_layers": 1}}
        | {"supported_aspect_ratios": [[1, 1]]},
        "moss_transcribe_diarize": {**text("qwen3"), "audio_config": {"model_type": "whisper", **_SOUND}}
        | {"audio_token_id": 511},
        "paligemma": {**text("gemma"), **_SIGLIP, "image_token_index": 511, "projection_dim": 48},
        "phi4_multimodal": {**size, "vision_config": {**_VISION, "crop_size": 16}}
        | {"audio_config": {**_ALIKE, "num_blocks": 1, "nemo_conv_channels": 32, "input_size": 16}},
        "qwen2_5_omni_thinker": {**own(**_MROPE), "vision_config": {**_DEEP, "fullatt_block_indexes": [0]}}
        | {"audio_config": {**_SOUND, "output_dim": 48}},
        "qwen2_5_vl": {**own(**_MROPE), "vision_config": {**_DEEP, "fullatt_block_indexes": [0]}, **_IMAGES},
        "qwen2_audio": {**text("qwen2"), "audio_config": _SOUND, "audio_token_index": 511},
        "qwen2_vl": {**own(**_MROPE), **_IMAGES}
        | {"vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 48, "num_heads": 2, "patch_size": 8}},
        "qwen3_5": {**own(**changes["qwen3_5_text"]), "vision_config": _DEEP},
        "qwen3_5_moe": {**own(**changes["qwen3_5_moe_text"]), "vision_config": _DEEP},
        "qwen3_vl": {**own(head_dim=12, **_MROPE), "vision_config": {**_DEEP, **_STACK}, **_IMAGES},
        "qwen3_vl_moe": {**own(**experts, head_dim=12, **_MROPE), "vision_config": {**_DEEP, **_STACK}, **_IMAGES},
        "qwen4_exp": {**own(**changes["qwen4_exp_text"]), **_IMAGES}
        | {"vision_config": {**_DEEP, "num_position_embeddings": 16}},
        "smolvlm": {**text("llama"), "vision_config": _VISION, "image_token_id": 511},
        "voxtral": {**text("llama"), "audio_config": {**_ALIKE, "intermediate_size": 128, "num_mel_bins": 8}}
        | {"audio_token_id": 511},
    }
