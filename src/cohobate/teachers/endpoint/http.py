"""Plain HTTP for the routes beside the chat wire: a server's models, settings and tokens."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError
from cohobate.teachers.endpoint.client import secret
from cohobate.teachers.endpoint.connection import proxy_for
from cohobate.teachers.endpoint.reply_body import parsed
from cohobate.teachers.endpoint.wire import ReplyError

_SECONDS = 120.0
_LONGEST_BODY = 16 << 20


def read_json(url: str, teacher: Teacher | None = None, body: Any = None) -> Any:
    """The JSON at `url`, by POST of `body` if there is one, else by GET; None where there is no such route, or no JSON.

    teacher: its key is sent; None: no key. Raises EndpointError where nothing listens, or the proxy cannot be used.
    """
    headers = {"Content-Type": "application/json"}
    if teacher is not None:
        headers["Authorization"] = f"Bearer {secret(teacher) or 'none'}"
    data = None if body is None else json.dumps(body).encode()
    proxy = proxy_for(url)
    proxies = {} if proxy is None else {"http": proxy, "https": proxy}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(urllib.request.Request(url, data, headers), timeout=_SECONDS) as reply:
            return parsed(reply.read(_LONGEST_BODY), _LONGEST_BODY)
    except (urllib.error.HTTPError, http.client.HTTPException, ReplyError, ValueError):
        return None
    except OSError as error:
        section = teacher.section if teacher is not None else "teacher"
        raise EndpointError(
            f"nothing listens at {url} ({error}); start the server, or correct {section}.base_url"
        ) from None
