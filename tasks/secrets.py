"""Keys from Prefect Secret blocks, where the environment does not hold them. No value is printed or recorded."""

import os
from typing import Any

from prefect.blocks.system import Secret

from cohobate.config import Recipe
from cohobate.report.trackers import KEYS


def keys_from_blocks(recipe: Recipe | None) -> None:
    """Put every key that `recipe` names in api_key_env, those of its trackers too, into this process's environment
    where that lacks it.

    The block of OPENAI_API_KEY is called openai-api-key: names of blocks have no underscores. For a key that is in
    neither place the stage that needs it raises the error.
    """
    trackers = {name for tracker in recipe.tracking.to for name in KEYS.get(tracker, ())} if recipe else set()
    for name in _key_names(recipe.model_dump()) | trackers if recipe else ():
        if name not in os.environ:
            value = secret(name)
            if value is not None:
                os.environ[name] = value


def secret(name: str) -> str | None:
    """The value of an environment variable, or else of the Secret block of that name; None: neither is there."""
    if name in os.environ:
        return os.environ[name]
    try:
        block = Secret.load(name.lower().replace("_", "-"))
    except ValueError:  # there is none of this name
        return None
    value = block.get()  # type: ignore[union-attr]
    return value if isinstance(value, str) else None


def _key_names(values: Any) -> set[str]:
    """The values of every `api_key_env`."""
    if isinstance(values, dict):
        own = {values["api_key_env"]} if values.get("api_key_env") else set()
        return own.union(*(_key_names(value) for value in values.values()))
    return set().union(*map(_key_names, values)) if isinstance(values, list | tuple) else set()
