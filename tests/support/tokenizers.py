"""Small tokenizers of the field's kinds, made from their parts."""

import json
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_TEXTS = ["[INST] What is 3 + 4? [/INST] It is 7. 3 + 4 = 7", "analysis final assistant user", "isn 't it ?"] * 20


def byte_level(special: list[str], **config: Any) -> Any:
    """Of GPT's kind: Llama 3, Qwen, gpt-oss."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _TEXTS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    )
    return _finished(made, special, **config)


def prepend(special: list[str]) -> Any:
    """Of SentencePiece's older kind (Llama 2, Mistral v1, Phi-3): a space before each text between special tokens."""
    made = _of_words()
    made.pre_tokenizer = None
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _finished(made, special)


def metaspace(special: list[str]) -> Any:
    """Of its newer kind: a space at the beginning of the whole text only."""
    made = _of_words()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _finished(made, special)


def _of_words() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(_TEXTS, trainers.BpeTrainer(vocab_size=340, special_tokens=first, show_progress=False))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def _finished(made: Tokenizer, special: list[str], **config: Any) -> Any:
    content = json.loads(made.to_str())  # bytes are tokens of the model, and no added ones
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    made = Tokenizer.from_str(json.dumps(content))
    own = ["<s>", "</s>", *special]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in own])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", **config)
