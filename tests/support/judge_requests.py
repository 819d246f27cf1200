"""A judge behind a server of tests, and its requests as that server reads them."""

from typing import Any

from cohobate.config import Judge, Verification
from tests.support.wire_server import Body, WireServer


def prompt(body: Body) -> str:
    """The user message."""
    return str(body["messages"][-1]["content"])


def spec(server: WireServer, **settings: Any) -> Verification:
    """The verifier whose judge is `server`."""
    values = {"kind": "endpoint", "model": "j", "base_url": server.url, "timeout": 2.0, "attempts": 2, **settings}
    return Verification(name="judge", judge=Judge.model_validate(values))
