"""One family as student and as teacher, through what the stages call, held against plain transformers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cohobate.config import Lora, Opd
from cohobate.core.errors import CohobateError
from cohobate.models.batching import batches, can_share
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import LoadedModel, load
from cohobate.models.model_cost import cost_of
from cohobate.models.output_layer import OutputLayer
from cohobate.models.own_forward import require_own_logits
from cohobate.models.sampling.sampler import Decoding, Sampled, sample, uniforms, way_in_words
from cohobate.models.sequence import TrainingSequence
from cohobate.training.distributed import ALONE
from cohobate.training.lora import require_mergeable, with_lora
from cohobate.training.objectives.base import on_policy
from cohobate.training.scoring.local import LocalScorer
from cohobate.training.trainee import Trainee
from tests.support import zoo

OBJECTIVES = ("exact", "sampled", "topk")
# Prompts of unlike lengths, of which two are equal, as those of a group are.
_LENGTHS, _DRAWN = (9, 4, 21, 9, 9), 12


@dataclass(frozen=True)
class Trial:
    """What was found.

    refused: the sentence of a refusal before anything is spent. way: how it is sampled, empty for this program's own
    cache. sampler, teacher, trainer, reloaded: the largest distance in nats per token from plain transformers; trainer
    has one for each objective.
    """

    family: str
    kind: str
    refused: str = ""
    way: str = ""
    sampler: float = 0.0
    teacher: float = 0.0
    trainer: float = 0.0
    reloaded: float = 0.0

    @property
    def worst(self) -> float:
        return max(self.sampler, self.teacher, self.trainer, self.reloaded)


def trial(family: str, folder: Path, *, lora: bool) -> Trial:
    """The family as student and as teacher: full, with every objective, or with LoRA and the exact one."""
    paths = [zoo.write(family, folder / role, seed) for seed, role in enumerate(("student", "teacher"))]
    config = Opd(steps=1, warmup=0, lora=Lora(rank=4, alpha=8) if lora else None)
    kind = ""
    try:
        student, teacher = load(paths[0], device="cpu", train=True), load(paths[1], device="cpu")
        kind = type(student.model).__name__
        cost_of(student.model.config)
        for role, model in (("student", student), ("teacher", teacher)):
            require_own_logits(model, role, 1000, samples=True)
        if lora:
            another = load(paths[0], device="cpu", train=True)
            require_mergeable(with_lora(another.model, config, "base"), another.model)
    except CohobateError as error:
        return Trial(family, kind, refused=str(error))
    return _measured(Trial(family, kind, way=way_in_words(student.model)), student, teacher, config, folder)


def _measured(blank: Trial, student: LoadedModel, teacher: LoadedModel, config: Opd, folder: Path) -> Trial:
    trainee = Trainee(student, config, "base")
    _change_adapters(student.model)
    drawn = _draw(student, 0)
    own, theirs = _every(student, drawn), _every(teacher, drawn)
    found = replace(
        blank,
        sampler=_apart([torch.tensor(row.logprobs) for _, row in drawn], _of_tokens(drawn, own)),
    )
    for name in OBJECTIVES[: 1 if config.lora else None]:
        own_config = config.model_copy(update={"objective": name})
        rows, teacher_apart = _scored(own_config, teacher, drawn, theirs, folder / name)
        loss, gradients = _updated(trainee, own_config, teacher, rows)
        expected, plain = _expected(name, trainee, drawn, theirs)
        apart = max(abs(loss - expected), _relative(gradients, plain))
        found = replace(found, teacher=max(found.teacher, teacher_apart), trainer=max(found.trainer, apart))
    _step(trainee, gradients)
    after = _draw(student, 1)
    own = _every(student, after)
    moved = _apart([torch.tensor(row.logprobs) for _, row in after], _of_tokens(after, own))
    trainee.publish(folder / "published")
    again = _every(load(folder / "published" / "model", device="cpu"), after)
    return replace(found, sampler=max(found.sampler, moved), reloaded=_apart(again, own))


def _change_adapters(model: Any) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.05)


def _draw(model: LoadedModel, seed: int) -> list[tuple[list[int], Sampled]]:
    noise = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, 500, (length,), generator=noise).tolist() for length in _LENGTHS]
    prompts[4] = prompts[0]
    drawn = sample(
        model.model,
        prompts,
        Decoding(_DRAWN),
        uniforms(seed, list("abcde"), _DRAWN),
        eos_ids=model.eos_ids,
        pad_id=model.pad_id,
    )
    return list(zip(prompts, drawn, strict=True))


def _every(model: LoadedModel, drawn: Sequence[tuple[list[int], Sampled]]) -> list[torch.Tensor]:
    """Log-probabilities [R, V] of each response by the model's own pass over the row alone."""
    with torch.no_grad():
        return [_plain(model.model, prompt, row) for prompt, row in drawn]


