"""Curation: duplicates and contamination against enumeration, and the artifact that comes out."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohobate.core import schema
from cohobate.core.errors import CurationError, DamagedFileError
from cohobate.datasets.curation.decontaminate import contaminated
from cohobate.datasets.curation.dedup import exact, near, shape
from cohobate.datasets.curation.ngrams import figures, hash_texts, words
from cohobate.datasets.export.export import Request, export
from cohobate.datasets.selection import Selection
from cohobate.stages.curation import curate
from cohobate.stages.curation import settings as limits
from cohobate.store.artifacts import Artifact, Store, verify
from tests.support.made_triples import Row, questions, sample, triples

# Words that no rule of the tokenizer takes apart, so that the twins can split at spaces.
VOCABULARY = ["a", "b", "of", "12"]
texts = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=9).map(" ".join), max_size=10)


def runs(text: str, n: int) -> set[tuple[str, ...]]:
    """All runs of n words; of a shorter text, all its words at once."""
    parts = text.split()
    if len(parts) < n:
        return {tuple(parts)} if parts else set()
    return {tuple(parts[at : at + n]) for at in range(len(parts) - n + 1)}


def jaccard(one: str, other: str) -> float:
    left, right = runs(one, 3), runs(other, 3)
    numbers = [[word for word in text.split() if word.isdecimal()] for text in (one, other)]
    return len(left & right) / len(left | right) if left | right and numbers[0] == numbers[1] else 0.0


def near_twin(given: list[str], threshold: float) -> dict[int, int]:
    found: dict[int, int] = {}
    for later in range(len(given)):
        for earlier in range(later):
            if earlier not in found and jaccard(given[earlier], given[later]) >= threshold:
                found[later] = earlier
                break
    return found


# The misses of MinHash are rare but there are some: the same examples each time.
@settings(derandomize=True, max_examples=300, deadline=None)
@given(texts, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@example(["a b a b a b a b", "a b a c d"], 0.3)
def test_near_duplicates_are_those_of_the_exact_jaccard_index(given: list[str], threshold: float) -> None:
    assert near(given, threshold) == near_twin(given, threshold)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_minhash_misses_no_pair_of_many_that_lie_on_both_sides_of_the_threshold(threshold: float) -> None:
    draw = random.Random(1)
    vocabulary = [f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    made = [" ".join(draw.choices(vocabulary, k=draw.randint(20, 60))) for _ in range(150)]
    for text in made[:]:
        parts = text.split()
        for at in draw.sample(range(len(parts)), draw.randint(1, 4)):
            parts[at] = draw.choice(vocabulary)
        made.append(" ".join(parts))
    expected = near_twin(made, threshold)
    assert 10 < len(expected) < 150
    assert near(made, threshold) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8, 0.95, 1.0])
def test_the_bands_miss_one_pair_in_ten_thousand(threshold: float) -> None:
    bands, rows = shape(threshold)
    assert bands * rows <= 128
    assert (1 - threshold**rows) ** bands <= 1e-4


def test_more_copies_than_are_compared_with_each_other_are_all_found() -> None:
    made = ["one two three four five six seven eight"] * 500
    assert near(made, 0.8) == dict.fromkeys(range(1, 500), 0)


def test_a_copy_of_a_copy_stays_when_it_is_unlike_what_stays() -> None:
    made = ["a b c d e f g h", "a b c d e f g x", "z b c d e f g x"]
    assert [round(jaccard(*pair), 2) for pair in ((made[0], made[1]), (made[1], made[2]), (made[0], made[2]))] == [
        0.71,
        0.71,
        0.5,
    ]
    assert near(made, 0.7) == {1: 0}


def test_questions_that_differ_in_a_figure_are_different() -> None:
    story = "Ada has {} boxes of keys, she gives {} away, and in the end she buys {} more of them. How many has she {}?"
    made = [story.format(5, 2, 1, "now"), story.format(5, 2, 9, "now"), story.format(5, 2, 1, "then")]
    assert near(made, 0.7) == {2: 0}
    signs = ["what do you get when you work out the sum 3 {} 4 {} 2".format(*pair) for pair in ("+*", "*+")]
    assert near(signs, 0.1) == {}


def test_exact_duplicates_differ_in_case_and_spaces_only() -> None:
    made = ["What is 2²?", "what  is 2²? ", "What is 22?", "e\u0301t\u00e9", "\u00e9te\u0301", "2 + 3", "2 * 3", "2+3"]
    assert exact(made) == {1: 0, 4: 3}


@settings(derandomize=True, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6))
@example(["Don't", "", "a\x1cb\x1f_c\x0b+-1.5e3", "É 3 個\u0301", "  "])
@example(["".join(map(chr, range(128)))])
def test_a_hashed_text_is_its_words_however_it_is_taken_apart(given: list[str]) -> None:
    hashed = hash_texts(given)
    assert hashed.lengths.tolist() == [len(words(text)) for text in given]
    alone = {word: hash_texts([f"\u00e9 {word}"]).words[1:].tolist() for text in given for word in words(text)}
    assert hashed.words.tolist() == [number for text in given for word in words(text) for number in alone[word]]


def test_figures_are_compared_in_their_order_and_place() -> None:
    same = figures(hash_texts(["a 1 b 2", "x 1 y 2", "2 and 1", "1 2 3", "none", "no", "1\u00bd", "é 1 é 2"])).tolist()
    assert same[0] == same[1] == same[7] and same[4] == same[5]
    assert len(set(same)) == 5


def test_words_are_of_every_script_and_symbols_count() -> None:
    assert words("Don't pay €5, x+y=Z!") == ["don", "t", "pay", "€", "5", "x", "+", "y", "=", "z"]
    assert words("3个苹果 kosten 5") == ["3", "个", "苹", "果", "kosten", "5"]


@settings(deadline=None)
@given(texts, texts, st.integers(1, 5))
@example(["a b"], ["a b c"], 3)
@example(["x a b c"], ["a b c"], 4)
def test_contamination_is_a_common_run_of_words(given: list[str], evaluation: list[str], n: int) -> None:
    expected = {}
    for at, text in enumerate(given):
        hits = [other for other, found in enumerate(evaluation) if runs(text, n) & runs(found, n)]
        if hits:
            expected[at] = hits[0]
    assert contaminated(given, evaluation, n) == expected


@pytest.mark.parametrize("n", [8, 13])
def test_a_planted_ngram_is_found_and_one_word_less_is_not(n: int) -> None:
    draw = random.Random(n)

    def fresh(count: int) -> list[str]:
        return [f"u{draw.getrandbits(60)}" for _ in range(count)]

    evaluation = [fresh(draw.randint(n, 60)) for _ in range(40)]
    made, expected = [], {}
    for at in range(200):
        source = draw.randrange(40)
        start = draw.randrange(len(evaluation[source]) - n + 1)
        length = n - at % 2
        made.append(
            fresh(draw.randint(0, 30)) + evaluation[source][start : start + length] + fresh(draw.randint(0, 30))
        )
        if length == n:
            expected[at] = source
    assert contaminated([" ".join(t) for t in made], [" ".join(t) for t in evaluation], n) == expected


LONG = "a question of the test set that has a good many words in it indeed"
ASKED = [("Where is it?", "train"), (LONG, "test"), ("Only to practise", "fresh")]
SAMPLES: list[Row] = [
    sample("Where is the house?", "x\nAnswer: 1", index=0),
    sample("Where is the house?", "y\nAnswer: 2", index=1, verdict="incorrect"),
    sample("where is  the house?", "z\nAnswer: 1"),
    sample("Tell me where on earth the big old brown wooden house of my dear uncle stands", "Answer: 1"),
    sample("Tell me where on earth the big old brown wooden house of my dear aunt stands", "Answer: 1"),
    sample(f"This is {LONG}", "Answer: 4"),
    sample("Too hard for it?", "Answer: 5", verdict="incorrect"),
    sample("Is this cut?", "never end", truncated=True, verdict="undecided"),
    sample("Is this long-winded?", "so on and on and on and on and on\nAnswer: 1"),
    sample("Short", "Answer: 1"),
]
REASONS = {
    2: ("duplicate question", 0),
    4: ("near-duplicate question", 3),
    5: ("13-gram of an evaluation question", None),
    6: ("pass rate", None),
    7: ("truncated response", None),
    8: ("long response", None),
    9: ("short question", None),
}
LIMITS: dict[str, Any] = {
    "ngrams": [8, 13],
    "max_tokens": 8,
    "min_words": 2,
    "pass_rate": (0.5, 1.0),
    "near_duplicates": 0.5,
}


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    return triples(tmp_path / "data", SAMPLES, parents=[questions(tmp_path / "data", ASKED)])


def read(artifact: Artifact, name: str) -> pl.DataFrame:
    return pl.read_parquet(artifact.path / f"{name}.parquet")


def test_every_sample_stays_or_is_rejected_with_its_reason(made: Artifact) -> None:
    curated = curate(made, limits(**LIMITS))
    stays = [row["sample_id"] for at, row in enumerate(SAMPLES) if at not in REASONS]
    assert read(curated, "triples")["sample_id"].to_list() == stays
    rejects = read(curated, "rejects")
    reasons = dict(rejects.select("sample_id", "reject_reason").iter_rows())
    assert reasons == {SAMPLES[at]["sample_id"]: reason for at, (reason, _) in REASONS.items()}
    details = dict(rejects.select("sample_id", "reject_detail").iter_rows())
    for at, (_, kept) in REASONS.items():
        if kept is not None:
            assert details[SAMPLES[at]["sample_id"]] == SAMPLES[kept]["question_id"]
    verdicts = dict(rejects.select("sample_id", "verdict").iter_rows())
    assert verdicts == {SAMPLES[at]["sample_id"]: SAMPLES[at]["verdict"] for at in REASONS}
    metrics = curated.manifest.metrics
    assert isinstance(metrics, dict)
    assert metrics["rejected"] == {reason: 1 for reason, _ in REASONS.values()}
    assert metrics["verdicts"] == {"correct": 2, "incorrect": 1} and curated.manifest.rows == len(stays)


def test_rows_are_unchanged_and_the_side_tables_fit(made: Artifact) -> None:
    curated = curate(made, limits(**LIMITS))
    kept, source = read(curated, "triples"), read(made, "triples")
    rejects = read(curated, "rejects").drop("verdict", "reject_reason", "reject_detail")
    assert pl.concat([kept, rejects]).sort("sample_id").equals(source.sort("sample_id"))
    assert set(read(curated, "verdicts")["sample_id"]) == set(kept["sample_id"])
    assert set(read(curated, "aggregates")["question_id"]) == set(kept["question_id"])
    import pyarrow.parquet as pq

    assert pq.read_schema(curated.path / "triples.parquet").equals(schema.TRIPLES.arrow)
    assert pq.read_schema(curated.path / "rejects.parquet").equals(schema.REJECTS.arrow)


def test_a_curated_artifact_has_its_lineage_and_is_made_once(made: Artifact) -> None:
    curated = curate(made, limits(**LIMITS))
    assert [parent.stage for parent in curated.manifest.parents] == ["triples", "questions"]
    assert curated.manifest.parents[0].fingerprint == made.fingerprint
    assert curated.id.startswith("triples/made.curated-")
    assert curate(made, limits(**LIMITS)).cached
    assert curate(made, limits()).fingerprint != curated.fingerprint
    verify(made)


def test_what_is_curated_is_exported_and_curated_again(made: Artifact, tmp_path: Path) -> None:
    curated = curate(made, limits(**LIMITS))
    again = curate(curated, limits(max_words=10))
    assert again.path.name.startswith("made.curated-") and again.manifest.rows == 2
    export(again, Request("messages", Selection("all")), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for artifact in (again, curated, made):
        assert artifact.fingerprint[:16] in card


def test_without_limits_only_copies_and_leaks_go(made: Artifact) -> None:
    free = limits(keep_truncated=True, ngrams=[], duplicates=False, near_duplicates=0)
    assert curate(made, free).manifest.rows == len(SAMPLES)
    fresh = curate(made, limits(keep_truncated=True, against=["fresh"], duplicates=False, near_duplicates=0))
    assert fresh.manifest.rows == len(SAMPLES)


def test_the_question_that_stays_is_one_that_has_a_sample_left(tmp_path: Path) -> None:
    rows = [sample("Why?", "never", truncated=True), sample("why?", "so\nAnswer: 1")]
    artifact = triples(tmp_path, rows, parents=[questions(tmp_path, ASKED)])
    assert read(curate(artifact, limits()), "triples")["question"].to_list() == ["why?"]


def test_what_cannot_be_curated_is_one_sentence(made: Artifact, tmp_path: Path) -> None:
    [asked] = [artifact for artifact in Store(tmp_path / "data").all() if artifact.stage == "questions"]
    with pytest.raises(CurationError, match="no triples"):
        curate(asked, limits())
    with pytest.raises(CurationError, match=r"nothing .*short question: 9.*loosen"):
        curate(made, limits(min_words=99))
    assert Store(tmp_path / "data").partial() == []
    with pytest.raises(CurationError, match="min_words 3 is above max_words 2"):
        limits(min_words=3, max_words=2)
    with pytest.raises(CurationError, match="'near_duplicates' is 2"):
        limits(near_duplicates=2)
    with pytest.raises(CurationError, match="names no questions"):
        curate(triples(tmp_path / "data", SAMPLES[:1]), limits())
    asked.path.rename(tmp_path / "gone")
    with pytest.raises(CurationError, match="--until questions"):
        curate(made, limits())


def test_damaged_triples_are_not_curated(made: Artifact) -> None:
    with (made.path / "triples.parquet").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DamagedFileError, match=r"triples\.parquet"):
        curate(made, limits())
