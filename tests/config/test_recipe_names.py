"""A recipe's name: that of its file, as far as folders can have it."""

from pathlib import Path

import pytest

from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError


def named(folder: Path, file: str, *overrides: str) -> str:
    path = folder / file
    path.write_text("[questions]\ntrain = 8\n")
    return load_recipe(str(path), overrides).name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("qwen-2.5_small.toml", "qwen-2.5_small"),
        ("first try (2).toml", "first-try-2"),
        ("Élan--vital.toml", "Elan--vital"),
        ("_draft.toml", "draft"),
        (".hidden.toml", "hidden"),
        ("x.damaged.toml", "x.damaged"),
        ("a/b.toml".replace("/", "\\"), "a-b"),
    ],
)
def test_the_files_name_is_taken(file: str, name: str, tmp_path: Path) -> None:
    assert named(tmp_path, file) == name


@pytest.mark.parametrize(
    ("file", "overrides", "words"),
    [
        ("試験.toml", [], ["no name can be made", "set name"]),
        ("a" * 150 + ".toml", [], ["150 characters", "100 are the most"]),
        ("a.toml", [f"name={'b' * 400}"], ["400 characters", "shorten"]),
        ("a.toml", ["name=my recipe"], ["'my recipe' is no name", "hyphens"]),
        ("a.toml", ["name=../up"], ["'../up' is no name"]),
        ("a.toml", ["name='-x'"], ["'-x' is no name", "begins with"]),
        ("a.toml", [f"name='{'/' * 500}'"], ["is no name", "..."]),
    ],
)
def test_a_name_that_no_folder_can_have_is_one_sentence(
    file: str, overrides: list[str], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as refused:
        named(tmp_path, file, *overrides)
    said = str(refused.value)
    assert all(word in said for word in words) and len(said) < 400 and "pattern" not in said


def test_a_file_that_says_its_name_may_be_called_anything(tmp_path: Path) -> None:
    assert named(tmp_path, "試験.toml", "name=exam") == "exam"
