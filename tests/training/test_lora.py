"""LoRA against peft, bfloat16 and activation checkpointing against plain training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from cohobate.config import Lora, Training
from cohobate.config.load import load_recipe
from cohobate.core.errors import UserError
from cohobate.core.progress import Bar
from cohobate.core.shipped import shipped_path
from cohobate.models.chat_template import PromptFormat
from cohobate.models.decoder.adapted import weight_of
from cohobate.models.decoder.decoder import Decoder
from cohobate.models.loading import LoadedModel, load
from cohobate.models.own_forward import greedy_rows
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.models.sequence import TrainingSequence
from cohobate.training import trainee as trainee_module
from cohobate.training.loop import Run
from cohobate.training.lora import full_weights
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.trainee import Trainee
from cohobate.training.triple_source import training_rows
from cohobate.training.types import RunState
from tests.support.training_runs import TRIPLES, Given, taken_gradients

pytestmark = pytest.mark.trains

LORA = Lora(rank=4, alpha=8)


def base() -> LoadedModel:
    return load("world/base", device="cpu", train=True)


def rows(student: LoadedModel) -> list[TrainingSequence]:
    return training_rows(student.tokenizer, TRIPLES, PromptFormat())


def train(trainee: Trainee, folder: Path) -> RunState:
    folder.mkdir(exist_ok=True)
    bar = Bar("sft", trainee.config.steps, "steps")
    source = Given(rows(trainee.student))
    return Run(trainee, source, cross_entropy, folder, "sft", lambda *_: None, bar).train()


def trainee(student: LoadedModel | None = None, **changes: Any) -> Trainee:
    return Trainee(student or base(), Training(**{"steps": 8, "warmup": 0, "lr": 1e-2, **changes}), "somebody/base")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 40)[None]).logits
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ and adapter/ of a student trained with LoRA."""
    root = tmp_path_factory.mktemp("lora")
    adapted = trainee(lora=LORA)
    train(adapted, root / "run")
    adapted.publish(root)
    return root


def test_only_the_adapters_learn_and_all_of_them_move(tmp_path: Path) -> None:
    adapted = trainee(lora=LORA)
    before = {name: p.detach().clone() for name, p in adapted.student.model.named_parameters()}
    train(adapted, tmp_path / "run")
    for name, parameter in adapted.student.model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name
    assert sum("lora_" in name for name in before) == 2 * 7 * adapted.student.model.config.num_hidden_layers


def test_peft_loads_the_adapter_onto_the_base_and_gets_the_merged_model(published: Path) -> None:
    import peft

    merged = AutoModelForCausalLM.from_pretrained(published / "model")
    shipped = shipped_path("world/base")
    assert shipped is not None
    plain = AutoModelForCausalLM.from_pretrained(shipped, dtype=torch.float32)
    untouched = logits(plain)
    adapted = peft.PeftModel.from_pretrained(plain, str(published / "adapter"))
    torch.testing.assert_close(logits(adapted), logits(merged), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - untouched).abs().max() > 0.1


