"""Fixtures that the tests of training share."""

from pathlib import Path

import pytest

from cohobate.store.artifacts import Artifact


@pytest.fixture(scope="session")
def start_artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Artifact]]:
    """A data folder, and the artifacts of it that every objective starts from."""
    from tests.support.method_runs import write_start

    root = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(root))
        return root, write_start()
