"""A student that cannot learn is refused before a triple is paid, whatever is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from cohobate.config.load import load_recipe
from cohobate.core.errors import UserError
from cohobate.stages import questions, triples
from cohobate.stages.preflight import require_student
from cohobate.store.artifacts import Store
from tests.support import zoo
from tests.support.pipeline import SMALL
from tests.support.wire_server import Act, WireServer

_VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def _is_no_language_model(folder: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model("vit", **_VIT)).save_pretrained(folder)


def _brings_its_own_code(folder: Path) -> None:
    """The code would make a file; a terminal is not asked whether to run it."""
    _set(folder, {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.Mine"}})
    (folder / "configuration_mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


def _lacks_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layers.2.mlp" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def _holds_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _has_a_short_context(folder: Path) -> None:
    _set(folder, {"max_position_embeddings": 16})


def _set(folder: Path, change: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))


_FAULTS: list[tuple[Callable[[Path], None], list[str], str]] = [
    (_is_no_language_model, [], r"no language model for a model of type vit.*\(preflight: student loads\)"),
    (_brings_its_own_code, [], "brings code of its own, which is not run"),
    (_lacks_a_layer, [], r"lacks weights that its config asks for: model\.layers\.2\.mlp"),
    (_holds_nan, [], "the student's weights hold numbers that are not finite"),
    (_has_a_short_context, [], "the models' context is 16"),
    (lambda folder: None, ["opd.lora.targets=['embed_tokens']"], "the student's embedding"),
]


@pytest.mark.parametrize(("fault", "settings", "words"), _FAULTS)
def test_a_student_that_cannot_learn_is_refused_before_the_triples(
    data: Path, tmp_path: Path, fault: Callable[[Path], None], settings: list[str], words: str
) -> None:
    folder = zoo.write("gemma" if settings else "llama", tmp_path / "student")
    fault(folder)
    recipe = load_recipe("tiny", [*SMALL, f"student.model={folder}", *settings])
    asked = questions.write(recipe)
    with pytest.raises(UserError, match=words) as refusal:
        triples.write(recipe, asked)
    assert "\n" not in str(refusal.value) and refusal.value.exit_code == 2
    assert [artifact.stage for artifact in Store().all()] == ["questions"]
    assert not (folder / "ran").exists()


@pytest.mark.serves
def test_an_endpoint_is_not_asked_for_a_student_that_cannot_learn(data: Path, tmp_path: Path) -> None:
    folder = zoo.write("llama", tmp_path / "student")
    _lacks_a_layer(folder)
    server = WireServer(lambda body, time: Act())
    with server.running():
        own = [f"student.model={folder}", f"teacher.base_url={server.url}", "opd.steps=0"]
        recipe = load_recipe("tiny", [*SMALL, "teacher.kind=endpoint", "teacher.model=m", *own])
        asked = questions.write(recipe)
        with pytest.raises(UserError, match="lacks weights that its config asks for") as refused:
            triples.write_for_student(recipe, asked)
    assert server.seen == []
    with pytest.raises(UserError) as here:
        require_student(recipe)
    assert str(refused.value) == str(here.value)


def test_a_student_that_is_elsewhere_or_does_not_learn_is_no_reason_to_refuse(data: Path, tmp_path: Path) -> None:
    require_student(load_recipe("tiny", [*SMALL, "student.model=/elsewhere/model"]))
    folder = zoo.write("llama", tmp_path / "student")
    _lacks_a_layer(folder)
    still = [f"student.model={folder}", "sft.steps=0", "opd.steps=0"]
    require_student(load_recipe("tiny", [*SMALL, *still]))


def test_a_student_too_large_for_the_memory_is_refused_by_its_files_alone(data: Path, tmp_path: Path) -> None:
    """It may be trained on another machine, but not if no class reads it."""
    folder = zoo.write("llama", tmp_path / "student")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1 << 42)  # a hole: it takes no disk, and could not be read
    recipe = load_recipe("tiny", [*SMALL, f"student.model={folder}"])
    require_student(recipe)
    _set(folder, {"model_type": "vit"})
    with pytest.raises(UserError, match="no language model for a model of type vit"):
        require_student(recipe)
