"""Model folders with the ids, ends and templates of real families, and hardly any weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
_LLAMA = (
    "{{ bos_token }}{% set day = date_string if date_string is defined else strftime_now('%d %b %Y') %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + day + '\n\n<|eot_id|>' }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_HARMONY = (
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}{% else %}"
    "{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """special: ids of special tokens; plain: of added ones that are not; ends: of the generation config."""

    special: dict[str, int]
    eos: str
    ends: list[int]
    template: str
    bos: str | None = None
    plain: dict[str, int] = field(default_factory=dict)


_QWEN_IDS = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
_THOUGHT = {"<think>": 151667, "</think>": 151668}
_LLAMA_IDS = {
    **{"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006},
    **{"<|end_header_id|>": 128007, "<|eom_id|>": 128008, "<|eot_id|>": 128009},
}
FAMILIES = {
    "Qwen3-8B": Family(_QWEN_IDS, "<|im_end|>", [151645, 151643], _QWEN, plain=_THOUGHT),
    "Qwen3-0.6B": Family(_QWEN_IDS, "<|im_end|>", [151645, 151643], _QWEN, plain=_THOUGHT),
    "Qwen3-0.6B-Base": Family(_QWEN_IDS, "<|endoftext|>", [151643], _QWEN, plain=_THOUGHT),
    "Llama-3.1-8B-Instruct": Family(_LLAMA_IDS, "<|eot_id|>", [128001, 128008, 128009], _LLAMA, "<|begin_of_text|>"),
    "Llama-3.2-1B-Instruct": Family(_LLAMA_IDS, "<|eot_id|>", [128001, 128008, 128009], _LLAMA, "<|begin_of_text|>"),
    "gemma-2-2b-it": Family(
        {"<eos>": 1, "<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107}, "<eos>", [1, 107], _GEMMA, "<bos>"
    ),
    "gpt-oss-20b": Family(
        {
            **{"<|startoftext|>": 199998, "<|endoftext|>": 199999, "<|return|>": 200002, "<|constrain|>": 200003},
            **{"<|channel|>": 200005, "<|start|>": 200006, "<|end|>": 200007, "<|message|>": 200008},
            "<|call|>": 200012,
        },
        *("<|return|>", [200002, 199999, 200012], _HARMONY),
    ),
}


def family_model(name: str, folder: Path) -> str:
    """The folder of a model of one of FAMILIES; its letters are bytes, and all other ids are filled."""
    of = FAMILIES[name]
    path, own = folder / name, {**of.special, **of.plain}
    made = tokenizer_of(of)
    made.save_pretrained(path)
    config = LlamaConfig(
        **{"vocab_size": _size(own), "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096},
        tie_word_embeddings=True,
        eos_token_id=of.ends,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = of.ends
    model.save_pretrained(path)
    return str(path)


def _size(ids: dict[str, int]) -> int:
    return max(400, 1 + max(ids.values()))


def tokenizer_of(of: Family) -> Any:
    """A byte-level tokenizer with the special tokens of a family at their real ids."""
    own = {**of.special, **of.plain}
    names = {number: token for token, number in own.items()}
    letters = iter(sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {names.get(number) or next(letters, f"unused{number}"): number for number in range(_size(own))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in of.special])
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in of.plain])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=of.eos, bos_token=of.bos)
    tokenizer.chat_template = of.template
    return tokenizer
