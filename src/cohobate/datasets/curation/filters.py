"""The filters of curation: a reason for every sample that is rejected.

Each filter sees only the samples that the filters before it left, so that every reject has one reason and the counts
add up. Filters on a single sample or question come first. Duplicates come after them, so that the remaining copy is one
that stays. The mix is drawn from what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from cohobate.config import Curation
from cohobate.core import progress
from cohobate.core.parquet import scan_table
from cohobate.core.schema import TRIPLES
from cohobate.datasets.curation.conversations import dialogues, passages, systems
from cohobate.datasets.curation.decontaminate import contaminated
from cohobate.datasets.curation.dedup import exact, near
from cohobate.datasets.curation.language_id import foreign
from cohobate.datasets.curation.mixing import mixed
from cohobate.datasets.curation.ngrams import count_words

# Takes the questions that are left; gives the indices of those to reject, each with a detail.
Filter = Callable[[pl.DataFrame], dict[int, str | None]]
_REASONS = {"question_id": pl.String, "reason": pl.String, "detail": pl.String}
_BATCH = 4096


def reasons(
    triples: Sequence[Path], evaluation: pl.DataFrame, config: Curation, parts: Sequence[int] = ()
) -> pl.DataFrame:
    """One row per sample of the folders `triples`, in their order: artifact (its number), question_id, reason, detail.

    reason and detail are null for the samples that stay. evaluation: question_id, question and conversation of the
    evaluation questions. parts: the number of the artifact of each part of the mix.
    """
    samples = pl.concat(
        _label_samples(path, config).with_columns(artifact=pl.lit(number, dtype=pl.Int32))
        for number, path in enumerate(triples)
    )
    samples = _repeated(samples)
    left = samples.filter(pl.col("reason").is_null()).select("question_id").unique()
    questions = _label_questions(_questions(triples, left), evaluation, config)
    joined = samples.join(questions, on="question_id", how="left", maintain_order="left", suffix="_question")
    labels = joined.with_columns(
        pl.coalesce("reason", "reason_question").alias("reason"),
        pl.when(pl.col("reason").is_null()).then("detail_question").otherwise("detail").alias("detail"),
    )
    if config.mix.parts and labels["reason"].null_count():
        labels = _mixed(labels, config, parts)
    return labels.select("artifact", "question_id", "reason", "detail")


def rates(triples: Sequence[Path]) -> pl.DataFrame:
    """Aggregates of the questions of all folders.

    Of a question in several folders, n and n_correct are added, the pass rate is their mean weighted by n, and the
    majority is that of the folder with the most samples.
    """
    tables = pl.concat(pl.read_parquet(path / "aggregates.parquet") for path in triples)
    if len(triples) == 1:
        return tables
    rated = pl.when(pl.col("pass_rate").is_not_null()).then("n")
    return tables.group_by("question_id", maintain_order=True).agg(
        pl.col("n").sum(),
        pl.col("n_correct").sum(),
        ((pl.col("pass_rate") * pl.col("n")).sum() / rated.sum()).fill_nan(None).alias("pass_rate"),
        pl.col("majority").sort_by("n", descending=True, maintain_order=True).first(),
    )


def _label_samples(triples: Path, config: Curation) -> pl.DataFrame:
    """The filters on single samples: sample_id, question_id, source_name, completion_tokens, reason, detail."""
    tokens = pl.col("completion_tokens")
    cut = pl.when(pl.col("truncated") & (not config.keep_truncated)).then(pl.lit("truncated response"))
    too_long = pl.when(tokens > config.max_tokens).then(pl.lit("long response")) if config.max_tokens else pl.lit(None)
    detail = pl.when(pl.col("reason").is_not_null()).then(pl.format("{} tokens", tokens))
    labels = (
        pl.scan_parquet(triples / "triples.parquet")
        .select(
            "sample_id",
            "question_id",
            "source_name",
            "completion_tokens",
            pl.coalesce(cut, too_long).cast(pl.String).alias("reason"),
        )
        .with_columns(detail.alias("detail"))
        .collect()
    )
    if not config.languages:
        return labels
    language = pl.Series(_languages(triples, config.languages), dtype=pl.String)
    return labels.with_columns(
        pl.when(pl.col("reason").is_null() & language.is_not_null())
        .then(pl.lit("response in another language"))
        .otherwise("reason")
        .alias("reason"),
        pl.when(pl.col("reason").is_null()).then(language).otherwise("detail").alias("detail"),
    )


def _languages(triples: Path, allowed: Sequence[str]) -> Iterator[str | None]:
    """The language of each response that is in none of the `allowed` ones; None for the others."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(triples / "triples.parquet", pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=["response"]):
            texts = batch.column(0).to_pylist()
            languages = foreign(texts, allowed)
            yield from (languages.get(index) for index in range(len(texts)))


