"""How torch runs on this machine: threads and determinism."""

from __future__ import annotations

import os

from cohobate.config import Recipe


def set_threads(recipe: Recipe) -> None:
    """Give torch the threads of the recipe; else of OMP_NUM_THREADS; else as many as the process may use."""
    import torch

    usual = os.environ.get("OMP_NUM_THREADS", "")
    default = int(usual) if usual.isdecimal() and int(usual) else len(os.sched_getaffinity(0))
    torch.set_num_threads(recipe.runtime.threads or default)