def test_the_adapter_names_its_base_as_the_recipe_does_and_no_path(published: Path) -> None:
    told = json.loads((published / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "somebody/base" and told["r"] == 4
    assert not list(published.rglob("*.md"))


def test_the_merged_model_carries_no_trace_of_peft(published: Path) -> None:
    expected = {name for name, _ in base().model.named_parameters()}
    assert {name for name, _ in load(published / "model").model.named_parameters()} == expected


def test_a_target_that_the_student_lacks_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"LoRA does not fit the student: Target modules .*no_such_layer"):
        trainee(lora=Lora(targets=("no_such_layer",)))


def test_the_same_seed_gives_the_same_adapter_and_another_another(tmp_path: Path) -> None:
    def learnt(seed: int, name: str) -> torch.Tensor:
        adapted = trainee(lora=LORA, seed=seed)
        train(adapted, tmp_path / name)
        return torch.cat([p.detach().flatten() for p in adapted.trainable().values()])

    first, again, other = learnt(0, "a"), learnt(0, "b"), learnt(1, "c")
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_snapshot_with_lora_holds_the_adapters_alone_and_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, killed = trainee(lora=LORA, snapshot_every=3), trainee(lora=LORA, snapshot_every=3)
    train(whole, tmp_path / "a")
    (tmp_path / "b").mkdir()
    source = Given(rows(killed.student), before=lambda step: exec("raise KeyboardInterrupt") if step == 5 else None)
    run = Run(killed, source, cross_entropy, tmp_path / "b", "sft", lambda *_: None, Bar("sft", 8, "steps"))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    [state] = (tmp_path / "b").rglob("state.pt")
    assert all("lora_" in name for name in torch.load(state)["model"])
    again = trainee(lora=LORA, snapshot_every=3)
    train(again, tmp_path / "b")
    for name, parameter in again.trainable().items():
        assert torch.equal(parameter, whole.trainable()[name]), name


def gradients(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    ready = trainee(steps=1, **changes)
    with taken_gradients(ready.student) as found:
        train(ready, folder)
    return found


def test_checkpointed_activations_change_no_gradient(tmp_path: Path) -> None:
    plain = gradients(tmp_path / "a")
    checkpointed = gradients(tmp_path / "b", activation_checkpointing=True)
    assert plain.keys() == checkpointed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-5, atol=1e-7)


def test_bfloat16_products_over_float32_weights_give_nearly_the_same_gradient(tmp_path: Path) -> None:
    plain, half = gradients(tmp_path / "a"), gradients(tmp_path / "b", precision="bfloat16")
    a, b = (torch.cat([g.flatten() for g in found.values()]) for found in (plain, half))
    assert a.dtype == b.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.99
    assert not torch.allclose(a, b, rtol=1e-3, atol=0)  # it did compute in another precision


def test_the_full_weights_are_those_of_the_merged_model_by_its_names() -> None:
    student = load("world/base", train=True)
    names = {name for name, _ in student.model.named_parameters()}
    trainee = Trainee(student, load_recipe("tiny", ["opd.lora.rank=4"]).opd, "base")
    with torch.no_grad():
        for parameter in trainee.trainable().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    found = full_weights(student.model, torch.float32)
    merged = dict(trainee.peft.merge_and_unload().named_parameters())
    assert found.keys() == merged.keys() == names
    assert all(torch.allclose(found[name], merged[name], atol=1e-6) for name in names)
    assert all(value.dtype == torch.bfloat16 for value in full_weights(student.model, torch.bfloat16).values())


def with_large_adapters(**changes: Any) -> Trainee:
    adapted = trainee(lora=LORA.model_copy(update=changes))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.student.model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.1)
    return adapted


def test_rollouts_have_the_log_probabilities_of_the_model_with_its_adapters_apart() -> None:
    """Sampled by the program's own decoder with merged weights, scored by transformers' forward with peft's layers."""
    student = with_large_adapters().student
    prompts = [[5, 6, 7], [8, 9, 10, 11]]
    plain = sample(base().model, prompts, Decoding(8), uniforms(0, ["a", "b"], 8), eos_ids=(), pad_id=0, batch_size=2)
    rolled = sample(student.model, prompts, Decoding(8), uniforms(0, ["a", "b"], 8), eos_ids=(), pad_id=0, batch_size=2)
    assert [row.response_ids for row in rolled] != [row.response_ids for row in plain]
    for prompt, row in zip(prompts, rolled, strict=True):
        with torch.no_grad():
            all_logits = student.model(input_ids=torch.tensor([[*prompt, *row.response_ids]])).logits[0]
        own = all_logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, torch.tensor(row.response_ids)[:, None])
        assert torch.allclose(torch.tensor(row.logprobs), own[:, 0], atol=1e-5)