def _plain(model: Any, prompt: list[int], row: Sampled) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *row.response_ids]])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logprobs: torch.Tensor = logits.float().log_softmax(-1)
    return logprobs


def _of_tokens(drawn: Sequence[tuple[list[int], Sampled]], rows: list[torch.Tensor]) -> list[torch.Tensor]:
    pairs = zip(drawn, rows, strict=True)
    return [every.gather(-1, torch.tensor(row.response_ids)[:, None])[:, 0] for (_, row), every in pairs]


def _apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


def _scored(
    config: Opd, teacher: LoadedModel, drawn: list[tuple[list[int], Sampled]], theirs: list[torch.Tensor], folder: Path
) -> tuple[list[TrainingSequence], float]:
    """The rows with the teacher's scores, and how far its log-probabilities are from its own pass."""
    needs = on_policy(config).needs
    assert needs is not None
    scorer = LocalScorer(teacher, PromptFormat(), needs, folder, 1000, ALONE, keeps=False)
    rows = {i: TrainingSequence([*prompt, *row.response_ids], len(prompt)) for i, (prompt, row) in enumerate(drawn)}
    scores = {i: item for part in scorer.score_rows(rows) for i, item in part.items()}
    sequences = [
        rows[i].with_features(**scores[i].features(), sampler_logprobs=torch.tensor(drawn[i][1].logprobs)) for i in rows
    ]
    return sequences, _apart([scores[i].logprobs for i in rows], _of_tokens(drawn, theirs))


Gradients = dict[str, torch.Tensor]


def _updated(
    trainee: Trainee, config: Opd, teacher: LoadedModel, rows: list[TrainingSequence]
) -> tuple[float, Gradients]:
    """The loss per token and its gradients, as a step of the training loop computes them."""
    loss_of, learner = on_policy(config).loss(OutputLayer(teacher.model)), trainee.begin_update()
    total, count = 0.0, sum(len(row.response) for row in rows)
    model = trainee.student.model
    # Two batches, so that a row is padded beside a longer one.
    for batch in batches(rows, 80, trainee.student.pad_id, "cpu", share=can_share(model)):
        loss = learner(batch, loss_of)["loss"] / count
        loss.backward()
        total += float(loss)
    return total, _taken(trainee)


def _taken(trainee: Trainee) -> Gradients:
    gradients = {name: p.grad for name, p in trainee.trainable().items() if p.grad is not None}
    trainee.learner.zero_grad(set_to_none=True)
    return gradients


def _expected(
    name: str, trainee: Trainee, drawn: list[tuple[list[int], Sampled]], theirs: list[torch.Tensor]
) -> tuple[float, Gradients]:
    """The same by the formula of the objective over the model's own passes, a row at a time."""
    count = sum(len(row.response_ids) for _, row in drawn)
    total = torch.zeros(())
    for (prompt, row), teacher in zip(drawn, theirs, strict=True):
        own = _plain(trainee.student.model, prompt, row)
        total = total + _FORMULAE[name](own, teacher, torch.tensor(row.response_ids)) / count
    total.backward()
    return float(total.detach()), _taken(trainee)


def _exact(own: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return (own.exp() * (own - teacher)).sum()


def _sampled(own: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    chosen, wanted = (rows.gather(-1, ids[:, None])[:, 0] for rows in (own, teacher))
    return -((wanted - chosen).detach().clamp(-10, 10) * chosen).sum()


def _topk(own: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    listed = teacher.topk(16, dim=-1).indices
    p, q = (rows.gather(-1, listed).exp() for rows in (own, teacher))
    p_tail, q_tail = 1 - p.sum(-1), 1 - q.sum(-1)
    return (p * (p.log() - q.log())).sum() + (p_tail * (p_tail.log() - q_tail.log())).sum()


_FORMULAE = {"exact": _exact, "sampled": _sampled, "topk": _topk}


def _relative(found: Gradients, expected: Gradients) -> float:
    """The distance of two gradients in units of the length of the second; infinite where they are of other weights."""
    names = {name for name, value in expected.items() if float(value.abs().max()) > 0}
    if not names or not names <= found.keys():
        return float("inf")
    apart = sum(float((found[name] - expected.get(name, torch.zeros(()))).square().sum()) for name in found)
    length = sum(float(value.square().sum()) for value in expected.values())
    return float((apart / length) ** 0.5)


def _step(trainee: Trainee, gradients: Gradients) -> None:
    """A step of gradient descent that changes every log-probability."""
    length = sum(float(value.square().sum()) for value in gradients.values()) ** 0.5
    with torch.no_grad():
        for name, parameter in trainee.trainable().items():
            if name in gradients:
                parameter.sub_(0.3 * gradients[name] / max(length, 1e-9))
