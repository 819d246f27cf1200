"""`cohobate curate`: a triples artifact -> another one, with what was taken out beside it.

Files: those of a triples artifact, for the samples that stay, and rejects.parquet: the others, each with its reason.
Pass rates stay those of the whole generation: they say how hard a question is for the teacher.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohobate.config import Curation, Recipe
from cohobate.errors import CurationError, StoreError
from cohobate.recipes import sentence
from cohobate.store import Artifact, Outcome, Store, Workspace, verify

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

VERSION = 1
_BATCH = 4096
_SUFFIX = ".curated"


def settings(**values: Any) -> Curation:
    """The validated limits. Raises CurationError with one sentence."""
    try:
        return Curation.model_validate(values)
    except ValidationError as error:
        raise CurationError(f"curate: {sentence(error)}") from None


def curate(triples: Artifact, config: Curation) -> Artifact:
    """The artifact of what `config` keeps of `triples`; it takes the place of `triples` wherever triples are read.

    Raises CurationError when `triples` holds no triples, when its questions are gone or when nothing would be left.
    """
    if triples.stage != "triples":
        raise CurationError(f"{triples.id} is no triples artifact; `cohobate ls` lists those that curate can take")
    store = Store(triples.path.parents[1])
    questions = _questions(store, triples)
    verify(triples)
    recipe = Recipe.model_validate(triples.manifest.config)
    name = recipe.name if recipe.name.endswith(_SUFFIX) else recipe.name + _SUFFIX
    return store.produce(
        "triples",
        recipe=recipe.model_copy(update={"name": name}),
        version=VERSION,
        identity={"curation": config.model_dump(mode="json")},
        parents=[triples, questions],
        build=lambda workspace: _build(triples, questions, config, workspace),
    )


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


def _build(triples: Artifact, questions: Artifact, config: Curation, workspace: Workspace) -> Outcome:
    import polars as pl

    from cohobate.curation.labels import label

    evaluation = (
        pl.scan_parquet(questions.path / "questions.parquet")
        .filter(pl.col("split").is_in(config.against))
        .select("question_id", "question")
        .collect()
    )
    labels = label(triples.path, evaluation, config)
    kept = labels.filter(pl.col("reason").is_null())
    if kept.is_empty():
        reasons = ", ".join(f"{reason}: {count}" for reason, count in _counted(labels).items())
        shutil.rmtree(workspace.path)  # what was begun has nothing to resume
        raise CurationError(f"nothing of {triples.id} would be left ({reasons}); loosen the limits")
    _split(triples, labels, workspace)
    _side_tables(triples, kept["question_id"].unique(), workspace)
    return Outcome(rows=len(kept), metrics=_metrics(labels, workspace))


def _split(triples: Artifact, labels: pl.DataFrame, workspace: Workspace) -> None:
    """triples.parquet and rejects.parquet, a batch at a time, in the order of the source."""
    import pyarrow.parquet as pq

    from cohobate.schema import REJECTS, TRIPLES

    with ExitStack() as stack:

        def writer(name: str, declared: pa.Schema) -> pq.ParquetWriter:
            return stack.enter_context(pq.ParquetWriter(workspace.path / name, declared, compression="zstd"))

        kept, rejects = writer("triples.parquet", TRIPLES), writer("rejects.parquet", REJECTS)
        for batch, label in _labelled(triples, labels):
            stays = label["reason"].is_null()
            if stays.any():
                kept.write_table(batch.filter(stays.to_arrow()).cast(TRIPLES))
            if not stays.all():
                out = batch.append_column("reject_reason", label["reason"].to_arrow())
                out = out.append_column("reject_detail", label["detail"].to_arrow())
                rejects.write_table(out.filter((~stays).to_arrow()).cast(REJECTS))


def _labelled(triples: Artifact, labels: pl.DataFrame) -> Iterator[tuple[pa.Table, pl.DataFrame]]:
    """Batches of the triples with their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 0
    with pq.ParquetFile(triples.path / "triples.parquet", pre_buffer=False) as file:
        for read in file.iter_batches(batch_size=_BATCH):
            yield pa.Table.from_batches([read]), labels[start : start + read.num_rows]
            start += read.num_rows


def _side_tables(triples: Artifact, questions: pl.Series, workspace: Workspace) -> None:
    """Verdicts of the samples that stay, aggregates of their questions, and all failures."""
    import polars as pl

    from cohobate import schema
    from cohobate.files import write_parquet_atomic

    samples = pl.scan_parquet(workspace.path / "triples.parquet").select("sample_id")
    verdicts = pl.scan_parquet(triples.path / "verdicts.parquet").join(
        samples, on="sample_id", how="semi", maintain_order="left"
    )
    aggregates = pl.scan_parquet(triples.path / "aggregates.parquet").filter(pl.col("question_id").is_in(questions))
    tables = {
        "verdicts": (verdicts, schema.VERDICTS),
        "aggregates": (aggregates, schema.AGGREGATES),
        "failures": (pl.scan_parquet(triples.path / "failures.parquet"), schema.FAILURES),
    }
    for name, (rows, declared) in tables.items():
        table = rows.collect().to_arrow().select(declared.names).cast(declared)
        write_parquet_atomic(table, workspace.path / f"{name}.parquet")


def _counted(labels: pl.DataFrame) -> dict[str, int]:
    from cohobate.selection import counts

    return counts(labels["reason"])


def _metrics(labels: pl.DataFrame, workspace: Workspace) -> dict[str, Any]:
    """What the triples stage says of its samples, and the rejected ones by reason."""
    import polars as pl

    from cohobate.selection import counts

    verdicts = pl.read_parquet(workspace.path / "verdicts.parquet", columns=["verdict"])["verdict"]
    found = counts(verdicts)
    decided = found.get("correct", 0) + found.get("incorrect", 0)
    samples = pl.scan_parquet(workspace.path / "triples.parquet")
    facts = samples.select(
        pl.len().alias("samples"),
        pl.col("question_id").n_unique().alias("questions"),
        pl.col("completion_tokens").mean().alias("mean_completion_tokens"),
        pl.col("truncated").mean(),
    )
    return {
        **facts.collect().row(0, named=True),
        "verdicts": found,
        "pass_rate": found.get("correct", 0) / decided if decided else None,
        "failures": pl.scan_parquet(workspace.path / "failures.parquet").select(pl.len()).collect().item(),
        "rejected": _counted(labels),
    }
