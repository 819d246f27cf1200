"""On-policy updates are those of the policy that sampled: without dropout, also where activations are recomputed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cohobate.config import Opd, Sft, Training
from cohobate.models.batching import batches
from cohobate.models.loading import LoadedModel
from cohobate.models.logprobs import score
from cohobate.models.token_loss import Terms, Tokens
from cohobate.training.trainee import Trainee
from tests.support.families import SIZE, random_rows

ROWS = random_rows([(4, 9), (7, 5)])
# By functions of attention and of the block, by modules, and by a function of the layer itself.
DROPPING: dict[str, dict[str, Any]] = {
    "seed_oss": {"attention_dropout": 0.3, "residual_dropout": 0.3, "head_dim": 12},
    "phi": {"resid_pdrop": 0.3, "embd_pdrop": 0.3},
    "opt": {"dropout": 0.3, "ffn_dim": 64, "word_embed_proj_dim": 48},
}


def trainee(name: str, config: Training) -> Trainee:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SIZE, **DROPPING[name]})).eval()
    return Trainee(LoadedModel(model, None, Path(), (2,)), config, "base")


def update_logprobs(one: Trainee) -> torch.Tensor:
    """Log-probabilities of the response tokens of ROWS as an update sees them, with a gradient."""
    learner = one.begin_update()
    parts: dict[int, torch.Tensor] = {}
    for batch in batches(ROWS, 1000, 0, "cpu"):

        def keep(logits: torch.Tensor, tokens: Tokens) -> Terms:
            return {
                "loss": -(logprobs := logits.log_softmax(-1).gather(-1, tokens.ids[:, None])[:, 0]).sum(),
                "all": logprobs,
            }

        terms = learner(batch, keep)
        terms["loss"].backward()
        pieces = terms["all"].detach().split([len(ROWS[i].response) for i in batch.order])
        parts.update(zip(batch.order, pieces, strict=True))
    return torch.cat([parts[i] for i in range(len(ROWS))])


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", DROPPING)
def test_on_policy_updates_see_what_was_sampled(name: str, recompute: bool) -> None:
    one = trainee(name, Opd(activation_checkpointing=recompute))
    expected = torch.cat([item.logprobs for item in score(one.student.model, ROWS, 1000, 0)])
    torch.testing.assert_close(update_logprobs(one), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DROPPING)
def test_sft_has_the_dropout_of_the_config(name: str) -> None:
    one = trainee(name, Sft())
    expected = torch.cat([item.logprobs for item in score(one.student.model, ROWS, 1000, 0)])
    assert float((update_logprobs(one) - expected).abs().max()) > 0.05


@pytest.mark.parametrize("name", DROPPING)
def test_activations_are_recomputed_in_on_policy_updates(name: str) -> None:
    """Each layer runs twice: once forward, once for its gradient."""
    counts = []
    for recompute in (False, True):
        one = trainee(name, Opd(activation_checkpointing=recompute))
        norm = next(m for n, m in one.student.model.get_decoder().layers[0].named_modules() if "norm" in n)
        calls: list[int] = []
        norm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        update_logprobs(one)
        counts.append(len(calls))
    assert counts == [1, 2]
