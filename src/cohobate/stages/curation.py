"""Curation: triples artifacts -> a curated one, with the rejected samples beside it.

`cohobate curate` makes one on request, the sft stage where the recipe has a section [curation]; both ways the same
settings give the same artifact. Files: those of a triples artifact, for the samples that stay, and rejects.parquet: the
others, each with its verdict and its reason. Pass rates stay those of the complete generation: they measure how hard a
question is for the teacher.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohobate.config import Curation, Recipe
from cohobate.config.load import changed, load_recipe, sentence
from cohobate.core.errors import CurationError
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace, verify
from cohobate.store.origins import origin

if TYPE_CHECKING:
    import polars as pl

VERSION = 3
_SUFFIX = ".curated"


def settings(recipe: str | None = None, **values: Any) -> Curation:
    """The settings of a recipe's section [curation] (None: the defaults), changed by the `values` that are not None.

    Raises CurationError or RecipeError with one sentence.
    """
    base = Curation() if recipe is None else load_recipe(recipe).curation
    if base is None:
        raise CurationError(f"recipe {recipe} has no section [curation]; add one, or give its settings here")
    changes = {name: value for name, value in values.items() if value is not None}
    if "mix" in changes:
        mix = {name: value for name, value in changes["mix"].items() if value is not None}
        changes["mix"] = {**base.mix.model_dump(), **mix}
    try:
        return Curation.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise CurationError(f"curate: {sentence(error)}") from None


def parts(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Parts of a mix written as WEIGHT[:ARTIFACT[:SOURCE]]. Raises CurationError."""
    values = []
    for text in texts:
        weight, *rest = text.split(":", 2)
        triples, source = [part or None for part in (*rest, "", "")][:2]
        try:
            values.append({"weight": float(weight), "triples": triples, "source": source})
        except ValueError:
            raise CurationError(f"--mix {text}: write it as weight[:artifact[:source]], such as 30::handbook") from None
    return values


def selected(recipe: Recipe, triples: Artifact) -> Artifact:
    """The triples that the recipe trains on: curated where it has a section [curation]."""
    return triples if recipe.curation is None else curate(triples, recipe.curation)


def curate(triples: Artifact, config: Curation) -> Artifact:
    """The artifact of the samples that `config` keeps of `triples` and of those that it mixes with them.

    It can be read wherever triples can. Raises CurationError when an artifact holds no triples,
    when the questions are gone or when nothing would be left, DamagedFileError for one that was altered.
    """
    store = Store(triples.path.parents[1])
    sources, numbers = ingredients(store, triples, config)
    questions = _questions(triples)
    for artifact in sources:
        verify(artifact)
    recipe = Recipe.model_validate(triples.manifest.config)
    name = recipe.name if recipe.name.endswith(_SUFFIX) else recipe.name + _SUFFIX
    return store.produce(
        "triples",
        recipe=changed(recipe, {"name": name, "curation": config}, f"recipe {name}"),
        version=VERSION,
        identity={"curation": _identity(config, numbers)},
        parents=[*sources, questions],
        build=lambda workspace: _build(sources, numbers, questions, config, workspace),
    )


def ingredients(store: Store, triples: Artifact, config: Curation) -> tuple[list[Artifact], list[int]]:
    """The artifacts that are read, `triples` first, and the number of the artifact of each part of the mix."""
    sources, numbers = [triples], []
    for part in config.mix.parts:
        artifact = triples if part.triples is None else store.find(part.triples)
        if artifact.fingerprint not in [each.fingerprint for each in sources]:
            sources.append(artifact)
        numbers.append([each.fingerprint for each in sources].index(artifact.fingerprint))
    for artifact in sources:
        if artifact.stage != "triples":
            raise CurationError(f"{artifact.id} is no triples artifact; `cohobate ls` lists those that curate can take")
    return sources, numbers


def _identity(config: Curation, numbers: list[int]) -> dict[str, Any]:
    """The settings as JSON; the artifacts of a mix are parents, and a part names its one by number."""
    identity = config.model_dump(mode="json")
    for part, number in zip(identity["mix"]["parts"], numbers, strict=True):
        part["triples"] = number
    return identity


def _questions(triples: Artifact) -> Artifact:
    names = [parent.id for parent in triples.manifest.parents if parent.stage == "questions"]
    if not names:
        raise CurationError(f"{triples.id} names no questions it was made from")
    questions = origin(triples, "questions")
    if questions is None:
        raise CurationError(
            f"{triples.id} was made from {names[0]}, which is not stored any more and names the evaluation "
            "questions; run the recipe with --until questions to have it again"
        )
    return questions


def _build(
    sources: Sequence[Artifact], numbers: list[int], questions: Artifact, config: Curation, workspace: Workspace
) -> Outcome:
    import polars as pl

    from cohobate.core.frequencies import counts
    from cohobate.core.parquet import scan_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.datasets.curation import write
    from cohobate.datasets.curation.filters import reasons

    evaluation = (
        scan_table(questions.path / "questions.parquet", QUESTIONS)
        .filter(pl.col("split").is_in(config.against))
        .select("question_id", "question", "conversation")
        .collect()
    )
    folders = [artifact.path for artifact in sources]
    try:
        rows = reasons(folders, evaluation, config, numbers)
        staying = rows["reason"].null_count()
        if not staying:
            counted = ", ".join(f"{reason}: {count}" for reason, count in counts(rows["reason"]).items())
            raise CurationError(f"nothing of {sources[0].id} would be left ({counted}); loosen the limits")
    except CurationError:
        shutil.rmtree(workspace.path)  # there is nothing to resume
        raise
    verdicts = write.write(folders, rows, workspace)
    return Outcome(rows=staying, metrics=_metrics(rows, verdicts, workspace))


def _metrics(rows: pl.DataFrame, verdicts: pl.DataFrame, workspace: Workspace) -> dict[str, Any]:
    """The metrics of the triples stage for the samples that stay, their sources, and the rejected by reason."""
    import polars as pl

    from cohobate.core.frequencies import counts
    from cohobate.evaluation.verifiers import labels

    samples = pl.scan_parquet(workspace.path / "triples.parquet")
    facts = samples.select(
        pl.len().alias("samples"),
        pl.col("question_id").n_unique().alias("questions"),
        pl.col("completion_tokens").mean().alias("mean_completion_tokens"),
        pl.col("truncated").mean(),
    )
    return {
        **facts.collect().row(0, named=True),
        **labels.summary(verdicts),
        "failures": pl.scan_parquet(workspace.path / "failures.parquet").select(pl.len()).collect().item(),
        "sources": counts(samples.select("source_name").collect()["source_name"]),
        "rejected": counts(rows["reason"]),
    }
