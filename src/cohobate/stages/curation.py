"""Curation: triples artifacts -> another one, with what was taken out beside it.

`cohobate curate` makes one on request, the sft stage where the recipe has a section [curation]; both ways the same
settings give the same artifact. Files: those of a triples artifact, for the samples that stay, and rejects.parquet: the
others, each with its verdict and its reason. Pass rates stay those of the whole generation: they say how hard a
question is for the teacher.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohobate.config import Curation, Recipe
from cohobate.config.load import changed, load_recipe, sentence
from cohobate.core.errors import CurationError, StoreError
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace, verify

if TYPE_CHECKING:
    import polars as pl

VERSION = 2
_SUFFIX = ".curated"


def settings(recipe: str | None = None, **values: Any) -> Curation:
    """The settings of a recipe's section [curation] (None: the defaults), changed by the `values` that are not None.

    Raises CurationError or RecipeError with one sentence.
    """
    base = Curation() if recipe is None else load_recipe(recipe).curation
    if base is None:
        raise CurationError(f"recipe {recipe} has no section [curation]; add one, or give its settings here")
    given = {name: value for name, value in values.items() if value is not None}
    if "mix" in given:
        mix = {name: value for name, value in given["mix"].items() if value is not None}
        given["mix"] = {**base.mix.model_dump(), **mix}
    try:
        return Curation.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise CurationError(f"curate: {sentence(error)}") from None


def parts(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Parts of a mix written as WEIGHT[:ARTIFACT[:SOURCE]]. Raises CurationError."""
    found = []
    for text in texts:
        weight, *rest = text.split(":", 2)
        triples, source = [part or None for part in (*rest, "", "")][:2]
        try:
            found.append({"weight": float(weight), "triples": triples, "source": source})
        except ValueError:
            raise CurationError(f"--mix {text}: write it as weight[:artifact[:source]], such as 30::handbook") from None
    return found


def selected(recipe: Recipe, triples: Artifact) -> Artifact:
    """What the recipe learns from: the curated triples, or without a section [curation] the triples themselves."""
    return triples if recipe.curation is None else curate(triples, recipe.curation)


def curate(triples: Artifact, config: Curation) -> Artifact:
    """The artifact of what `config` keeps of `triples` and of what it mixes with them.

    It takes the place of `triples` wherever triples are read. Raises CurationError when an artifact holds no triples,
    when the questions are gone or when nothing would be left.
    """
    store = Store(triples.path.parents[1])
    sources, numbers = ingredients(store, triples, config)
    questions = _questions(store, triples)
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
    """The artifacts that are read, `triples` first, and of each part of the mix the number of its artifact."""
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


def _questions(store: Store, triples: Artifact) -> Artifact:
    for parent in triples.manifest.parents:
        if parent.stage == "questions":
            try:
                return store.find(parent.fingerprint)
            except StoreError:
                raise CurationError(
                    f"{triples.id} was made from {parent.id}, which is not stored any more and names the evaluation "
                    "questions; run the recipe with --until questions to have it again"
                ) from None
    raise CurationError(f"{triples.id} names no questions it was made from")


def _build(
    sources: Sequence[Artifact], numbers: list[int], questions: Artifact, config: Curation, workspace: Workspace
) -> Outcome:
    import polars as pl

    from cohobate.datasets.curation import write
    from cohobate.datasets.curation.filters import reasons

    evaluation = (
        pl.scan_parquet(questions.path / "questions.parquet")
        .filter(pl.col("split").is_in(config.against))
        .select("question_id", "question")
        .collect()
    )
    folders = [artifact.path for artifact in sources]
    try:
        found = reasons(folders, evaluation, config, numbers)
        kept = found["reason"].null_count()
        if not kept:
            counted = ", ".join(f"{reason}: {count}" for reason, count in _counted(found).items())
            raise CurationError(f"nothing of {sources[0].id} would be left ({counted}); loosen the limits")
    except CurationError:
        shutil.rmtree(workspace.path)  # what was begun has nothing to resume
        raise
    verdicts = write.write(folders, found, workspace)
    return Outcome(rows=kept, metrics=_metrics(found, verdicts, workspace))


def _counted(found: pl.DataFrame) -> dict[str, int]:
    from cohobate.core.frequencies import counts

    return counts(found["reason"])


def _metrics(found: pl.DataFrame, verdicts: pl.DataFrame, workspace: Workspace) -> dict[str, Any]:
    """What the triples stage says of its samples, the sources where there are several, and the rejected by reason."""
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
        "rejected": _counted(found),
    }
