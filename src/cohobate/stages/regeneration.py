"""Regeneration: the triples to replace, and the recipe that asks another teacher the same questions."""

from __future__ import annotations

from dataclasses import replace

from cohobate.config import Recipe, TeacherAccess, TeacherKind
from cohobate.config.load import make_recipe
from cohobate.core.errors import RecipeError, StoreError
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.origins import origin
from cohobate.store.promotion import promoted


class NewTeacher(TeacherAccess):
    """The teacher of the new dataset; an empty field keeps the old teacher's value, or a recipe's default."""

    kind: TeacherKind = "local"
    """local: through transformers. vllm: through a vLLM engine. endpoint: an OpenAI-compatible server."""
    model: str
    """local, vllm: a Hugging Face folder or a shipped name. endpoint: the name that the server knows it by."""
    base_url: str | None = None
    """endpoint: its address, up to /v1."""
    api_key_env: str | None = None
    """endpoint: name of the environment variable, or of the Secret block, that holds the key: never the key."""
    provider: str | None = None
    """endpoint: who serves it, in your words."""
    revision: str | None = None
    """endpoint: which version of the model, in your words: a new one asks everything again."""
    batch: bool = False
    """endpoint: ask in batches, which take up to 24 hours, at a lower price."""
    prompt: str | None = None
    """The user message; {question} is replaced. Empty: the old one's."""


def dataset(name: str) -> Artifact:
    """The triples of an id or its beginning, or of a recipe's name: the promoted ones, else the newest.

    Raises StoreError where there are none, or where they are curated, so that no teacher wrote them directly.
    """
    store = Store()
    pointer = promoted(name)
    if pointer and "triples" in pointer.fingerprints:
        triples = store.open(pointer.fingerprints["triples"])
    else:
        of_recipe = [a for a in store.all() if a.stage == "triples" and a.manifest.recipe == name]
        triples = store.open((of_recipe[-1] if of_recipe else store.find(name)).id)
    if triples.stage != "triples":
        raise StoreError(f"{triples.id} holds no triples; `cohobate ls` lists those that begin with triples/")
    if triples.manifest.recipe.endswith(".curated"):
        source = triples.manifest.parents[0].id
        raise StoreError(f"{triples.id} is curated from {source}; regenerate that, and curate what comes of it")
    return triples


def recipe_of(old: Artifact, teacher: NewTeacher) -> Recipe:
    """The recipe of `old` with another teacher. Raises RecipeError for an invalid teacher."""
    values = {name: value for name, value in old.manifest.config.items() if name not in ("teachers", "route")}
    changes = {name: value for name, value in teacher.model_dump().items() if value is not None}
    first, *others = old.manifest.config.get("teachers") or [values["teacher"]]
    prompts = [{name: each.get(name) for name in ("prompt", "system")} for each in (first, *others)]
    if teacher.prompt is None and any(each != prompts[0] for each in prompts):
        raise RecipeError(f"the teachers of {old.id} were asked by different prompts; give the new one's prompt")
    values["teacher"] = {**prompts[0], **changes}
    values["opd"] = {name: value for name, value in values["opd"].items() if name != "mixture"}
    if teacher.is_endpoint:  # it scores no tokens, and only triples are made here
        values["opd"] = {**values["opd"], "steps": 0}
        values["sft"] = {name: value for name, value in values["sft"].items() if name != "objective"}
    return make_recipe(values, f"the recipe of {old.id} with the new teacher")


def questions_of(old: Artifact) -> Artifact | None:
    """The questions artifact that `old` answers, if it is still stored. Raises DamagedFileError."""
    questions = origin(old, "questions")
    return None if questions is None else replace(questions, cached=True)