def test_adapters_are_merged_only_where_nothing_learns_from_the_pass() -> None:
    adapted = with_large_adapters(dropout=0.1)
    model = adapted.student.model
    assert Decoder.of(model) is None  # with gradients
    with torch.no_grad():
        assert Decoder.of(model.train()) is None  # dropout
        assert Decoder.of(model.eval()) is not None
        [layer] = [m for name, m in model.named_modules() if name.endswith("layers.0.mlp.down_proj")]
        before = layer.base_layer.weight.clone()
        assert not torch.equal(weight_of(layer), before) and torch.equal(layer.base_layer.weight, before)
        with adapted.peft.disable_adapter():
            assert torch.equal(weight_of(layer), before)
        adapted.peft.add_adapter("second", adapted.peft.peft_config["default"])
        adapted.peft.base_model.set_adapter(["default", "second"])
        assert Decoder.of(model) is None


def half_steps(folder: Path, *, held: bool, monkeypatch: pytest.MonkeyPatch) -> Trainee:
    student = base()
    student.model.bfloat16().float()  # as a checkpoint in bfloat16 is loaded to train
    with monkeypatch.context() as patch:
        if not held:
            patch.setattr(trainee_module, "hold_in_half", lambda model: None)
        ready = trainee(student, steps=2, lora=LORA, precision="bfloat16")
    train(ready, folder)
    return ready


def test_frozen_weights_in_bfloat16_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unheld = half_steps(tmp_path / "a" / "run", held=False, monkeypatch=monkeypatch)
    held = half_steps(tmp_path / "b" / "run", held=True, monkeypatch=monkeypatch)
    plain, half = unheld.trainable(), held.trainable()
    assert plain.keys() == half.keys() and len(plain) > 20
    assert all(torch.equal(plain[name], half[name]) for name in plain)
    assert all(float(value.detach().abs().max()) > 0 for value in half.values())
    kinds = {name: p.dtype for name, p in held.student.model.named_parameters()}
    under = {name for name in kinds if name.endswith("base_layer.weight")}
    assert len(under) == 7 * held.student.model.config.num_hidden_layers
    assert all((kind is torch.bfloat16) == (name in under) for name, kind in kinds.items())
    unheld.publish(tmp_path / "a" / "out")
    held.publish(tmp_path / "b" / "out")
    ours, theirs = (load_file(tmp_path / name / "out" / "model" / "model.safetensors") for name in ("b", "a"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_weights_that_bfloat16_would_round_stay_as_they_are() -> None:
    ready = trainee(lora=LORA, precision="bfloat16")  # the shipped file is in float16
    assert all(p.dtype == torch.float32 for p in ready.student.model.parameters())


def test_a_student_is_sampled_outside_of_autocast_as_its_evaluation_points_are() -> None:
    own = base()  # whose tokenizer both have
    phi = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "phi3",
            vocab_size=own.model.config.vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
        )
    )
    for model in (phi, own.model):
        model.bfloat16().float()
        student = LoadedModel(model, own.tokenizer, own.path, own.eos_ids)
        ready = trainee(student, lora=LORA, precision="bfloat16")
        held = any(p.dtype == torch.bfloat16 for p in model.parameters())
        assert held == (model is own.model)
        drawn = uniforms(0, ["a"], 6)
        [row] = sample(model, [[5, 6, 7]], Decoding(6), drawn, eos_ids=(), pad_id=0, batch_size=1)
        assert len(row.response_ids) == 6
        with ready.precision():
            assert greedy_rows(student)


def test_rollouts_have_the_weights_that_are_published() -> None:
    """The sum of weight and adapter in float32, rounded once."""
    adapted = with_large_adapters()
    model = adapted.student.model
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rolled = {name: weight_of(m).bfloat16() for name, m in model.named_modules() if name.endswith("_proj")}
    published = full_weights(model, torch.bfloat16)
    assert len(rolled) > 10
    assert all(torch.equal(weight, published[f"{name}.weight"]) for name, weight in rolled.items())
