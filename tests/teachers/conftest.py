"""Fixtures of the tests of teachers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.batch_server import BatchServer


@pytest.fixture
def batches() -> Iterator["BatchServer"]:
    """A server of OpenAI's batch interface that listens while the test runs."""
    from tests.support.batch_server import BatchServer

    with BatchServer().running() as it:
        assert isinstance(it, BatchServer)
        yield it
