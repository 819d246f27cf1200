"""Curation in the pipeline: sources at a ratio, languages, and the section [curation] of a recipe."""

import json
import shutil
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Curation, Mix, Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import CurationError, RecipeError, StoreError
from cohobate.datasets.curation.language_id import foreign
from cohobate.datasets.curation.mixing import mixed
from cohobate.datasets.selection import outline
from cohobate.report.facts import curation_of
from cohobate.stages import sft
from cohobate.stages.curation import curate, parts, settings
from cohobate.stages.preflight import check
from cohobate.store.artifacts import Artifact, Store
from tests.support.command import answer, refusal
from tests.support.made_triples import questions, sample, triples
from tests.support.pipeline import Finished

FREE: dict[str, Any] = {"ngrams": [], "duplicates": False, "near_duplicates": 0.0, "keep_truncated": True}
samples = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(1, 9)), max_size=40)
weights = st.lists(st.sampled_from([1, 2, 3, 7.5]), min_size=2, max_size=2)


@given(samples, weights, st.sampled_from(["rows", "tokens"]), st.integers(0, 3))
def test_a_mix_keeps_as_much_as_the_scarcest_part_allows(
    rows: list[tuple[int, str, int]], weights: list[float], by: Any, seed: int
) -> None:
    frame = pl.DataFrame(rows, ["artifact", "source_name", "completion_tokens"], orient="row")
    mix = Mix(by=by, seed=seed, parts=({"source": "a", "weight": weights[0]}, {"weight": weights[1]}))

    def part(row: tuple[int, str, int]) -> int:
        return -1 if row[0] else 0 if row[1] == "a" else 1

    size = [0.0, 0.0]
    for row in rows:
        if part(row) >= 0:
            size[part(row)] += row[2] if by == "tokens" else 1
    if not all(size):
        with pytest.raises(CurationError, match="no sample is left for"):
            mixed(frame, mix, [0, 0])
        return
    reasons = mixed(frame, mix, [0, 0])["reason"].to_list()
    kept = [0.0, 0.0]
    for row, reason in zip(rows, reasons, strict=True):
        if part(row) < 0:
            assert reason == "no part of the mix"
        elif reason is None:
            kept[part(row)] += row[2] if by == "tokens" else 1
    scale = min(size[0] / weights[0], size[1] / weights[1])
    for number in (0, 1):
        short = weights[number] * scale - kept[number]
        assert -1e-9 <= short < (9 if by == "tokens" else 1)
    assert kept[0] == size[0] or kept[1] == size[1]  # of the scarcest nothing is lost


def test_another_seed_takes_other_samples() -> None:
    frame = pl.DataFrame({"artifact": 0, "source_name": ["a"] * 100 + ["b"] * 10, "completion_tokens": 1})
    given_parts = ({"source": "a", "weight": 1}, {"source": "b", "weight": 1})
    taken = [mixed(frame, Mix(seed=s, parts=given_parts), [0, 0])["reason"].to_list() for s in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]
    assert all(reasons.count(None) == 20 for reasons in taken)


def rows(name: str, count: int, **values: Any) -> list[Any]:
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    texts = (" ".join(each) for each in product(words, repeat=3))
    return [sample(f"{name} {next(texts)}?", f"because\nAnswer: {i}", **values) for i in range(count)]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Artifact, Artifact]:
    asked = [questions(tmp_path, [("To be tested?", "test")])]
    chat = rows("chat", 40, source_name="chat") + rows("more", 5, source_name="other")
    first = triples(tmp_path, chat, parents=asked)
    second = triples(
        tmp_path, [*rows("manual", 30, source_name="manual", verifier="judge"), *chat[:7]], Recipe(name="manual")
    )
    return first, second


def test_artifacts_are_mixed_at_a_ratio_and_every_sample_has_its_reason(two: tuple[Artifact, Artifact]) -> None:
    first, second = two
    config = settings(**FREE, mix={"parts": [{"weight": 40, "source": "chat"}, {"weight": 60, "triples": second.id}]})
    made = curate(first, config)
    assert [parent.id for parent in made.manifest.parents][:2] == [first.id, second.id]
    metrics = made.manifest.metrics
    assert isinstance(metrics, dict)
    assert metrics["sources"] == {"manual": 30, "chat": 20} and made.manifest.rows == 50
    assert metrics["rejected"] == {
        "beyond its share of the mix": 20,
        "sample of an earlier artifact": 7,
        "no part of the mix": 5,
    }
    kept = pl.read_parquet(made.path / "triples.parquet")
    rejects = pl.read_parquet(made.path / "rejects.parquet")
    assert len(kept) + len(rejects) == 45 + 37 and kept["sample_id"].is_unique().all()
    # Judged by different verifiers, but no sample by two: policies need no name.
    assert set(outline(made.path)["verdict"]) == {"correct"} and metrics["verifier"] is not None
    assert curate(first, settings(**FREE, mix=config.mix.model_dump())).cached


