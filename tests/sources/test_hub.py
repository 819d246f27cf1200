"""`hf:` datasets, read by the datasets library from local folders."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config.load import make_recipe
from cohobate.core.errors import QuestionsError
from cohobate.sources import hub
from cohobate.stages import questions as stage
from cohobate.store.artifacts import Artifact
from tests.support.question_files import many, save


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's cache lies in the test's folder, and no network is looked for."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def write(path: str, **hf: Any) -> Artifact:
    return stage.write(make_recipe({"questions": {"source": "file", "path": path, "hf": hf}}, "r"))


def texts(artifact: Artifact) -> list[str]:
    return pl.read_parquet(artifact.path / "questions.parquet")["question"].to_list()


def test_a_folder_of_the_hubs_layout_gives_the_split_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    save(many(3), folder / "train-00000-of-00001.parquet")
    save(many(9)[5:], folder / "test-00000-of-00001.parquet")
    path = f"hf:{folder.parent}"
    assert texts(write(path)) == [row["question"] for row in many(3)]
    assert texts(write(path, split="test[:2]")) == [row["question"] for row in many(7)[5:]]
    with pytest.raises(QuestionsError, match=r"cannot be loaded .*set questions\.hf\.split"):
        write(path, split="valid")


def test_what_save_to_disk_wrote_is_read_and_its_content_is_its_identity(data: Path, tmp_path: Path) -> None:
    import datasets

    rows = {name: [row[name] for row in many(5000)] for name in ("question", "gold_answer")}
    whole = datasets.Dataset.from_dict(rows)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "dict", num_shards={"train": 3})
    first = write(f"hf:{tmp_path / 'one'}")
    assert texts(first) == rows["question"]
    second = write(f"hf:{tmp_path / 'dict'}")
    assert second.cached and second.fingerprint == first.fingerprint
    whole.select(range(4999)).save_to_disk(tmp_path / "less")
    assert write(f"hf:{tmp_path / 'less'}").fingerprint != first.fingerprint
    with pytest.raises(QuestionsError, match=r"no split 'valid' \(it has: train, test\)"):
        write(f"hf:{tmp_path / 'dict'}", split="valid")


def test_a_name_that_cannot_be_reached_is_one_sentence(data: Path) -> None:
    with pytest.raises(QuestionsError) as caught:
        write("hf:nobody/nothing")
    message = str(caught.value)
    assert "\n" not in message and "hf:nobody/nothing cannot be loaded" in message and "hf:FOLDER" in message


def test_a_full_commit_identifies_a_dataset_without_loading_it() -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    settings = {"source": "file", "path": "hf:nobody/nothing", "hf": {"revision": commit}}
    recipe = make_recipe({"questions": settings}, "r")
    assert hub.identity("hf:nobody/nothing", recipe.questions.hf)["commit"] == commit


def test_without_the_library_the_remedy_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(QuestionsError, match=r"pip install 'cohobate\[hf\]'"):
        write("hf:nobody/nothing")
