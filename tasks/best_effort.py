"""Calls of the Prefect server that may fail: what only shows something in the UI must not cost a stage its work."""

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


def attempt(function: Callable[..., Any], **arguments: Any) -> Any:
    """`function(**arguments)`; None, and a warning in the log, where the server cannot take it."""
    try:
        return function(**arguments)
    except Exception as error:
        _log.warning("the Prefect server did not take an artifact: %s", error)
        return None
