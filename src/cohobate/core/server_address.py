"""The address of the Prefect server, found without importing Prefect."""

from __future__ import annotations

import os

_DEFAULT_PORT = "4200"


def server_address() -> str:
    """The server's URL without /api: PREFECT_API_URL, or this machine at PREFECT_SERVER_API_PORT."""
    api = os.environ.get("PREFECT_API_URL")
    port = os.environ.get("PREFECT_SERVER_API_PORT", _DEFAULT_PORT)
    return api.rstrip("/").removesuffix("/api") if api else f"http://127.0.0.1:{port}"
