"""A training process of rank 1 or higher, started by rank 0: `python -m cohobate.stages.rank JOB`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cohobate.config import Recipe
from cohobate.core.atomic_files import read_json
from cohobate.stages import opd, sft
from cohobate.store.artifacts import Artifact, Workspace
from cohobate.training.distributed import die_with_parent

_BUILDS: dict[str, Any] = {"sft": sft.build, "opd": opd.build}


def main() -> None:
    """Build the stage of the job in sys.argv[1]; only rank 0 writes its files."""
    die_with_parent()
    build(read_json(Path(sys.argv[1])))


def build(job: dict[str, Any]) -> None:
    """Build the stage of `job` with the processes that train together."""
    artifacts = [Artifact(a["id"], a["stage"], Path(a["path"]), a["fingerprint"]) for a in job["artifacts"]]
    workspace = Workspace(Path(job["workspace"]["path"]), job["workspace"]["fingerprint"])
    _BUILDS[job["stage"]](Recipe.model_validate(job["recipe"]), *artifacts, workspace)


if __name__ == "__main__":
    main()
