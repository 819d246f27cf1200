from collections.abc import Iterator

import pytest

from tests.support.wire_server import WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A server that listens while the test runs, and does what its `plan` says."""
    with WireServer().running() as it:
        yield it