def test_the_name_of_a_mixed_artifact_may_be_given_in_any_form(two: tuple[Artifact, Artifact]) -> None:
    first, second = two
    made = [
        curate(first, settings(**FREE, mix={"parts": [{"weight": 1}, {"weight": 1, "triples": name}]}))
        for name in (second.id, second.fingerprint, "manual-")
    ]
    assert [artifact.cached for artifact in made] == [False, True, True]


def test_pass_rates_of_a_question_in_several_artifacts_are_pooled(tmp_path: Path) -> None:
    asked = [questions(tmp_path, [("To be tested?", "test")])]
    verdicts = [["correct", "incorrect", "incorrect"], ["correct"], ["undecided"]]
    made = [
        triples(
            tmp_path,
            [sample("What?", f"{n}\nAnswer: 1", index=i, verdict=v) for i, v in enumerate(each)],
            Recipe(name=f"t{n}"),
            asked,
        )
        for n, each in enumerate(verdicts)
    ]
    mix = {"parts": [{"weight": 1, "triples": artifact.id} for artifact in made]}
    curated = curate(made[0], settings(**FREE, mix=mix))
    row = pl.read_parquet(curated.path / "aggregates.parquet").row(0, named=True)
    assert (row["n"], row["n_correct"], row["pass_rate"]) == (5, 2, pytest.approx(2 / 4))
    with pytest.raises(CurationError, match="pass rate: 5"):
        curate(made[0], settings(**FREE, mix=mix, pass_rate=(0.6, 1.0)))


ENGLISH = "How many of the apples does Ada have left when she has given two of them to her brother?"
GERMAN = "Wie viele der Äpfel hat Anna noch übrig, wenn sie ihrem Bruder zwei davon gegeben hat?"
CHINESE = "如果安娜把两个苹果给了她的弟弟，她还剩下多少个苹果？请一步一步地思考。"
FORMULA = "$\\frac{1}{2} x^2 + 3 = 7$, 12 * (3 + 4) = ?"


def test_texts_in_another_language_are_told_and_formulae_are_in_none() -> None:
    texts = [ENGLISH, GERMAN, CHINESE, FORMULA, "Solve for x", "", None, "```\nfür alle Zeilen und Spalten\n```"]
    assert foreign(texts, ["en"]) == {1: "de", 2: "zh"}
    assert foreign(texts, ["en", "de"]) == {2: "zh"}
    # A teacher that changes the language half way.
    assert foreign([f"{ENGLISH * 8} {CHINESE * 40}"], ["en"]) == {0: "zh"}
    with pytest.raises(CurationError, match="'xx' is not known"):
        foreign(texts, ["xx"])


def test_questions_and_responses_in_another_language_are_rejected(tmp_path: Path) -> None:
    made = [sample(ENGLISH, "Answer: 1"), sample(GERMAN, "Answer: 1"), sample("What is 2 + 3?", CHINESE)]
    artifact = triples(tmp_path, made, parents=[questions(tmp_path, [("To be tested?", "test")])])
    curated = curate(artifact, settings(**FREE, languages=["en"]))
    found = pl.read_parquet(curated.path / "rejects.parquet").select("question", "reject_reason", "reject_detail")
    assert set(found.iter_rows()) == {
        (GERMAN, "question in another language", "de"),
        ("What is 2 + 3?", "response in another language", "zh"),
    }


