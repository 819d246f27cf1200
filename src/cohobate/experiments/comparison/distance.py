"""Distance of a student to its teacher: reverse KL and agreement at each token of its own sampled responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Compare, Recipe
from cohobate.core.statistics import Z95, Interval
from cohobate.models.loading import model_fingerprint, model_path
from cohobate.models.template_revision import template_revision
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import torch

    from cohobate.models.loading import LoadedModel

VERSION = 2
_SEED = 0
_CHUNK = 128  # tokens whose logits over the vocabulary are held at a time


@dataclass(frozen=True)
class ResponseDistance:
    """Of one response: its tokens, their total reverse KL in nats, and at how many the likeliest token is the same."""

    tokens: int
    reverse_kl: float
    agreed: int


def measure(recipe: Recipe, questions: Artifact, student: Artifact | None = None) -> Artifact:
    """Reverse KL and agreement of the student of an artifact, or of the recipe's own, untrained one.

    It answers the first `compare.distance` questions of the first split of [evaluation] at temperature 1, without those
    whose prompts leave no room in the context of one of the two. Raises QuestionsError where none is left.
    """
    from cohobate.teachers.base import scoring_identity

    folder = student.path / "model" if student else model_path(recipe.student.model)
    identity: dict[str, Any] = {
        "questions": recipe.section(Compare).distance,
        "split": recipe.evaluation.splits[0],
        "max_tokens": recipe.evaluation.max_tokens,
        "student": {**recipe.student.identity(), **template_revision(folder, recipe.student)},
        "teacher": scoring_identity(recipe.teacher),
    }
    if student is None:
        identity["model"] = model_fingerprint(recipe.student.model)
    return Store().produce(
        "exam",
        recipe=recipe,
        version=VERSION,
        identity={"distance": identity},
        parents=[questions, *([student] if student else [])],
        build=lambda workspace: _measure(recipe, questions, folder, workspace),
    )


def _measure(recipe: Recipe, questions: Artifact, folder: Path, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.core import progress
    from cohobate.core.conversation import queries
    from cohobate.core.errors import QuestionsError
    from cohobate.models.chat_template import question_ids, scoring_format, student_format
    from cohobate.models.context_room import set_aside
    from cohobate.models.loading import load
    from cohobate.models.model_cost import cost_of
    from cohobate.models.sampling import sampler
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.store.compute_ledger import entry

    prepare_torch(recipe.runtime)
    device, config = recipe.runtime.device, recipe.evaluation
    model = load(folder, device=device, template=recipe.student.template)
    teacher = load(recipe.teacher.model, device=device, template=recipe.teacher.template)
    formats = student_format(recipe), scoring_format(recipe, model.tokenizer)
    frame = pl.read_parquet(questions.path / "questions.parquet").filter(pl.col("split") == config.splits[0])
    chosen = frame.head(recipe.section(Compare).distance or 0)
    chosen = set_aside("distance", chosen, [(model, formats[0])])
    chosen = set_aside("distance, teacher", chosen, [(teacher, formats[1])], room=config.max_tokens)
    if chosen.is_empty():
        raise QuestionsError("no question leaves room in the models' context; lower evaluation.max_tokens")
    prompts, theirs = (
        [question_ids(each.tokenizer, question, how) for question in queries(chosen)]
        for each, how in zip((model, teacher), formats, strict=True)
    )
    noise = sampler.uniforms(_SEED, chosen["question_id"].to_list(), config.max_tokens)
    decoding = sampler.Decoding(config.max_tokens, 1.0)
    with progress.bar("distance", len(prompts), "answers") as bar:
        drawn = sampler.sample(
            model.model, prompts, decoding, noise, eos_ids=model.eos_ids, pad_id=model.pad_id, done=bar.advance
        )
    responses = [each.response_ids for each in drawn]
    distances = response_distances(model, teacher, prompts, theirs, responses, recipe.opd.tokens_per_batch)
    rows = [{"question_id": name, **vars(each)} for name, each in zip(chosen["question_id"], distances, strict=True)]
    pl.DataFrame(rows).write_parquet(workspace.path / "distances.parquet", compression="zstd")
    lengths = [len(ids) for ids in responses]
    paid = [
        entry("distance", "student", "evaluation", cost_of(model.config), [len(p) for p in prompts], lengths),
        entry("distance", "teacher", "scoring", cost_of(teacher.config), [len(p) for p in theirs], lengths),
    ]
    return Outcome(len(rows), summary(distances), paid)


def response_distances(
    student: LoadedModel,
    teacher: LoadedModel,
    prompts: Sequence[list[int]],
    teacher_prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    token_budget: int,
) -> list[ResponseDistance]:
    """The distance at each token of `responses`, which each model reads behind its own prompt."""
    import torch

    from cohobate.models.logprobs import score
    from cohobate.models.output_layer import OutputLayer
    from cohobate.models.sequence import TrainingSequence

    vocabulary = len(student.tokenizer)
    states, heads = [], []
    for model, before in ((student, prompts), (teacher, teacher_prompts)):
        rows = [TrainingSequence([*p, *ids], len(p)) for p, ids in zip(before, responses, strict=True)]
        states.append([item.hidden for item in score(model.model, rows, token_budget, model.pad_id)])
        heads.append(OutputLayer(model.model))

    @torch.no_grad()
    def of_tokens(pair: list[torch.Tensor]) -> tuple[float, int]:
        ours, its = (
            head(hidden.to(model.device)).float()[:, :vocabulary].log_softmax(-1).cpu()
            for head, hidden, model in zip(heads, pair, (student, teacher), strict=True)
        )
        kl = (ours.exp() * (ours - its)).sum()
        return float(kl), int((ours.argmax(-1) == its.argmax(-1)).sum())

    distances = []
    for ours, its in zip(*states, strict=True):
        assert ours is not None and its is not None
        parts = [of_tokens(list(pair)) for pair in zip(ours.split(_CHUNK), its.split(_CHUNK), strict=True)]
        distances.append(ResponseDistance(len(ours), math.fsum(kl for kl, _ in parts), sum(same for _, same in parts)))
    return distances


def summary(distances: Sequence[ResponseDistance]) -> dict[str, Any]:
    """{n, tokens, reverse_kl, agreement}: means over tokens with 95% intervals over responses, as JSON values."""
    tokens = [each.tokens for each in distances]
    values = {
        "reverse_kl": per_token([each.reverse_kl for each in distances], tokens),
        "agreement": per_token([float(each.agreed) for each in distances], tokens),
    }
    named = {name: interval.as_row() for name, interval in values.items()}
    return {"n": len(distances), "tokens": sum(tokens), **named}


def per_token(sums: Sequence[float], tokens: Sequence[int]) -> Interval:
    """The ratio of two totals over responses, with its 95% interval (a ratio estimator's, Cochran 1977, 6.4)."""
    n, total = len(sums), sum(tokens)
    if not total:
        return Interval(math.nan, -math.inf, math.inf)
    mean = math.fsum(sums) / total
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    squares = math.fsum((own - mean * count) ** 2 for own, count in zip(sums, tokens, strict=True))
    half = Z95 * math.sqrt(n / (n - 1) * squares) / total
    return Interval(mean, mean - half, mean + half)
