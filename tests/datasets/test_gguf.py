"""A student as GGUF with a Modelfile: Ollama's template says what the tokenizer's does, llama.cpp what the model."""

import re
from pathlib import Path
from typing import Any

import pytest

from cohobate.core.errors import ExportError
from cohobate.datasets.export import gguf
from cohobate.models.loading import model_path
from tests.support.llama_runs import llama, needs_llama
from tests.support.students import student
from tests.support.tokenizers import prepend
from tests.support.wire_server import unused_port

PLAIN = {"prompt": "{question}"}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def ollama(template: str, prompt: str, system: str = "", response: str = "") -> str:
    """What Ollama makes of the template: Go's, of which these use a condition and three values.

    Where the response is still to come, it takes the template up to there.
    """
    parts = re.fullmatch(r"(?:\{\{ if \.System \}\}(.*?)\{\{ else \}\}(.*?)\{\{ end \}\})?(.*)", template, re.DOTALL)
    assert parts is not None
    text = ((parts[1] if system else parts[2]) or "") + parts[3]
    if not response:
        text = text.partition("{{ .Response }}")[0]
    for name, value in (("System", system), ("Prompt", prompt), ("Response", response)):
        text = text.replace(f"{{{{ .{name} }}}}", value)
    return text


def tokenizer(template: str) -> Any:
    made = prepend(["<|im_start|>", "<|im_end|>"])
    made.chat_template = template
    return made


@pytest.mark.parametrize("prompt", ["{question}", "Answer briefly: {question} Think first."])
def test_ollamas_template_is_the_models_own(prompt: str) -> None:
    made = tokenizer(CHATML)
    template = gguf.go_template(made, {"prompt": prompt})
    assert template is not None
    for question in ("What is 3 + 4?", "two\nlines"):
        asked = [{"role": "user", "content": prompt.replace("{question}", question)}]
        for system in ([], [{"role": "system", "content": "Be kind."}]):
            own = made.apply_chat_template([*system, *asked], tokenize=False, add_generation_prompt=True)
            said = ollama(template, question, "Be kind." if system else "")
            assert said == own
        whole = [*asked, {"role": "assistant", "content": "7"}]
        assert ollama(template, question, response="7") == made.apply_chat_template(whole, tokenize=False)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ '{{' + m.content }}{% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_ollama_cannot_say_is_left_to_the_file(template: str) -> None:
    assert gguf.go_template(tokenizer(template), PLAIN) is None


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = student(tmp_path / "data", model_path("world/base"))
    monkeypatch.setenv(gguf.LLAMA_CPP, str(tmp_path / "nowhere"))
    for folder, kind, sentence in (
        (tmp_path / "out", "f16", "run `make llama` in the repository, or set COHOBATE_LLAMA_CPP"),
        (tmp_path / "out", "q3", "choose one of f32, f16, bf16, q8_0"),
    ):
        with pytest.raises(ExportError, match=sentence):
            gguf.write_gguf(artifact, "made", folder, kind)
        assert not folder.exists()


@pytest.mark.serves
def test_a_model_that_the_converter_refuses_is_refused_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = student(tmp_path / "data", model_path("world/base"))
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise NotImplementedError('BPE pre-tokenizer was not recognized')")
    monkeypatch.setenv(gguf.LLAMA_CPP, str(tmp_path))
    with pytest.raises(ExportError, match=r"refuses the model in .*: NotImplementedError: BPE pre-tokenizer"):
        gguf.write_gguf(artifact, "made", tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()


def has_converter() -> bool:
    try:
        return gguf.converter().is_file()
    except ExportError:
        return False


@pytest.fixture
def small_llama(tmp_path: Path) -> Path:
    """A Llama of two layers, with a tokenizer of Llama 2's kind, which llama.cpp knows by its form."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tokenizer(CHATML)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 256}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    config = LlamaConfig(vocab_size=len(made), bos_token_id=1, eos_token_id=2, **sizes, **heads)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def greedy(model: Any, ids: list[int], count: int = 24) -> list[int]:
    import torch

    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    return [int(each) for each in out[0, len(ids) :]]


@pytest.mark.llama
@pytest.mark.skipif(not has_converter(), reason="llama.cpp's converter is not here; `make llama` puts it there")
def test_what_the_converter_wrote_is_the_model(tmp_path: Path, small_llama: Path) -> None:
    """By transformers' own reader of GGUF, which is none of llama.cpp's code."""
    from transformers import AutoModelForCausalLM

    artifact = student(tmp_path / "data", small_llama)
    written = gguf.write_gguf(artifact, "made", tmp_path / "out", "f32")
    assert {path.name for path in written.folder.iterdir()} == {gguf.WEIGHTS, gguf.MODELFILE, "README.md"}
    own = AutoModelForCausalLM.from_pretrained(small_llama)
    read = AutoModelForCausalLM.from_pretrained(written.folder, gguf_file=gguf.WEIGHTS)
    for ids in ([1, 262, 270], [1, *range(280, 300)]):
        assert greedy(own, ids) == greedy(read, ids)
    lines = (written.folder / gguf.MODELFILE).read_text()
    assert "FROM ./model.gguf" in lines and "num_ctx 256" in lines and "<|im_start|>assistant" in lines


@pytest.mark.parametrize("case", [pytest.param("", marks=needs_llama)])
@pytest.mark.skipif(not has_converter(), reason="llama.cpp's converter is not here; `make llama` puts it there")
def test_llama_cpp_answers_letter_for_letter(tmp_path: Path, small_llama: Path, case: str) -> None:
    import httpx2
    from transformers import AutoModelForCausalLM, AutoTokenizer

    written = gguf.write_gguf(student(tmp_path / "data", small_llama), "made", tmp_path / "out", "f32")
    own, words = AutoModelForCausalLM.from_pretrained(small_llama), AutoTokenizer.from_pretrained(small_llama)
    port = unused_port()
    with llama(written.folder / gguf.WEIGHTS, port, tmp_path / "log"):
        for question in ("What is 3 + 4?", "it is 7"):
            body = {"prompt": question, "temperature": 0.0, "max_tokens": 24}
            reply = httpx2.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60).json()
            ids = [1, *words(question, add_special_tokens=False)["input_ids"]]
            expected = words.decode(greedy(own, ids), skip_special_tokens=True)
            assert reply["choices"][0]["text"].strip() == expected.strip() and expected.strip()
