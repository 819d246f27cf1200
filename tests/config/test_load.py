"""Recipes from files and overrides, and the one sentence on each mistake in them."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Compare, Experiment, Recipe, Recover, Single, Student, TinyPolicySettings
from cohobate.config.load import changed, load_recipe
from cohobate.core.errors import RecipeError
from cohobate.core.shipped import shipped_recipes
from tests.support.source_tree import modules


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_survives_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_overrides_are_toml_values_and_bare_words() -> None:
    recipe = load_recipe("tiny", ["opd.steps=50", "opd.objective=sampled", "opd.advantage_clip=3.5"])
    assert (recipe.opd.steps, recipe.opd.objective, recipe.opd.advantage_clip) == (50, "sampled", 3.5)


def refusal(name: str | Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(name), overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("opd.step=3", ["unknown key 'opd.step'", "did you mean 'opd.steps'"]),
        ("odp.steps=3", ["unknown key 'odp'", "did you mean 'opd'"]),
        ("opd.steps=-1", ["'opd.steps' is -1", "greater than or equal to 0"]),
        ("sft.lr=fast", ["'sft.lr' is 'fast'", "number"]),
        ("opd.temperature=0.7", ["opd", "temperature is 0.7", "at 1"]),
        ("sft.warmup=500", ["sft", "warmup 500"]),
        ("sft.format=plain", ["plain", "opd.steps = 0"]),
        ("questions.path=a.csv", ["path is set", "source = 'file'"]),
        ("questions.source=file", ["needs a path"]),
        ("teacher.prompt=hello", ["prompt", "{question}"]),
        ("triples.samples=0", ["'triples.samples' is 0"]),
        ("questions.max_depth=9", ["hard_depth"]),
        ("nonsense", ["--set nonsense", "section.key=value"]),
        ("opd=3", ["'opd' is 3", "a section", "[opd]"]),
        ("sft.lora.targets=q_proj", ["'sft.lora.targets'", "a list"]),
        (
            "teacher={kind='endpoint', model='m', base_url='http://host:99999/v1'}",
            ["host:99999/v1' is no"],
        ),
        ("curation.pass_rate=[0.9, 0.1]", ["curation", "[0.1, 0.9]"]),
        ("triples.verifier={name='judge', judge={modle='m'}}", ["judge.modle'", "did you mean", "judge.model'"]),
    ],
)
def test_a_wrong_setting_is_one_sentence(override: str, parts: list[str]) -> None:
    message = refusal("tiny", override)
    for part in parts:
        assert part in message


ENDPOINT = ("teacher.kind=endpoint", "teacher.model=m", "teacher.base_url=http://host/v1", "opd.steps=0")


@pytest.mark.parametrize(
    "override",
    [
        "teacher.base_url=http://user:sk-verysecret@host/v1",
        "teacher.base_url=user:sk-verysecret@host/v1",
        "teacher.base_url='http://host/v1?key=sk-verysecret'",
        "teacher.base_url='http://host/v1#sk-verysecret'",
        "teacher.api_key_env=sk-verysecret",
        "teacher.api_key_env=['sk-verysecret']",
        "teacher.api_key=sk-verysecret",
        "teacher.extra={api_key='sk-verysecret'}",
        "teacher.extra={extra_headers={Authorization='Bearer sk-verysecret'}}",
        "teacher.extra={tools=[{header='Bearer sk-verysecret'}]}",
    ],
)
def test_a_key_in_a_recipe_is_refused_and_never_repeated(override: str) -> None:
    assert "sk-verysecret" not in refusal("tiny", *ENDPOINT, override)


def test_further_parameters_may_not_belie_what_is_recorded() -> None:
    assert "extra.temperature" in refusal("tiny", *ENDPOINT, "teacher.extra={temperature=0.2}")
    assert "extra.n " in refusal("tiny", *ENDPOINT, "teacher.extra={n=4}")
    harmless = "teacher.extra={reasoning_effort='low', max_thinking_tokens=5}"
    assert load_recipe("tiny", [*ENDPOINT, harmless]).teacher.extra["max_thinking_tokens"] == 5
    assert "extra.top_p" in refusal("tiny", *ENDPOINT, "teacher.extra={top_p=0.9}")
    assert "extra.top_k" in refusal("tiny", *ENDPOINT, "teacher.extra={top_k=20}")
    assert "extra.top_k" in refusal("tiny", "teacher.kind=vllm", "teacher.extra={top_k=0}")
    neutral = load_recipe("tiny", [*ENDPOINT, "teacher.extra={top_p=1, top_k=0}"]).teacher
    assert neutral.extra == {"top_p": 1, "top_k": 0}


def test_a_missing_recipe_names_the_shipped_ones() -> None:
    assert "arithmetic" in refusal("no-such-recipe")
    assert "did you mean 'tiny'" in refusal("tinny")


def test_malformed_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[opd]\nsteps = = 3\n")
    assert "line 2" in refusal(path)


def test_a_recipe_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes('description = "caf\u00e9"'.encode("latin-1"))
    assert "not UTF-8" in refusal(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_a_change_keeps_what_it_does_not_name_and_leaves_the_original() -> None:
    recipe = load_recipe("tiny")
    other = changed(recipe, {"opd": {"objective": "topk", "topk": {"k": 3}}, "student": Student(model="m")}, "here")
    assert other.opd.model_dump()["topk"]["k"] == 3 and other.opd.steps == recipe.opd.steps
    assert other.student == Student(model="m") and other.sft == recipe.sft
    assert recipe == load_recipe("tiny")
    assert changed(recipe, {}, "here") == recipe


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"opd": {"objective": "grpo", "group": 1}}, "here: opd: objective = 'grpo' compares"),
        ({"sft": {"stepz": 3}}, r"here: unknown key 'sft.stepz' - did you mean 'sft.steps'"),
    ],
)
def test_a_change_is_validated(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        changed(load_recipe("tiny"), changes, "here")


def test_a_section_is_changed_like_a_recipe() -> None:
    triples = load_recipe("tiny").triples
    assert changed(triples, {"attempts": 2}, "here").attempts == 2
    with pytest.raises(RecipeError, match="here: unknown key 'attemptz' - did you mean 'attempts'"):
        changed(triples, {"attemptz": 2}, "here")


@pytest.mark.parametrize("kind", [Compare, Recover, Single, TinyPolicySettings])
def test_an_experiments_section_is_there_or_a_shipped_recipe_is_named(kind: type[Experiment]) -> None:
    assert isinstance(load_recipe(kind.shipped).section(kind), kind)
    bare = Recipe()
    with pytest.raises(RecipeError, match=rf"no section \[{kind.key}\].* shipped recipe {kind.shipped}$"):
        bare.section(kind)


def test_nothing_changes_a_recipe_past_its_validation() -> None:
    root = Path(__file__).parents[2]
    tree = modules({root / "src" / "cohobate": root / "src", root / "tasks": root, root / "flows": root})
    copying = [name for name, module in tree.items() if "model_copy(" in module.path.read_text()]
    # Which copy records of runs and of batches, and no recipe.
    batches = ["cohobate.teachers.endpoint.batch_records", "cohobate.teachers.endpoint.batch_submission"]
    assert sorted(copying) == ["cohobate.report.run_rows", "cohobate.store.runs", *batches]


def test_paths_in_a_recipe_are_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the recipe's folder where they are there, else of the working folder, as are those on the command line."""
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
        (folder / "both.jsonl").touch()
    (there / "beside.jsonl").touch()
    (there / "part-1.jsonl").touch()
    (there / "student").mkdir()
    (there / "m").touch()
    recipe = there / "own.toml"
    monkeypatch.chdir(here)
    for written, found in (
        ("beside.jsonl", str(there / "beside.jsonl")),
        ("./beside.jsonl", str(there / "beside.jsonl")),
        ("both.jsonl", str(there / "both.jsonl")),
        ("part-*.jsonl", str(there / "part-*.jsonl")),
        ("nowhere.jsonl", "nowhere.jsonl"),
        ("hf:owner/name", "hf:owner/name"),
        (str(here / "both.jsonl"), str(here / "both.jsonl")),
    ):
        recipe.write_text(f"[questions]\nsource = 'file'\npath = '{written}'\n[student]\nmodel = 'student'\n")
        for name in (str(recipe), "../there/own.toml"):
            loaded = load_recipe(name)
            assert (loaded.questions.path, loaded.student.model) == (found, str(there / "student"))
    assert load_recipe(str(recipe), ["questions.path=beside.jsonl"]).questions.path == "beside.jsonl"
    recipe.write_text("opd.steps = 0\n[teacher]\nkind = 'endpoint'\nmodel = 'm'\nbase_url = 'http://127.0.0.1:1/v1'\n")
    assert load_recipe(str(recipe)).teacher.model == "m"  # the name that a server knows
