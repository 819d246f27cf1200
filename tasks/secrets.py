"""Keys from Prefect Secret blocks, where the environment does not hold them. Nothing here prints or records a value."""

import os
from typing import Any

from prefect.blocks.system import Secret

from cohobate.config import Recipe


def keys_from_blocks(recipe: Recipe | None) -> None:
    """Put every key that `recipe` names in api_key_env, and the environment lacks, into this process's environment.

    The block of OPENAI_API_KEY is called openai-api-key: blocks know no underscores. A key that is in neither place is
    said by the stage that needs it.
    """
    for name in _named(recipe.model_dump()) if recipe else ():
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


def _named(values: Any) -> set[str]:
    """What stands under any `api_key_env`."""
    if isinstance(values, dict):
        own = {values["api_key_env"]} if values.get("api_key_env") else set()
        return own.union(*(_named(value) for value in values.values()))
    return set().union(*map(_named, values)) if isinstance(values, list) else set()
