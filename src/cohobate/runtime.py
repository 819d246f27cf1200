"""How torch runs on this machine: threads and determinism."""

from __future__ import annotations

import os

from cohobate.config import Recipe


def set_threads(recipe: Recipe) -> None:
    """Give torch the threads of the recipe, or as many as the process may use."""
    import torch

    torch.set_num_threads(recipe.runtime.threads or len(os.sched_getaffinity(0)))
