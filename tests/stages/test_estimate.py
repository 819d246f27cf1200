"""Recipes for real models: their shapes, what they will take, and what can be checked without their weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from cohobate.cli.main import main
from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import ModelError
from cohobate.models.model_cost import cost_of
from cohobate.models.published_configs import names, published_config
from cohobate.stages import preflight
from cohobate.stages.estimate import GPUS, Machine, estimate
from cohobate.stages.estimate_words import sentences
from cohobate.stages.taught import shape

REAL = (
    "qwen3_0.6b_from_8b",
    "qwen3_1.7b_from_32b",
    "qwen3_0.6b_no_think",
    "llama_1b_from_8b",
    "qwen3_0.6b_from_endpoint",
)
pytestmark = pytest.mark.slow
H100 = Machine(*GPUS["h100"])
# As the models' cards state them, in billions.
STATED = {
    "Qwen3-0.6B": 0.596,
    "Qwen3-1.7B": 1.721,
    "Qwen3-4B": 4.022,
    "Qwen3-8B": 8.191,
    "Qwen3-14B": 14.768,
    "Qwen3-32B": 32.762,
    "Qwen3-30B-A3B": 30.532,
    "Qwen3-235B-A22B": 235.094,
    "gpt-oss-20b": 20.915,
    "gpt-oss-120b": 116.829,
    "Llama-3.2-1B": 1.236,
    "Llama-3.2-3B": 3.213,
    "Llama-3.1-8B": 8.030,
    "Llama-3.3-70B": 70.554,
}


def test_the_published_shapes_give_the_stated_numbers_of_weights() -> None:
    assert set(names()) == set(STATED)
    for name, billions in STATED.items():
        config = published_config(f"models/{name}")
        assert config is not None
        assert cost_of(config).params / 1e9 == pytest.approx(billions, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "billions"), [("Qwen3-30B-A3B", 3.3), ("Qwen3-235B-A22B", 22), ("gpt-oss-20b", 3.6), ("gpt-oss-120b", 5.1)]
)
def test_a_mixture_counts_all_experts_in_memory_and_those_of_a_token_in_flops(name: str, billions: float) -> None:
    """As the models' cards state their active parameters; the head is among them, the embedding is not."""
    cost = cost_of(published_config(name))
    assert (cost.linear + cost.head) / 2 / 1e9 == pytest.approx(billions, rel=0.08)


def test_a_name_is_found_with_its_ending_and_an_unknown_one_is_refused() -> None:
    based, plain = published_config("models/Qwen3-0.6B-Base"), published_config("Qwen3-0.6B")
    assert based.to_dict() == plain.to_dict()
    assert published_config("models/Llama-3.2-1B-Instruct") is not None
    assert shape("world/teacher").hidden_size == 192
    with pytest.raises(ModelError, match="is not known"):
        shape("models/Nobody-7B")


def test_flops_are_the_ledgers() -> None:
    recipe = load_recipe("arithmetic")
    lines = {(line.stage, line.work): line for line in estimate(recipe, H100, 40)}
    teacher, student = (cost_of(shape(name)) for name in ("world/teacher", "world/base"))
    assert lines["triples", "generation"].flops == 1500 * teacher.respond([40], [112])
    assert lines["sft", "update"].flops == 3 * 300 * 64 * student.respond([40], [112])
    assert lines["opd", "scoring"].flops == 160 * 128 * teacher.respond([40], [96])
    assert lines["opd", "rollout"].flops == 160 * 128 * student.respond([40], [96])


def test_a_teacher_that_scores_triples_is_a_line_of_sft() -> None:
    recipe = load_recipe("arithmetic", ["sft.objective=logit_kd"])
    [line] = [line for line in estimate(recipe, H100, 40) if (line.stage, line.work) == ("sft", "scoring")]
    assert line.model == "teacher" and line.sequences == 300 * 64
    assert line.flops == 300 * 64 * cost_of(shape("world/teacher")).respond([40], [112])
    assert not [
        line for line in estimate(load_recipe("arithmetic"), H100) if (line.stage, line.work) == ("sft", "scoring")
    ]


def test_a_preference_objective_scores_the_sequences_of_its_steps_once_more() -> None:
    """KTO scores as many again behind other prompts; an update is three passes."""
    for objective, factor in (("dpo", 1), ("kto", 2)):
        lines = estimate(load_recipe("tiny", [f"opd.objective={objective}"]), H100)
        [scoring] = [line for line in lines if line.work == "scoring"]
        [update] = [line for line in lines if (line.stage, line.work) == ("opd", "update")]
        assert scoring.model == "student" and scoring.sequences == factor * update.sequences
        assert scoring.flops == pytest.approx(factor * update.flops / 3)
        assert scoring.memory < update.memory


