"""The preference losses of TRL's own trainers and functions, on the same tensors, with the same gradients."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cohobate.core.shipped import shipped_path
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Tokens
from cohobate.training.objectives.dpo import DirectPreference
from cohobate.training.objectives.kto import ProspectTheory
from cohobate.training.objectives.preference import Comparison, Judged, mismatched, weigh, weighted_likelihood
from cohobate.training.objectives.simpo import SimplePreference
from tests.support.tree import close, logits_of

pytestmark = pytest.mark.slow

# Two prompts, each with a good response and a bad one.
PROMPTS = [[5, 6, 7], [8, 9]]
GOOD = [[11, 12, 13, 14, 15], [21, 22]]
BAD = [[31, 32, 33], [41, 42, 43, 44]]
JUDGED = [
    Judged(TrainingSequence([*prompt, *response], len(prompt)), good)
    for prompt, *both in zip(PROMPTS, GOOD, BAD, strict=True)
    for response, good in zip(both, (True, False), strict=True)
]
ROWS = [item.sequence for item in JUDGED]
PAIRS_BY_SIDE = [0, 2, 1, 3]  # as TRL's batches have them: the good responses, then the bad ones


@pytest.fixture(scope="module")
def student() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(shipped_path("world/base")), dtype="float32")


def trainer(
    of: type[Any], config: type[Any], student: Any, folder: Path, columns: dict[str, Any], **options: Any
) -> Any:
    import datasets
    from transformers import AutoTokenizer

    plain = {"report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}
    made = of(
        model=student,
        args=config(output_dir=str(folder), per_device_train_batch_size=2, **plain, **options),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(str(shipped_path("world/base"))),
    )
    made.precompute_ref_logps = True  # the batches below bring them
    return made


def padded(rows: list[TrainingSequence], prefix: str = "") -> dict[str, torch.Tensor]:
    width = max(len(row.ids) for row in rows)
    ids, attention, completion = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        attention[i, : len(row.ids)] = 1
        completion[i, row.context : len(row.ids)] = 1
    names = ("input_ids", "attention_mask", "completion_mask")
    return {prefix + name: value for name, value in zip(names, (ids, attention, completion), strict=True)}


def logits(model: Any, row: TrainingSequence) -> torch.Tensor:
    found: torch.Tensor = model(torch.tensor(row.ids)[None]).logits[0][row.context - 1 : -1]
    return found


def logprobs(model: Any, rows: list[TrainingSequence]) -> list[torch.Tensor]:
    with torch.no_grad():
        parts = [logits(model, row).log_softmax(-1) for row in rows]
    return [part.gather(-1, torch.tensor(row.response)[:, None])[:, 0] for part, row in zip(parts, rows, strict=True)]


def reference(rows: list[TrainingSequence], own: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    noise = logits_of(sum(map(len, own)), seed=seed, scale=0.5).float().split([len(row.response) for row in rows])
    return [a + b for a, b in zip(own, noise, strict=True)]


def same_step(
    model: Any, comparison: Comparison, ratios: list[torch.Tensor], divergence: float, theirs: torch.Tensor
) -> None:
    """The loss, and what it does to each parameter."""
    weighed = weigh(comparison, JUDGED, ratios, divergence)
    assert weighed.statistics["loss"] == pytest.approx(float(theirs.detach()), rel=1e-5)
    tokens = Tokens(
        torch.cat([torch.tensor(row.response) for row in ROWS]),
        weights=torch.cat([row.features["weights"] for row in weighed.rows]),
    )
    mine = weighted_likelihood(torch.cat([logits(model, row) for row in ROWS]), tokens)["loss"] / len(tokens.ids)
    parameters = list(model.parameters())
    gradients = (torch.autograd.grad(loss, parameters) for loss in (mine, theirs))
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()


def summed(values: list[torch.Tensor], excess: float) -> torch.Tensor:
    """The log-probability of each response, with the weight `excess` on what is beyond the other of its pair."""
    shared = [min(len(values[at]), len(values[at ^ 1])) for at in range(4)]
    return torch.stack([v[:n].sum() + excess * v[n:].sum() for v, n in zip(values, shared, strict=True)])


@pytest.mark.parametrize(
    ("comparison", "options"),
    [
        (DirectPreference(0.3), {"beta": 0.3}),
        (DirectPreference(3.0, by_length=True), {"beta": 3.0, "loss_type": ["sigmoid_norm"]}),
        (DirectPreference(0.3, excess=0.25), {"beta": 0.3, "ld_alpha": 0.25}),
    ],
    ids=["dpo", "by length", "less excess"],
)
def test_dpo_is_the_loss_of_their_trainer(
    comparison: DirectPreference, options: dict[str, Any], student: Any, tmp_path: Path
) -> None:
    import trl

    columns = {"prompt": ["What is 2 + 3?"], "chosen": [" 5"], "rejected": [" 6"]}
    made = trainer(trl.DPOTrainer, trl.DPOConfig, student, tmp_path, columns, **options)
    own = logprobs(student, ROWS)
    start = reference(ROWS, own, seed=1)
    sums = summed(start, comparison.excess)[PAIRS_BY_SIDE]
    inputs = {
        **padded([ROWS[at] for at in PAIRS_BY_SIDE]),
        "ref_chosen_logps": sums[:2],
        "ref_rejected_logps": sums[2:],
    }
    theirs = made.compute_loss(made.model, inputs)
    same_step(made.model, comparison, [a - b for a, b in zip(own, start, strict=True)], 0.0, theirs)


def test_kto_is_the_loss_of_their_trainer(student: Any, tmp_path: Path) -> None:
    import trl

    columns = {"prompt": ["What is 2 + 3?", "What?"], "completion": [" 5", " 6"], "label": [True, False]}
    options = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8}
    made = trainer(trl.KTOTrainer, trl.KTOConfig, student, tmp_path, columns, **options)
    others = mismatched(ROWS)
    own, own_others = logprobs(student, ROWS), logprobs(student, others)
    start, start_others = reference(ROWS, own, seed=1), [value - 0.1 for value in own_others]
    inputs = {
        **padded(ROWS),
        **padded(others, "KL_"),
        "label": torch.tensor([item.good for item in JUDGED]),
        "ref_logps": torch.stack([value.sum() for value in start]),
        "ref_KL_logps": torch.stack([value.sum() for value in start_others]),
    }
    theirs = made.compute_loss(made.model, inputs)
    divergence = 0.1 * sum(len(row.response) for row in others) / len(others)
    same_step(
        made.model,
        ProspectTheory(0.3, 1.5, 0.8),
        [a - b for a, b in zip(own, start, strict=True)],
        divergence,
        theirs,
    )


def test_simpo_is_their_loss_of_mean_log_probabilities(student: Any) -> None:
    from trl.experimental.cpo import CPOTrainer

    settings = SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        simpo_gamma=0.7,
        loss_type="simpo",
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    batch = padded([ROWS[at] for at in PAIRS_BY_SIDE])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    every = student(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    means = CPOTrainer.get_batch_logps(every, labels, average_log_prob=True)
    losses, chosen, rejected = CPOTrainer.cpo_loss(settings, means[:2], means[2:])
    same_step(student, SimplePreference(2.0, 0.7), logprobs(student, ROWS), 0.0, losses.mean())
    rewards = SimplePreference(2.0).rewards(logprobs(student, ROWS))
    close(rewards[PAIRS_BY_SIDE], torch.cat([chosen, rejected]), 1e-5)
