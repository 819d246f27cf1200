"""Commands that work on the data folder as a whole: promote, ls, gc."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cohobate.cli.arguments import ArtifactName, AsJson


def promote(name: ArtifactName) -> None:
    """Make an artifact, and what it was made from, the promoted ones of its recipe, without the gate."""
    from cohobate.store.artifacts import Store
    from cohobate.store.promotion import promote_lineage

    pointer = promote_lineage(Store(), Store().find(name), "by hand")
    for stage, artifact in pointer.artifacts.items():
        print(f"{stage:<10} {artifact}")


def list_artifacts(as_json: AsJson = False) -> None:
    """List the artifacts."""
    from cohobate.cli.artifact_view import print_list
    from cohobate.store.listing import list_artifacts as listing

    artifacts = listing()
    if as_json:
        print(json.dumps([asdict(artifact) for artifact in artifacts], indent=2))
    else:
        print_list(artifacts)


def gc(
    keep: Annotated[int, typer.Option(min=1, metavar="RUNS", help="Finished runs of each recipe that stay.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is deleted.")] = False,
) -> None:
    """Say what no kept run and nothing promoted was made from, and how large it is; with --yes, delete it."""
    from cohobate.core.formatting import size
    from cohobate.store import gc as collector

    plan = collector.plan(keep)
    for each in plan.garbage:
        print(f"{size(each.bytes):>9}  {each.path}  {each.why}")
    if yes:
        collector.sweep(plan)
    done = "deleted" if yes else "can be deleted with --yes"
    print(f"{size(plan.bytes)} {done}, {size(plan.survivor_bytes)} in {len(plan.survivors)} artifacts kept")
