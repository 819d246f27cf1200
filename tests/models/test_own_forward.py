"""The guard of families that nobody has heard of: models that do something else are refused, in one sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cohobate.core.errors import ModelError
from cohobate.models.loading import LoadedModel
from cohobate.models.own_forward import greedy_job, greedy_rows, require_agreement, require_own_logits
from cohobate.models.sampling.decoding import Sampled, SamplingJob


def _changed_for_one_row(model: Any) -> None:
    """Something that the length of the longest row of a batch changes, as some rotary embeddings do."""

    def longest(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output * (1 + 0.01 * output.shape[1])

    model.model.embed_tokens.register_forward_hook(longest)


def _changed_in_the_cache(model: Any) -> None:
    def with_cache(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if kwargs.get("past_key_values") is not None:
            output.last_hidden_state.mul_(1.1)

    model.model.register_forward_hook(with_cache, with_kwargs=True)


def _nothing(model: Any) -> None:
    pass


def _nan(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.weight[0, 3] = float("nan")


def _infinite(model: Any) -> None:
    model.lm_head.weight[7, 1] = float("inf")


def _overflow(model: Any) -> None:
    model.model.norm.weight.fill_(3e38)


@torch.no_grad()
def altered(teacher: LoadedModel, change: Callable[[Any], None]) -> LoadedModel:
    import copy
    import dataclasses

    model = copy.deepcopy(teacher.model)
    change(model)
    return dataclasses.replace(teacher, model=model)


def test_a_model_that_is_computed_rightly_passes(teacher: LoadedModel) -> None:
    sentence = require_own_logits(altered(teacher, _nothing), "teacher", 1000, samples=True)
    assert sentence.endswith(" for the teacher")
    assert float(sentence.split()[0]) < 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_changed_for_one_row, "differ from those of its own forward pass by"),
        (_nan, r"weights hold numbers that are not finite .*layers.1.mlp.up_proj"),
        (_infinite, r"weights hold numbers that are not finite .*(lm_head|embed_tokens)"),
        (_overflow, "not numbers"),
    ],
)
def test_a_model_that_is_not_is_refused(teacher: LoadedModel, change: Callable[[Any], None], words: str) -> None:
    with pytest.raises(ModelError, match=words) as refusal:
        require_own_logits(altered(teacher, change), "student", 1000, samples=True)
    assert str(refusal.value).startswith("the student")
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_model_that_its_own_cache_changes_is_sampled_without_one(teacher: LoadedModel) -> None:
    sentence = require_own_logits(altered(teacher, _changed_in_the_cache), "teacher", 1000, samples=True)
    assert "a pass over the whole row for each token, which is slow" in sentence


def _drawn(model: LoadedModel, job: SamplingJob) -> list[Sampled]:
    """The greedy responses of transformers' own generation."""
    drawn = []
    for prompt in job.prompts:
        output = model.model.generate(
            torch.tensor([list(prompt)]),
            max_new_tokens=job.decoding.max_tokens,
            do_sample=False,
            eos_token_id=[],
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = output.sequences[0, len(prompt) :]
        logprobs = torch.stack(output.logits, 1)[0].log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        drawn.append(Sampled(ids.tolist(), logprobs.tolist(), "length"))
    return drawn


def test_another_program_with_the_same_weights_agrees_and_with_others_is_refused(teacher: LoadedModel) -> None:
    rows = greedy_rows(teacher)
    job = greedy_job(rows)
    assert require_agreement(rows, _drawn(teacher, job), "student", half=False) < 1e-4

    def scaled(model: Any) -> None:
        model.lm_head.weight.mul_(1.01)  # no token changes, only how likely it is

    other = _drawn(altered(teacher, scaled), job)
    assert [row.response_ids for row in other] == [row.ids for row in rows]
    with pytest.raises(ModelError, match=r"^vLLM's log-probabilities differ from those of the student's own .* nats"):
        require_agreement(rows, other, "student", half=False)
    assert 1e-3 < require_agreement(rows, other, "student", half=True) < 0.1


def test_behind_a_token_that_differs_nothing_is_compared(teacher: LoadedModel) -> None:
    rows = greedy_rows(teacher)
    drawn = _drawn(teacher, greedy_job(rows))
    first = drawn[0]
    tie = Sampled([first.response_ids[0] + 1, *first.response_ids[1:]], [first.logprobs[0], *[-9.0] * 5], "length")
    assert require_agreement(rows, [tie, *drawn[1:]], "student", half=False) < 1e-4
    unlikely = Sampled(tie.response_ids, [first.logprobs[0] - 0.5, *first.logprobs[1:]], "length")
    with pytest.raises(ModelError):
        require_agreement(rows, [unlikely, *drawn[1:]], "student", half=False)
