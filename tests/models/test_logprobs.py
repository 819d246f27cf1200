"""Scores of given responses against a forward pass of transformers without padding or cache."""

import pytest
import torch

from cohobate.models import logprobs
from cohobate.models.loading import LoadedModel
from cohobate.models.sampling.sampler import Decoding
from cohobate.models.sequence import TrainingSequence
from tests.support.sampling_runs import DECODINGS, QUESTIONS, drawn


@torch.no_grad()
def logprobs_by_transformers(teacher: LoadedModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    """One full forward pass over one sequence, no padding and no cache."""
    logits = teacher.model(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
    before = logits[len(prompt) - 1 : -1].log_softmax(-1)
    chosen: torch.Tensor = before[torch.arange(len(response)), torch.tensor(response)]
    return chosen


@DECODINGS
def test_logprobs_are_those_of_a_fresh_forward_pass_at_temperature_one(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding
) -> None:
    found = drawn(teacher, prompts, decoding, batch_size=4)
    assert len(found) == len(prompts) == len(QUESTIONS)
    rows = [TrainingSequence([*p, *r.response_ids], len(p)) for p, r in zip(prompts, found, strict=True)]
    scores = logprobs.score(teacher.model, rows, 200, teacher.pad_id)
    for prompt, response, score in zip(prompts, found, scores, strict=True):
        expected = logprobs_by_transformers(teacher, prompt, response.response_ids)
        assert response.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        assert score.logprobs.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("budget", [1, 150, 100_000])
def test_hidden_states_of_a_score_give_the_whole_distribution(
    teacher: LoadedModel, prompts: list[list[int]], budget: int
) -> None:
    rows = [TrainingSequence([*prompt, *range(5, 6 + 3 * i)], len(prompt)) for i, prompt in enumerate(prompts)]
    scores = logprobs.score(teacher.model, rows, budget, teacher.pad_id)
    assert len(scores) == len(QUESTIONS)
    for row, score in zip(rows, scores, strict=True):
        with torch.no_grad():
            logits = teacher.model(torch.tensor([row.ids])).logits[0, row.context - 1 : -1]
            found = teacher.model.get_output_embeddings()(score.hidden)
        assert len(found) == len(row.response)
        torch.testing.assert_close(found.log_softmax(-1), logits.log_softmax(-1), rtol=0, atol=1e-4)
