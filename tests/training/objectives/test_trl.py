"""The losses of TRL's own functions and trainers, on the same tensors, with the same gradients."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cohobate.core.shipped import shipped_path
from cohobate.models.token_loss import Terms, TokenLoss, Tokens, evaluate_in_chunks
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.objectives.distributions import FullVocabulary
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.gkd import GeneralisedJSD
from cohobate.training.objectives.grpo import GroupRelative, length_weights
from cohobate.training.objectives.logit_kd import LogitDistillation
from tests.support.tree import close, logits_of

pytestmark = pytest.mark.slow

FULL = FullVocabulary(lambda hidden: hidden)
STUDENT, TEACHER = logits_of(2, 6, 13, seed=1, scale=2).float(), logits_of(2, 6, 13, seed=2, scale=2).float()
# 9 of 12 positions belong to a response.
MASK = torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]).bool()
LABELS = torch.where(MASK, 1, -100)


def backward(loss: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    [found] = torch.autograd.grad(loss, [leaf])
    return found


# GKD and logit distillation: TRL's static function.


def gkd(beta: float, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    from trl.experimental.gkd import GKDTrainer

    leaf = STUDENT.clone().requires_grad_()
    loss = GKDTrainer.generalized_jsd_loss(leaf, TEACHER, LABELS, beta, temperature)
    return loss.detach(), backward(loss, leaf)


def ours(objective: TokenLoss) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = STUDENT.clone().requires_grad_()
    loss = objective(leaf[MASK], Tokens(torch.zeros(9, dtype=torch.long), teacher_hidden=TEACHER[MASK]))["loss"] / 9
    return loss.detach(), backward(loss, leaf)


@pytest.mark.parametrize(
    ("beta", "factor"), [(0.0, 1.0), (1.0, 1.0), (0.5, 1 / 4), (0.1, 0.09), (0.9, 0.09)], ids=lambda x: f"{x:g}"
)
def test_the_divergence_of_gkd_is_theirs_divided_by_beta_times_one_minus_beta(beta: float, factor: float) -> None:
    for found, theirs in zip(ours(GeneralisedJSD(FULL, beta)), gkd(beta, 1.0), strict=True):
        close(factor * found, theirs, 2e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logit_distillation_is_the_square_of_the_temperature_times_their_forward_kl(temperature: float) -> None:
    for found, theirs in zip(ours(LogitDistillation(FULL, temperature)), gkd(0.0, temperature), strict=True):
        close(found / temperature**2, theirs, 2e-6)


@pytest.mark.parametrize("elements", [10**6, 3 * 13])
def test_exact_reverse_kl_is_the_chunked_loss_of_their_distillation_trainer(elements: int) -> None:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    hidden, theirs = logits_of(2, 6, 8, seed=3).float(), logits_of(2, 6, 5, seed=4).float()
    heads = [torch.nn.Linear(width, 13, bias=False).requires_grad_(False) for width in (8, 5)]
    leaf = hidden.clone().requires_grad_()
    expected, entropy, count = _chunked_divergence_loss(
        leaf, theirs, heads[0].weight, heads[1].weight, MASK, beta=1.0, num_items_in_batch=9
    )
    expected_gradient = backward(expected, leaf)

    leaf = hidden.clone().requires_grad_()
    tokens = Tokens(torch.zeros(9, dtype=torch.long), torch.zeros(9), teacher_hidden=theirs[MASK])
    terms = evaluate_in_chunks(ExactReverseKL(heads[1]), heads[0], leaf[MASK], tokens, 13, elements)
    assert count == 9
    close(terms["loss"] / 9, expected)
    close(terms["entropy"], entropy)
    close(backward(terms["loss"] / 9, leaf), expected_gradient)


# SFT and GRPO: their trainers on the shipped student.


@pytest.fixture(scope="module")
def student() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(shipped_path("world/base")), dtype="float32")


def trainer(of: type[Any], config: type[Any], student: Any, folder: Path, **options: Any) -> Any:
    import datasets
    from transformers import AutoTokenizer

    plain = {"report_to": [], "use_cpu": True, "bf16": False, "activation_checkpointing": False, "disable_tqdm": True}
    arguments = {key: options.pop(key) for key in ("reward_funcs",) if key in options}
    made = of(
        model=student,
        args=config(output_dir=str(folder), **plain, **options),
        train_dataset=datasets.Dataset.from_dict({"prompt": ["What is 2 + 3?"], "completion": [" 5"]}),
        processing_class=AutoTokenizer.from_pretrained(str(shipped_path("world/base"))),
        **arguments,
    )
    made.model.train()
    made.current_gradient_accumulation_steps = 1  # which train() would set
    return made


PROMPTS = torch.tensor([[5, 6, 7], [0, 8, 9]])
PROMPT_MASK = torch.tensor([[1, 1, 1], [0, 1, 1]])
COMPLETIONS = torch.tensor([[11, 12, 13, 14], [21, 22, 0, 0]])
COMPLETION_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
CHOSEN = COMPLETION_MASK.bool()


def parameter_gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def of_each_row(model: Any) -> torch.Tensor:
    """Logits [6, V] of the six response tokens, from the unpadded rows."""
    rows = []
    for i in range(2):
        prompt, response = PROMPTS[i][PROMPT_MASK[i].bool()], COMPLETIONS[i][CHOSEN[i]]
        logits = model(torch.cat([prompt, response])[None]).logits[0]
        rows.append(logits[len(prompt) - 1 : -1])
    return torch.cat(rows)


def same_step(model: Any, terms: Terms, theirs: torch.Tensor) -> None:
    """The mean over the six tokens, and what it does to each parameter."""
    mine = terms["loss"] / 6
    close(mine.detach(), theirs.detach(), 1e-6)
    gradients = zip(parameter_gradients(model, mine), parameter_gradients(model, theirs), strict=True)
    for found, expected in gradients:
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_cross_entropy_is_the_loss_of_their_sft_trainer(student: Any, tmp_path: Path) -> None:
    import trl

    made = trainer(trl.SFTTrainer, trl.SFTConfig, student, tmp_path)
    inputs = {
        "input_ids": torch.cat([PROMPTS, COMPLETIONS], 1),
        "attention_mask": torch.cat([PROMPT_MASK, COMPLETION_MASK], 1),
        "labels": torch.cat([torch.full_like(PROMPTS, -100), COMPLETIONS.masked_fill(~CHOSEN, -100)], 1),
    }
    theirs = made.compute_loss(made.model, inputs)
    same_step(student, cross_entropy(of_each_row(made.model), Tokens(COMPLETIONS[CHOSEN])), theirs)


ADVANTAGES = torch.tensor([1.5, -0.5])
DRIFT = torch.tensor([[0.5, -0.5, 0.1, 0.0], [0.5, -0.5, 0.0, 0.0]])  # log p - log p_old
SAMPLER = torch.tensor([[0.9, -0.2, 0.0, 0.0], [0.3, -0.4, 0.0, 0.0]])  # log p_old - log mu
LENGTHS: dict[str, Any] = {
    "dapo": None,
    "bnpo": None,
    "grpo": length_weights,
    "dr_grpo": partial(length_weights, constant=4),
}


@pytest.mark.parametrize("with_sampler", [False, True], ids=["one engine", "another sampler"])
@pytest.mark.parametrize("loss_type", LENGTHS)
def test_the_clipped_loss_is_that_of_their_grpo_trainer(
    loss_type: str, with_sampler: bool, student: Any, tmp_path: Path
) -> None:
    import trl

    made = trainer(
        trl.GRPOTrainer,
        trl.GRPOConfig,
        student,
        tmp_path,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        loss_type=loss_type,
        epsilon_high=0.28,
        num_generations=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        max_completion_length=4,
        beta=0.0,
    )
    with torch.no_grad():
        own = of_each_row(student).log_softmax(-1).gather(-1, COMPLETIONS[CHOSEN][:, None])[:, 0]
    old = torch.zeros(2, 4).masked_scatter(CHOSEN, own) - DRIFT
    sampler = old - SAMPLER if with_sampler else old
    inputs = {
        "prompt_ids": PROMPTS,
        "prompt_mask": PROMPT_MASK,
        "completion_ids": COMPLETIONS,
        "completion_mask": COMPLETION_MASK,
        "advantages": ADVANTAGES,
        "old_per_token_logps": old,
        "num_items_in_batch": torch.tensor(6),
        "importance_sampling_ratio": (old - sampler).exp().clamp(max=2.0),
    }
    # Their loss multiplies by the ratio when the samples come from vLLM.
    made.use_vllm = with_sampler
    theirs = made._compute_loss(made.model, inputs)

    weights = LENGTHS[loss_type]
    tokens = Tokens(
        COMPLETIONS[CHOSEN],
        sampler[CHOSEN],
        old_logprobs=old[CHOSEN],
        advantages=ADVANTAGES[:, None].expand(2, 4)[CHOSEN],
        weights=None if weights is None else torch.cat(weights([4, 2])),
    )
    terms = GroupRelative()(of_each_row(made.model), tokens)
    assert terms["clipped_high"] == 1
    assert terms["clipped_low"] == 1
    same_step(student, terms, theirs)
