"""Artifacts of a given size, made without any stage."""

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace


def make(name: str, stage: str, *parents: Artifact, recipe: str = "night") -> Artifact:
    """An artifact of 1,000 bytes."""

    def build(workspace: Workspace) -> Outcome:
        (workspace.path / "file").write_bytes(bytes(1000))
        return Outcome()

    return Store().produce(
        stage, recipe=Recipe(name=recipe), version=1, identity={"name": name}, parents=parents, build=build
    )
