"""Engines that are to sample later: each model is computed right, or refused before the triples are paid."""

import json
from pathlib import Path

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError, UserError
from cohobate.stages import questions, triples
from cohobate.stages.preflight import models, require_student
from cohobate.stages.preflight.scope import Scope
from cohobate.store.artifacts import Store
from tests.support import zoo
from tests.support.preflight import failed
from tests.support.vllm_runs import engines, with_vllm

# The kernels of vLLM for processors take heads of 32 numbers and more.
_WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}


def test_without_vllm_its_sampling_is_refused_before_the_triples_are_paid(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHOBATE_VLLM", str(data))
    recipe = load_recipe("tiny", ["runtime.threads=1", "evaluation.sampler=vllm"])
    found = failed(recipe)
    assert list(found) == ["vllm"] and "no bin/python with vLLM in it" in found["vllm"]
    asked = questions.write(recipe)
    with pytest.raises(UserError, match=r"no bin/python with vLLM.*\(preflight: teacher in vllm\)"):
        triples.write_for_student(recipe, asked)
    assert [artifact.stage for artifact in Store().all()] == ["questions"]


@pytest.mark.parametrize(
    ("settings", "by_vllm", "teacher", "here"),
    [
        ([], False, False, {"student", "teacher"}),
        (["opd.sampler=vllm"], True, False, {"student", "teacher"}),
        (["evaluation.sampler=vllm"], True, True, {"student", "teacher"}),
        (["evaluation.sampler=vllm", "opd.sampler=vllm"], True, True, {"teacher"}),
        (["evaluation.sampler=vllm", "opd.steps=0", "opd.warmup=0"], True, True, {"teacher"}),
        (["evaluation.sampler=vllm", "opd.sampler=vllm", "teacher.kind=vllm"], True, False, set()),
        (["opd.sampler=vllm", "opd.steps=0", "opd.warmup=0"], False, False, {"student", "teacher"}),
    ],
)
def test_who_samples_which_model(settings: list[str], by_vllm: bool, teacher: bool, here: set[str]) -> None:
    scope = Scope(load_recipe("tiny", settings), ("teacher", "student"), ask=False)
    assert scope.samples_with_vllm() is by_vllm
    assert scope.evaluates_teacher_with_vllm() is teacher
    assert {role for role in ("teacher", "student") if scope.samples_here(role)} == here


def test_a_response_that_the_engine_has_no_room_for_is_refused() -> None:
    settings = ["evaluation.sampler=vllm", "opd.steps=0", "opd.warmup=0", "opd.vllm.max_length=48"]
    scope = Scope(load_recipe("tiny", settings), (), ask=False)
    with pytest.raises(CohobateError, match=r"evaluation\.max_tokens is 48, but opd\.vllm\.max_length only 48"):
        models.lengths(scope)


def _write(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # What LFM2's own checkpoints say beside what transformers writes.
    block = {"block_dim": 128, "block_ff_dim": 256, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0}
    own = {**block, "block_auto_adjust_ff_dim": False, "conv_dim": 128} if family == "lfm2" else {}
    monkeypatch.setitem(zoo.CHANGES, family, {**zoo.CHANGES[family], **_WIDE, **own})
    return zoo.write(family, folder)


@pytest.mark.parametrize("family", ["lfm2", pytest.param("qwen3_5_text", marks=pytest.mark.long), "rwkv"])
@with_vllm
def test_a_model_is_computed_right_or_refused_in_a_sentence(
    family: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hybrids that this vLLM knows, and a model that it does not know. 0.32 for processors computes LFM2 wrong."""
    folder = _write(family, tmp_path / family, monkeypatch)
    own = ["runtime.threads=1", "evaluation.sampler=vllm", "opd.steps=0", "opd.warmup=0"]
    recipe = load_recipe("tiny", [*own, f"student.model={json.dumps(str(folder))}"])
    try:
        require_student(recipe)
    except UserError as error:
        assert "\n" not in str(error) and str(error).endswith("(preflight: student in vllm)")
        assert family == "rwkv" or "vLLM" in str(error)
    else:
        assert family != "rwkv"
    assert not engines(data)
