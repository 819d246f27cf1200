"""Show something in the Prefect UI, or do without."""

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


def tell(function: Callable[..., Any], **arguments: Any) -> Any:
    """`function(**arguments)`; None where the server cannot take it, which must not cost a stage its work."""
    try:
        return function(**arguments)
    except Exception as error:
        _log.warning("the Prefect server did not take an artifact: %s", error)
        return None