def test_a_recipe_that_does_not_fit_is_told_what_to_change() -> None:
    recipe = load_recipe("qwen3_0.6b_from_8b", ["triples.max_tokens=256", "opd.max_tokens=256"])
    small, lines = Machine(*GPUS["rtx-4090"]), estimate(recipe, H100)
    said = " ".join(sentences(recipe, lines, small))
    assert "does not fit into 24 GiB" in said and "opd.lora.rank" in said
    assert "fits into 80 GiB" in " ".join(sentences(recipe, lines, H100))
    paid = load_recipe("qwen3_0.6b_from_endpoint", ["sft.steps=0"])
    lines = estimate(paid, H100, questions=1000)
    # 1,000 questions, 2 samples of at most 4,096 tokens, at 2 USD a million
    assert "at most 8,192,000 tokens in 2,000 responses, at most 16.38 USD" in " ".join(sentences(paid, lines, H100))
    batched = load_recipe("qwen3_0.6b_from_endpoint", ["sft.steps=0", "teacher.batch=true"])
    said = " ".join(sentences(batched, estimate(batched, H100, questions=1000), H100))
    assert "at most 8.19 USD for what it writes in batches, at 50% of its price" in said


def test_a_sharded_run_needs_less_on_each_gpu() -> None:
    recipe = load_recipe("tiny")
    shared = load_recipe("tiny", ["runtime={processes=8, shard=true}"])
    [alone], [together] = (
        [line for line in estimate(one, H100) if (line.stage, line.work) == ("sft", "update")]
        for one in (recipe, shared)
    )
    weights = cost_of(shape(recipe.student.model)).params
    # A share of weights, gradients and moments, and beside it the student whole, for rollouts and evaluation.
    spared = weights * (16 - 16 / 8 - 4) / 2**30
    assert together.memory == pytest.approx(alone.memory - spared, rel=0.05)


@pytest.mark.parametrize("name", REAL)
def test_recipes_for_real_models_are_commented_and_estimated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "data" / "recipes" / f"{name}.toml"
    assert path.read_text(encoding="utf-8").startswith("# ")
    with pytest.raises(SystemExit):
        main(["estimate", name, "--gpu", "h200", "--questions", "20000", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert all(line["memory"] < 141 for line in found["lines"]) and "does not fit" not in " ".join(found["said"])


@pytest.mark.parametrize("name", REAL[:3])
def test_preflight_says_in_one_sentence_which_weights_are_missing(name: str, data: Path) -> None:
    failed = [check for check in preflight.check(load_recipe(name), ask=False) if not check.passed]
    assert len(failed) == 1 and "is neither a folder with a config.json" in failed[0].detail


def test_with_a_model_in_its_place_the_recipe_passes_preflight(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's own settings with a small model of the same architecture where the weights would lie."""
    recipe = load_recipe("qwen3_0.6b_from_8b")
    stand_in: dict[str, Any] = {"kind": "local", "model": "world/teacher"}
    changed: Recipe = recipe.model_copy(
        update={
            "teacher": recipe.teacher.model_copy(update=stand_in),
            "student": recipe.student.model_copy(update={"model": "world/base"}),
            "triples": recipe.triples.model_copy(update={"max_tokens": 256}),
            "opd": recipe.opd.model_copy(update={"max_tokens": 256}),
            "evaluation": recipe.evaluation.model_copy(update={"max_tokens": 256}),
        }
    )
    checks = preflight.check(changed, ask=False)
    assert all(check.passed for check in checks), [check.detail for check in checks if not check.passed]
    assert {"tokenizers", "self-distillation", "template", "lengths"} <= {check.name for check in checks}


def test_an_engine_that_samples_takes_its_share_from_the_trainer_unless_it_sleeps() -> None:
    def update(*settings: str) -> float:
        lines = estimate(load_recipe("tiny", list(settings)), H100)
        [line] = [line for line in lines if (line.stage, line.work) == ("opd", "update")]
        return line.memory

    alone, awake = update(), update("opd.sampler=vllm", "opd.vllm.gpu_memory=0.3")
    assert awake - alone == pytest.approx(0.3 * 80)
    assert update("opd.sampler=vllm", "opd.vllm.sleep=true") == pytest.approx(alone)
    both = update("opd.sampler=vllm", "evaluation.sampler=vllm", "opd.vllm.gpu_memory=0.3")
    assert both == pytest.approx(awake)  # one engine does both


def test_an_engine_that_evaluates_takes_the_share_of_the_section_that_has_its_settings() -> None:
    settings = ["evaluation.sampler=vllm", "opd.vllm.gpu_memory=0.3", "teacher.gpu_memory=0.8"]
    lines = estimate(load_recipe("tiny", settings), H100)
    evaluated = {(line.stage, line.model): line.memory for line in lines if line.work == "evaluation"}
    assert evaluated["evaluation", "student"] == pytest.approx(0.3 * 80)
    assert evaluated["evaluation", "teacher"] == pytest.approx(0.8 * 80)
    assert 0.3 * 80 < evaluated["sft", "student"] < 0.31 * 80  # beside it the student, and nothing of its sampling
    assert 0.3 * 80 < evaluated["opd", "student"] < 0.31 * 80