def _repeated(samples: pl.DataFrame) -> pl.DataFrame:
    """A sample that is also in an earlier artifact is rejected."""
    again = ~pl.col("sample_id").is_first_distinct()
    return samples.with_columns(
        pl.when(again & pl.col("reason").is_null())
        .then(pl.lit("sample of an earlier artifact"))
        .otherwise("reason")
        .alias("reason")
    )


def _mixed(samples: pl.DataFrame, config: Curation, parts: Sequence[int]) -> pl.DataFrame:
    numbered = samples.with_row_index("row")
    left = numbered.filter(pl.col("reason").is_null())
    reasons_of_mix = mixed(left, config.mix, parts)["reason"]
    progress.say(f"mix: {reasons_of_mix.null_count():,} of {len(left):,} samples")
    beyond = pl.DataFrame({"row": left["row"], "beyond": reasons_of_mix})
    return numbered.join(beyond, on="row", how="left", maintain_order="left").with_columns(
        pl.coalesce("reason", "beyond").alias("reason")
    )


def _questions(triples: Sequence[Path], ids: pl.DataFrame) -> pl.DataFrame:
    """question_id, question, conversation, pass_rate of those in `ids`, in the order of their first samples."""
    columns = ("question_id", "question", "conversation")
    texts = pl.concat(scan_table(path / "triples.parquet", TRIPLES).select(columns) for path in triples)
    return (
        texts.unique("question_id", keep="first", maintain_order=True)
        .join(ids.lazy(), on="question_id", how="semi", maintain_order="left")
        .join(
            rates(triples).lazy().select("question_id", "pass_rate"),
            on="question_id",
            how="left",
            maintain_order="left",
        )
        .collect()
    )


def _label_questions(questions: pl.DataFrame, evaluation: pl.DataFrame, config: Curation) -> pl.DataFrame:
    """question_id, reason, detail of the rejected questions."""
    left, rejected = questions, [pl.DataFrame(schema=_REASONS)]
    for reason, find in _filters(evaluation, config):
        details = find(left)
        indices = list(details)
        ids = left["question_id"].gather(indices)
        labels = {"question_id": ids, "reason": [reason] * len(indices), "detail": list(details.values())}
        rejected.append(pl.DataFrame(labels, schema=_REASONS))
        left = left.remove(pl.int_range(pl.len()).is_in(indices))
        progress.say(f"{reason}: {len(indices):,} questions, {len(left):,} left")
    return pl.concat(rejected)


def _filters(evaluation: pl.DataFrame, config: Curation) -> Iterator[tuple[str, Filter]]:
    if config.min_words:
        yield "short question", partial(_length, low=config.min_words, high=None)
    if config.max_words is not None:
        yield "long question", partial(_length, low=0, high=config.max_words)
    if config.languages:
        yield "question in another language", lambda left: foreign(dialogues(left), config.languages)
    if config.pass_rate is not None:
        low, high = config.pass_rate
        yield "pass rate", partial(_pass_rate, low=low, high=high)
    # A long n-gram contains the shorter ones: the longest comes first, so that the stronger reason counts.
    for n in sorted(config.ngrams, reverse=True):
        yield f"{n}-gram of an evaluation question", partial(_contaminated, evaluation=evaluation, n=n)
    if config.duplicates:
        yield "duplicate question", lambda left: _named(left, exact(left["question"].to_list()))
    if config.near_duplicates:
        threshold = config.near_duplicates
        yield "near-duplicate question", lambda left: _named(left, near(dialogues(left), threshold, systems(left)))


def _length(left: pl.DataFrame, low: int, high: int | None) -> dict[int, str | None]:
    counts = enumerate(count_words(dialogues(left)))
    return {index: f"{count} words" for index, count in counts if count < low or (high is not None and count > high)}


def _pass_rate(left: pl.DataFrame, low: float, high: float) -> dict[int, str | None]:
    return {
        index: "undecided" if rate is None else f"{rate:.3f}"
        for index, rate in enumerate(left["pass_rate"].to_list())
        if rate is None or not low <= rate <= high
    }


def _contaminated(left: pl.DataFrame, evaluation: pl.DataFrame, n: int) -> dict[int, str | None]:
    names, owners, texts = evaluation["question_id"], *passages(left)
    sources = contaminated(texts, dialogues(evaluation), n)
    # Of several that a conversation meets, the first in the evaluation's order, as for a text.
    first: dict[int, int] = {}
    for text, source in sources.items():
        first[owners[text]] = min(source, first.get(owners[text], source))
    return {index: names[source] for index, source in sorted(first.items())}


def _named(left: pl.DataFrame, originals: dict[int, int]) -> dict[int, str | None]:
    """The detail of a duplicate is the id of the question that stays."""
    ids = left["question_id"]
    return {index: ids[original] for index, original in originals.items()}
