"""The end that is taught and the ends that stop, for the conventions of the families, with their real ids."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cohobate.models.end_of_response import ends_revision, own_end, response_ends, turn_end

_TURN = "{{% for m in messages %}}{start}{{{{ m['role'] }}}}\n{{{{ m['content'] }}}}{end}{{% endfor %}}"
# The ids of special tokens, the tokenizer's end, the generation config's ends, the template's start and end of a turn.
QWEN = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
LLAMA = {"<|end_of_text|>": 128001, "<|start_header_id|>": 128006, "<|eom_id|>": 128008, "<|eot_id|>": 128009}
GEMMA = {"<eos>": 1, "<start_of_turn>": 106, "<end_of_turn>": 107}
MISTRAL = {"<s>": 1, "</s>": 2}


@dataclass(frozen=True)
class Model:
    tokenizer: Any
    eos_ids: tuple[int, ...]


def model(special: dict[str, int], eos: str, ends: tuple[int, ...], start: str = "", end: str = "") -> Model:
    words = {"user": 10, "assistant": 11, "cohobate": 12, "<unk>": 13}
    core = Tokenizer(models.WordLevel({**words, **special}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in special} == special
    tokenizer.chat_template = _TURN.format(start=start, end=end) if end else None
    return Model(tokenizer, ends)


QWEN3_CHAT = model(QWEN, "<|im_end|>", (151645, 151643), "<|im_start|>", "<|im_end|>\n")
QWEN3_BASE = model(QWEN, "<|endoftext|>", (151643,), "<|im_start|>", "<|im_end|>\n")
LLAMA_CHAT = model(LLAMA, "<|eot_id|>", (128001, 128008, 128009), "<|start_header_id|>", "<|eot_id|>")
LLAMA_BASE = model(LLAMA, "<|end_of_text|>", (128001,))
GEMMA_CHAT = model(GEMMA, "<eos>", (1, 107), "<start_of_turn>", "<end_of_turn>\n")
GEMMA_BASE = model(GEMMA, "<eos>", (1,))
MISTRAL_CHAT = model(MISTRAL, "</s>", (2,), "<s>", " </s>")


@pytest.mark.parametrize(
    ("chat", "end"),
    [(QWEN3_CHAT, 151645), (LLAMA_CHAT, 128009), (GEMMA_CHAT, 107), (MISTRAL_CHAT, 2), (LLAMA_BASE, 128001)],
)
def test_a_model_ends_its_responses_as_its_template_does(chat: Model, end: int) -> None:
    assert own_end(chat) == end


def test_a_template_whose_end_does_not_stop_the_model_is_not_its_end() -> None:
    assert turn_end(QWEN3_BASE.tokenizer) == 151645
    assert own_end(QWEN3_BASE) == 151643


@pytest.mark.parametrize(
    ("student", "teacher", "taught", "stops"),
    [
        (QWEN3_BASE, QWEN3_CHAT, 151645, {151643, 151645}),
        (LLAMA_BASE, LLAMA_CHAT, 128009, {128001, 128008, 128009}),
        (GEMMA_BASE, GEMMA_CHAT, 107, {1, 107}),
        (LLAMA_CHAT, LLAMA_CHAT, 128009, {128001, 128008, 128009}),
        (MISTRAL_CHAT, MISTRAL_CHAT, 2, {2}),
        # The teacher's tokens say nothing to a student with others, nor do those of an endpoint.
        (QWEN3_BASE, LLAMA_CHAT, 151645, {151643, 151645}),
        (QWEN3_BASE, None, 151645, {151643, 151645}),
        (LLAMA_BASE, None, 128001, {128001}),
    ],
)
def test_sft_teaches_the_end_of_the_teacher_and_every_end_stops(
    student: Model, teacher: Model | None, taught: int, stops: set[int]
) -> None:
    ends = response_ends(student, teacher, teach=True, chat=True)
    assert (ends.taught, set(ends.stops)) == (taught, stops)
    assert ends.stops[0] == taught


def test_a_student_may_be_left_its_own_end() -> None:
    ends = response_ends(QWEN3_BASE, QWEN3_CHAT, teach=False, chat=True)
    assert (ends.taught, set(ends.stops)) == (151643, {151643, 151645})


def test_a_student_of_plain_text_does_not_learn_the_end_of_a_template() -> None:
    assert response_ends(QWEN3_BASE, None, teach=True, chat=False).taught == 151643


def written(folder: Path, eos: str, ends: list[int] | int, template: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"eos_token_id": ends}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "chat_template": template}))
    return folder


def test_only_pairs_whose_ends_were_chosen_otherwise_are_trained_anew(tmp_path: Path) -> None:
    chatml = written(tmp_path / "chatml", "<|im_end|>", 2, "{{ '<|im_end|>' }}")
    same = written(tmp_path / "same", "<|im_end|>", [2], "{{ eos_token }}")
    base = written(tmp_path / "base", "<|endoftext|>", 0, "{{ '<|im_end|>' }}")
    gemma = written(tmp_path / "gemma", "<eos>", [1, 107], "{{ '<end_of_turn>' }}")
    assert ends_revision(chatml, same) == ends_revision(same, None) == {}
    assert ends_revision(base, chatml) == ends_revision(base, None) == ends_revision(gemma, gemma) == {"ends": 2}
