"""One address of an endpoint: what is sent to it beside the body, through which proxy, and where it sends us on."""

import asyncio
import socket
import threading
from collections.abc import Mapping

import aiohttp
import pytest

from cohobate.core.errors import EndpointError
from cohobate.teachers.endpoint.connection import Connection, Reply
from cohobate.teachers.endpoint.fault import fault_of
from cohobate.teachers.endpoint.http import read_json
from tests.support.wire_server import Act, WireServer, completion

BODY = b'{"model": "m"}'
PATH = "/chat/completions"


def post(url: str, secret: str | None = None, limit: int = 1 << 20) -> Reply:
    async def one() -> Reply:
        connection = Connection(url, secret, 2, asyncio.Lock())
        try:
            return await connection.post(PATH, BODY, limit)
        finally:
            await connection.close()

    return asyncio.run(one())


def headers_for(url: str) -> Mapping[str, str]:
    async def one() -> Mapping[str, str]:
        connection = Connection(url, None, 2, asyncio.Lock())
        try:
            return dict(connection.session.headers)
        finally:
            await connection.close()

    return asyncio.run(one())


@pytest.mark.serves
def test_a_name_that_only_a_proxy_knows_is_reached_through_that_of_the_environment(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = server.url.removesuffix("/v1")
    monkeypatch.setenv("http_proxy", proxy.replace("http://", "http://user:word@"))
    assert post("http://model.invalid/v1", "key").status == 200
    [seen] = server.seen
    assert (seen.headers["Host"], seen.headers["Authorization"]) == ("model.invalid", "Bearer key")
    assert seen.headers["Proxy-Authorization"].startswith("Basic ")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nothing listens
    assert post(server.url).status == 200  # this machine is behind no proxy
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "model.invalid")
    with pytest.raises(OSError, match=r"model\.invalid"):
        post("http://model.invalid/v1")


@pytest.mark.serves
def test_a_proxy_without_a_scheme_is_one_of_http(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removeprefix("http://").removesuffix("/v1"))
    assert post("http://model.invalid/v1").status == 200
    assert read_json(f"http://model.invalid/v1{PATH}", body={"model": "m"})["choices"]
    assert [seen.headers["Host"] for seen in server.seen] == ["model.invalid"] * 2


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
@pytest.mark.parametrize(
    "address", ["socks5://me:s3cret@proxy:1080", "ftp://proxy", "http://me:s3/cret@proxy:1", "http://[proxy", "proxy:x"]
)
def test_a_proxy_that_is_none_of_http_is_refused(variable: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, address)
    for ask in (post, read_json):
        with pytest.raises(EndpointError, match=r"https_proxy or all_proxy names is no address .* no_proxy") as caught:
            ask("https://model.invalid/v1")
        assert "cret" not in str(caught.value)


@pytest.mark.serves
def test_a_proxy_that_refuses_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        thread = threading.Thread(target=refuse, args=(listening, answer))
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(aiohttp.ClientError) as caught:
            post("https://model.invalid/v1")
        thread.join()
    message = fault_of(caught.value, None, 1.0).message
    assert "407" in message and "s3cret" not in message


def refuse(listening: socket.socket, answer: bytes) -> None:
    """Give one request this answer."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)


@pytest.mark.serves
def test_a_server_that_has_moved_gets_the_same_body(server: WireServer) -> None:
    moved = {"Location": f"{server.url}{PATH}"}
    server.plan = lambda body, time: Act(status=307, headers=moved) if time == 1 else Act(payload=completion(body, "5"))
    assert b'"5"' in post(server.url).content and [seen.body for seen in server.seen] == [{"model": "m"}] * 2


def test_the_account_that_pays_is_named_to_openai_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    named = headers_for("https://api.openai.com/v1")
    assert (named["OpenAI-Organization"], named["OpenAI-Project"]) == ("org-1", "proj-1")
    assert not any("openai" in name.lower() for name in headers_for("https://openai.com.elsewhere.example/v1"))
