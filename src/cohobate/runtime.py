"""How torch runs on this machine: threads and determinism."""

from __future__ import annotations

import os

from cohobate.config import Recipe


def threads(recipe: Recipe) -> int:
    """The threads of the recipe; else of OMP_NUM_THREADS; else as many as the process may use."""
    usual = os.environ.get("OMP_NUM_THREADS", "")
    default = int(usual) if usual.isdecimal() and int(usual) else len(os.sched_getaffinity(0))
    return recipe.runtime.threads or default


def set_threads(recipe: Recipe) -> None:
    """Give torch its `threads`."""
    import torch

    torch.set_num_threads(threads(recipe))
