"""What a command reads beside the artifact that it was given is verified too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.core.errors import CurationError, DamagedFileError
from cohobate.datasets import diff
from cohobate.report.sample_rows import sample_rows
from cohobate.stages import curation, labels, regeneration
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.origins import origin
from tests.support import made_triples
from tests.support.artifacts import make

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


DAMAGES: list[Damage] = [cut, flip, Path.unlink]


def test_an_origin_is_found_whole_and_what_is_gone_is_none(data: Path) -> None:
    questions = make("questions", "questions")
    triples = make("triples", "triples", questions)
    found = origin(triples, "questions")
    assert found is not None and found.fingerprint == questions.fingerprint
    assert origin(triples, "sft") is None and origin(questions, "questions") is None
    questions.path.rename(data / "elsewhere")
    assert origin(triples, "questions") is None


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("file", ["file", "manifest.json"])
def test_an_altered_origin_is_named(damage: Damage, file: str, data: Path) -> None:
    questions = make("questions", "questions")
    triples = make("triples", "triples", questions)
    damage(questions.path / file)
    with pytest.raises(DamagedFileError, match=f"{questions.path.name}/{file} .*run its recipe again"):
        origin(triples, "questions")


def dataset(data: Path) -> tuple[Artifact, Artifact, Artifact]:
    """Questions, their triples, and labels of these."""
    asked = made_triples.questions(data, [("2 + 3?", "train"), ("3 + 3?", "test")])
    rows = [made_triples.sample("2 + 3?", "Therefore\nAnswer: 5", gold_answer="5")]
    triples = made_triples.triples(data, rows, recipe=Recipe(name="made"), parents=[asked])
    return asked, triples, labels.relabel(triples, {"name": "exact"})


@pytest.mark.parametrize("damage", DAMAGES)
def test_altered_questions_are_not_read_for_others(damage: Damage, data: Path) -> None:
    asked, triples, _ = dataset(data)
    path = asked.path / "questions.parquet"
    damage(path)
    with pytest.raises(DamagedFileError, match=f"{asked.path.name}/questions.parquet"):
        curation.curate(triples, curation.settings())
    with pytest.raises(DamagedFileError, match=f"{asked.path.name}/questions.parquet"):
        regeneration.questions_of(triples)
    (asked.path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(DamagedFileError, match=f"{asked.path.name}/manifest.json"):
        curation.curate(triples, curation.settings())
    asked.path.rename(data / "elsewhere")
    with pytest.raises(CurationError, match="not stored any more"):
        curation.curate(triples, curation.settings())


@pytest.mark.parametrize("damage", DAMAGES)
def test_altered_triples_are_not_read_for_their_labels(damage: Damage, data: Path) -> None:
    _, triples, labelled = dataset(data)
    assert len(sample_rows(labelled).collect()) == 1 and diff.read(labelled).samples.height == 1
    damage(triples.path / "triples.parquet")
    reads: list[Callable[[Artifact], object]] = [sample_rows, diff.read]
    for read in reads:
        with pytest.raises(DamagedFileError, match=f"{triples.path.name}/triples.parquet"):
            read(labelled)
    with pytest.raises(DamagedFileError, match=f"{triples.path.name}/triples.parquet"):
        diff.read(triples)
    with pytest.raises(DamagedFileError, match=f"{triples.path.name}/triples.parquet"):
        regeneration.dataset("made")
    assert len(Store().all()) == 3
