"""What a server says of itself, besides answering: its models, its settings, its tokens."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError
from cohobate.teachers.endpoint.client import secret

_SECONDS = 120.0


def read_json(url: str, settings: Teacher | None = None, body: Any = None) -> Any:
    """The JSON at `url`, in reply to `body` if there is one; None where there is no such route.

    settings: with its key; without them none is sent. Raises EndpointError where nobody answers.
    """
    headers = {"Content-Type": "application/json"}
    if settings is not None:
        headers["Authorization"] = f"Bearer {secret(settings) or 'none'}"
    data = None if body is None else json.dumps(body).encode()
    here = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")  # this machine is behind no proxy
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
    try:
        with opener.open(urllib.request.Request(url, data, headers), timeout=_SECONDS) as reply:
            return json.loads(reply.read())
    except (urllib.error.HTTPError, http.client.HTTPException, ValueError):
        return None
    except OSError as error:
        section = settings.section if settings is not None else "teacher"
        raise EndpointError(
            f"nobody answers at {url} ({error}); start the server, or correct {section}.base_url"
        ) from None
