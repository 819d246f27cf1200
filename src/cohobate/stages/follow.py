"""A process that torchrun started beside the first: it builds the training stages to which that one's flow comes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cohobate.stages.rank import build
from cohobate.training import launched


def follow() -> None:
    """Build one stage after another, without a word: the first process shows the progress."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        while (job := launched.next_job()) is not None:
            build(job)