def test_a_recipe_learns_from_what_its_curation_keeps(finished: Finished, tiny: Recipe, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(finished.root, root)
    taught, asked = (Store(root).find(finished.artifacts[stage].id) for stage in ("triples", "questions"))
    free = {**FREE, "pass_rate": (1.0, 1.0)}
    changes = {"curation": Curation.model_validate(free), "sft": tiny.sft.model_copy(update={"steps": 0, "warmup": 0})}
    recipe = tiny.model_copy(update=changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(root))
        assert sft.train(tiny, taught, asked).cached  # without the section nothing is new
        student = sft.train(recipe, taught, asked)
    [learnt] = [parent for parent in student.manifest.parents if parent.stage == "triples"]
    assert learnt.id != taught.id and learnt.id.startswith("triples/tiny.curated-")
    found = Store(root).find(learnt.fingerprint)
    right = pl.read_parquet(taught.path / "verdicts.parquet").filter(pl.col("verdict") == "correct")
    assert set(pl.read_parquet(found.path / "triples.parquet")["sample_id"]) == set(right["sample_id"])
    assert curate(taught, settings(**free)).cached  # the command line makes the same artifact
    assert student.manifest.named_metrics["triples"] == len(right)
    said = curation_of({"sft": student, "triples": taught})
    assert said is not None and said["samples"] == len(right)
    assert said["rejects"] == len(pl.read_parquet(taught.path / "triples.parquet")) - len(right)
    Recipe.model_validate_json(recipe.model_dump_json())


def test_the_settings_of_a_recipe_serve_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[curation]\nnear_duplicates = 0.5\nngrams = [8]\n[curation.mix]\nby = 'tokens'\n"
        "parts = [{weight = 70}, {weight = 30, triples = 'manual'}]\n"
    )
    config = load_recipe(str(path)).curation
    assert config is not None and config.mix.parts[1].triples == "manual"
    assert settings(str(path)) == config
    changed = settings(str(path), max_words=9, near_duplicates=None, mix={"parts": None, "by": "rows"})
    assert (changed.max_words, changed.near_duplicates, changed.mix.by) == (9, 0.5, "rows")
    assert changed.mix.parts == config.mix.parts
    assert settings() == Curation()
    with pytest.raises(CurationError, match=r"tiny has no section \[curation\]"):
        settings("tiny")


def test_the_parts_of_a_mix_are_written_in_a_line() -> None:
    assert parts(["70", "30:triples/manual-1a2b", "1::handbook", "2:x:a:b"]) == [
        {"weight": 70.0, "triples": None, "source": None},
        {"weight": 30.0, "triples": "triples/manual-1a2b", "source": None},
        {"weight": 1.0, "triples": None, "source": "handbook"},
        {"weight": 2.0, "triples": "x", "source": "a:b"},
    ]
    with pytest.raises(CurationError, match="--mix manual: write it as weight"):
        parts(["manual"])


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("curation.mix.parts=[{weight=1}]", "a mix needs two parts"),
        ("curation.mix.parts=[{weight=1},{weight=2}]", "two parts of the mix are the same"),
        ("curation.mix.parts=[{weight=0},{weight=2,source='a'}]", "greater than 0"),
        ("curation.languages=['English']", "curation.languages"),
        ("curation.min_wordz=3", "did you mean 'curation.min_words'"),
    ],
)
def test_a_mistake_in_the_section_is_one_sentence(override: str, part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tiny", [override])
    assert part in str(caught.value)


def test_what_a_mix_needs_is_missed_before_anything_is_spent(data: Path) -> None:
    recipe = load_recipe("tiny", ["curation.mix.parts=[{weight=1},{weight=1,triples='gone'}]"])
    found = {item.name: item for item in check(recipe, [])}
    assert not found["curation"].passed and "no artifact 'gone'" in found["curation"].detail
    recipe = load_recipe("tiny", ["curation.languages=['xx']"])
    assert "'xx' is not known" in {item.name: item for item in check(recipe, [])}["curation"].detail
    assert {item.name: item.passed for item in check(load_recipe("tiny", ["curation.languages=['en']"]), [])}[
        "curation"
    ]


@pytest.mark.serves
def test_a_mix_of_something_else_is_one_sentence(two: tuple[Artifact, Artifact]) -> None:
    first, second = two
    root = first.path.parents[1]
    line = refusal("curate", first.id, "--mix", "1", "--mix", "1:questions/", data=root)
    assert "no triples artifact" in line
    with pytest.raises(StoreError, match="no artifact 'nothing'"):
        curate(first, settings(mix={"parts": [{"weight": 1}, {"weight": 1, "triples": "nothing"}]}))
    with pytest.raises(CurationError, match="no sample is left for source 'nowhere' of the triples"):
        curate(first, settings(**FREE, mix={"parts": [{"weight": 1}, {"weight": 1, "source": "nowhere"}]}))
    assert Store(root).partial() == []
    before = Counter(json.dumps(row) for row in answer("ls", data=root))
    line = refusal("curate", first.id, "--mix", "1", "--mix", f"1:{second.id}", "--mix-by", "bytes", data=root)
    assert "'mix.by' is 'bytes'" in line and Counter(json.dumps(row) for row in answer("ls", data=root)) == before
