"""One address of an endpoint: what is sent to it beside the body, through which proxy, and where it sends us on."""

import asyncio
from collections.abc import Mapping

import pytest

from cohobate.teachers.endpoint.connection import Connection, Reply
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
