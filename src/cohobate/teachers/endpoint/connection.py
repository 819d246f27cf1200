"""Requests to one address of an endpoint, over connections that are kept open.

aiohttp's session alone: the client of OpenAI takes as much processor time for a request as all the rest, 20 MB, and
0.3 s before the first one, and of its models of parameters and replies none would be used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from cohobate.core.errors import EndpointError
from cohobate.teachers.endpoint import reply_body

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 5.0  # servers close idle connections too: those of uvicorn after so long
_LOCAL = ("localhost", "127.0.0.1", "::1")  # this machine is behind no proxy


@dataclass(frozen=True)
class Reply:
    """A reply with any status; content is unpacked."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connection:
    """A pool of at most `most` connections to `url`. Made and used within one event loop.

    long_bodies: shared by the connections whose long replies are read one at a time. Raises EndpointError for a proxy
    that cannot be used.
    """

    def __init__(self, url: str, secret: str | None, most: int, long_bodies: asyncio.Lock) -> None:
        self.url, self.long_bodies = url.rstrip("/"), long_bodies
        proxy = proxy_for(url)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most, keepalive_timeout=_IDLE_SECONDS, ssl=_trust(url)),
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),  # the caller limits the whole
            headers=_headers(url, secret),
            auto_decompress=False,
            proxy=proxy,
        )

    async def post(self, path: str, body: bytes, limit: int) -> Reply:
        """The reply to the JSON `body`, at most `limit` bytes long, packed and unpacked.

        Raises aiohttp's errors where there is none, ReplyError for one that is too long or cannot be unpacked.
        """
        return await self._reply("POST", path, limit, data=body)

    async def get(self, path: str, limit: int) -> Reply:
        """The reply to a GET; raises as `post`."""
        return await self._reply("GET", path, limit)

    async def upload(self, path: str, fields: Mapping[str, str], name: str, file: IO[bytes], limit: int) -> Reply:
        """The reply to a form with `fields` and the file `name`, from its beginning, as JSON lines, as `post`."""
        form = aiohttp.FormData(fields)
        form.add_field("file", file, filename=name, content_type="application/jsonl")
        body = form()
        return await self._reply("POST", path, limit, data=body, headers={"Content-Type": body.content_type})

    async def download(self, path: str, target: IO[bytes], most: int, limit: int, idle: float) -> Reply:
        """Write the body of a GET to `target`, of more than `most` bytes only the beginning.

        limit: of the body of an error, which is the reply's content. idle: seconds without a byte that are borne.
        Raises as `post`, also for more than `most` bytes, and TimeoutError.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=idle)
        async with self.session.get(self.url + path, timeout=timeout) as response:
            if not 200 <= response.status < 300:
                content = await reply_body.read(response, limit, self.long_bodies)
                return Reply(response.status, response.headers, content)
            async for piece in reply_body.pieces(response, most):
                target.write(piece)
            return Reply(response.status, response.headers, b"")

    async def _reply(self, method: str, path: str, limit: int, **options: Any) -> Reply:
        async with self.session.request(method, self.url + path, **options) as response:
            content = await reply_body.read(response, limit, self.long_bodies)
            return Reply(response.status, response.headers, content)

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()


def _headers(url: str, secret: str | None) -> dict[str, str]:
    from cohobate import __version__

    headers = {
        "Accept": "application/json",
        "Accept-Encoding": reply_body.ACCEPTED,
        "Authorization": f"Bearer {secret or 'none'}",  # never that of another provider from the environment
        "Content-Type": "application/json",
        "User-Agent": f"cohobate/{__version__}",
    }
    if (urlsplit(url).hostname or "").endswith(".openai.com"):  # which account of a key's owner pays
        named = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
        headers |= {name: os.environ[variable] for name, variable in named.items() if os.environ.get(variable)}
    return headers


def proxy_for(url: str) -> str | None:
    """The address of the environment's proxy for `url`; None: there is none. Raises EndpointError for another kind."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.hostname in _LOCAL or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"  # as curl and urllib read it
    if not _is_of_http(address):  # whose password the message must not show
        raise EndpointError(
            f"the proxy that {parts.scheme}_proxy or all_proxy names is no address of an HTTP proxy; write it as "
            f"http://HOST:PORT, or put {parts.hostname} into no_proxy"
        )
    return address


def _is_of_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False


def _trust(url: str) -> ssl.SSLContext | bool:
    """The certificates that are trusted: those of the system, or of SSL_CERT_FILE."""
    if urlsplit(url).scheme != "https":
        return True  # unused: another context would take 40 ms
    import httpx2

    return httpx2.create_ssl_context()
