"""Who may use the server of `cohobate up`: whoever has the password, and no page of another site."""

import base64
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cohobate.core.errors import UserError
from tests.support.prefect_server import Up, small

ORIGINS = ("https://other.example", "http://127.0.0.1:9", "null", "http://localhost.other.example")
WRONG = base64.b64encode(b"cohobate:guessed").decode()

# Runs in a page of another origin: each request that can do harm, as simple (text/plain, a form) and with a preflight.
ATTACK = """async ([server, deployment]) => {
    const run = JSON.stringify({job_variables: {command: 'touch /tmp/never'}, state: {type: 'SCHEDULED'}});
    const url = `${server}/api/deployments/${deployment}/create_flow_run`;
    const told = [];
    const ask = async (target, options) => {
        try {
            const reply = await fetch(target, options);
            told.push(reply.type == 'opaque' ? 'opaque' : await reply.text());
        } catch (error) { told.push('blocked'); }
    };
    await ask(url, {method: 'POST', body: run, headers: {'Content-Type': 'application/json'}});
    await ask(url, {method: 'POST', body: run, headers: {'Content-Type': 'text/plain'}});
    await ask(url, {method: 'POST', body: run, mode: 'no-cors', credentials: 'include'});
    await ask(url, {method: 'POST', body: new Blob([run]), mode: 'no-cors', credentials: 'include'});
    await ask(`${server}/api/admin/settings`, {credentials: 'include'});
    await ask(`${server}/api/csrf-token?client=page`, {});
    const socket = await new Promise(done => {
        const it = new WebSocket(server.replace('http', 'ws') + '/api/events/in', ['prefect']);
        it.onopen = () => it.send(JSON.stringify({type: 'auth', token: 'guessed'}));
        it.onmessage = message => done(message.data);
        it.onclose = it.onerror = () => done('closed');
    });
    const form = document.createElement('form');
    Object.assign(form, {method: 'POST', action: url, enctype: 'text/plain', target: 'frame'});
    const field = document.createElement('input');
    Object.assign(field, {name: run.slice(0, -1) + ', "x": "', value: '"}'});
    const frame = document.createElement('iframe');
    frame.name = 'frame';
    document.body.append(frame, form);
    form.append(field);
    const loaded = new Promise(done => { frame.onload = done; });
    form.submit();
    await loaded;
    return [told, socket];
}"""


def answer(up: Up, path: str, method: str, headers: dict[str, str], body: Any = None) -> tuple[int, str | None, str]:
    """Status, allowed origin and text of a raw request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{up.url}/api{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers.get("access-control-allow-origin"), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("access-control-allow-origin"), error.read().decode()


def runs(up: Up) -> set[str]:
    return {run["id"] for run in up.api("/flow_runs/filter", {"sort": "ID_DESC"})}


def distill(up: Up) -> str:
    return str(up.api("/deployments/name/distill/distill", method="GET")["id"])


@pytest.fixture
def foreign_page() -> Iterator[str]:
    """The address of a web page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.mark.prefect
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_request_of_another_origin_is_not_obeyed(up: Up, origin: str) -> None:
    path = f"/deployments/{distill(up)}/create_flow_run"
    before, body = runs(up), {"state": {"type": "SCHEDULED"}}
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    _, allowed, _ = answer(up, path, "OPTIONS", asks)
    assert allowed is None
    for kind in ("application/json", "text/plain"):
        for extra in ({}, {"Authorization": f"Basic {WRONG}"}, {"Prefect-Csrf-Token": "1", "Prefect-Csrf-Client": "1"}):
            status, _, said = answer(up, path, "POST", {"Origin": origin, "Content-Type": kind, **extra}, body)
            assert status in (401, 403), said
    for secret in ("/admin/settings", "/csrf-token?client=x", "/admin/version", "/block_documents/count"):
        status, allowed, _ = answer(up, secret, "GET", {"Origin": origin})
        assert status in (401, 403, 405) and allowed is None
    assert runs(up) == before


@pytest.mark.prefect
@pytest.mark.browser
def test_a_page_of_another_site_can_do_nothing_though_the_operator_is_logged_in(up: Up, foreign_page: str) -> None:
    before, deployment = runs(up), distill(up)
    with up.page("/dashboard") as page:
        page.get_by_text("Active Work Pools").wait_for()
        other = page.context.new_page()
        other.goto(foreign_page)
        told, socket = other.evaluate(ATTACK, [up.url, deployment])
    assert told == ["blocked", "blocked", "opaque", "opaque", "blocked", "blocked"]
    assert "auth_success" not in socket
    assert runs(up) == before


@pytest.mark.prefect
@pytest.mark.browser
def test_the_pages_of_the_server_ask_for_the_password_and_work_with_it(up: Up) -> None:
    """Also by the machine's other name, where the pages and the server are of two origins."""
    with up.page("/dashboard", logged_in=False) as page:
        page.goto(f"{up.url.replace('127.0.0.1', 'localhost')}/dashboard")
        page.get_by_placeholder("admin:pass").fill(up.password)
        page.get_by_role("button", name="Login").click()
        page.get_by_text("Active Work Pools").wait_for()
        page.get_by_text("cohobate").first.wait_for()
        up.picture(page, "logged-in")


@pytest.mark.prefect
def test_the_password_is_the_owners_alone_and_in_no_command_line(up: Up) -> None:
    path = up.folder / "prefect" / "cohobate" / f"server-{up.port}.password"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0
    assert len(up.password.partition(":")[2]) >= 32
    lines = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            lines.append((process / "cmdline").read_bytes())
    assert any(b"server" in line and str(up.port).encode() in line for line in lines)
    assert not any(up.password.encode() in line for line in lines)
    assert up.password not in up.log.read_text() and str(path) in up.log.read_text()


@pytest.mark.prefect
def test_a_wrong_password_and_a_server_that_is_away_are_one_sentence(up: Up, tmp_path: Path) -> None:
    environment = {**up.environment, "PREFECT_API_URL": f"{up.url}/api", "PREFECT_API_AUTH_STRING": "cohobate:wrong"}
    for arguments in (["run", "tiny", "--until", "questions"], ["up", "--status"], ["free", "nothing"]):
        refused = up.command(*arguments, environment=environment)
        assert refused.returncode == 2, refused
        assert len(refused.stderr.splitlines()) == 1 and "refuses the password" in refused.stderr
    away = {**up.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for arguments in (["run", "tiny", "--until", "questions"], ["free", "nothing"]):
        refused = up.command(*arguments, environment=away)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
        assert "no Prefect server answers at http://127.0.0.1:9" in refused.stderr
    assert "wrong" not in up.log.read_text()


@pytest.mark.prefect
def test_the_command_line_on_this_machine_finds_the_password(up: Up) -> None:
    """Of the server that PREFECT_API_URL names."""
    environment = {**up.environment, "PREFECT_API_URL": f"{up.url}/api"}
    assert up.command("run", "tiny", "--until", "questions", environment=environment).returncode == 0


@pytest.mark.prefect
def test_no_parameter_names_code_and_a_file_of_the_worker_may(up: Up, tmp_path: Path) -> None:
    values = small(questions={"source": "file", "path": "nothing.jsonl"}).model_dump(mode="json")
    values["triples"]["verifier"] = {"name": "shutil:rmtree"}
    state = up.end(up.run("distill/distill", recipe=values, until="questions"))
    assert state["type"] == "FAILED" and "'shutil:rmtree' is code" in state["message"]
    recipe = tmp_path / "own.toml"
    recipe.write_text('[questions]\ntrain = 4\n[triples.verifier]\nname = "shutil:rmtree"\n')
    up.completed(up.run("distill/distill", recipe=str(recipe), until="questions"))


class TestPasswordFile:
    URL = "http://127.0.0.1:4299"

    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
        for name in ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
            monkeypatch.delenv(name, raising=False)

    def test_one_is_made_once_whatever_the_umask(self) -> None:
        from tasks.server import access

        before = os.umask(0)
        try:
            made = access.make_password(self.URL)
        finally:
            os.umask(before)
        path = access.password_file(self.URL)
        assert path.stat().st_mode & 0o777 == 0o600
        assert access.make_password(self.URL) == access.password(self.URL) == made
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert access.password("http://127.0.0.1:4298") is None  # another server's it is not

    def test_a_file_that_another_laid_where_the_draft_will_be_is_not_written(self, tmp_path: Path) -> None:
        from tasks.server import access

        path = access.password_file(self.URL)
        path.parent.mkdir()
        target = tmp_path / "elsewhere"
        target.touch()
        path.with_name(f".{path.name}-{os.getpid()}").symlink_to(target)
        assert access.make_password(self.URL) and target.read_text() == ""

    def test_a_folder_that_cannot_be_is_one_sentence(self, tmp_path: Path) -> None:
        from tasks.server import access

        (tmp_path / "cohobate").write_text("no folder")
        with pytest.raises(UserError, match=r"can be kept in .*: make that folder writable"):
            access.make_password(self.URL)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_file_of_another_user_is_refused(self) -> None:
        from tasks.server import access

        access.make_password(self.URL)
        os.chown(access.password_file(self.URL), 65534, -1)
        with pytest.raises(UserError, match="of another user's: delete it"):
            access.password(self.URL)

    @pytest.mark.serves
    @pytest.mark.parametrize(
        ("status", "state"), [(200, "open"), (401, "by a password"), (500, "not known"), (0, "not")]
    )
    def test_only_a_refusal_says_that_there_is_a_password(self, status: int, state: str) -> None:
        from tasks.server import up

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if status:
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _, said, well = up.access_line(f"http://127.0.0.1:{server.server_port}")
        assert said.startswith(state) and well is (status == 401)
        server.shutdown()

    @pytest.mark.parametrize("empty", ["PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"])
    def test_an_empty_variable_is_no_password(self, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from tasks.server import access, server_environment

        monkeypatch.setenv(empty, "")
        server = server_environment.environment_of_server(self.URL)
        assert server[access.SERVER] == server[access.CLIENT] == access.password(self.URL)

    def test_what_others_can_read_or_is_no_password_is_refused(self) -> None:
        from tasks.server import access

        access.make_password(self.URL)
        path = access.password_file(self.URL)
        path.chmod(0o640)
        with pytest.raises(UserError, match="can be read by others: delete it"):
            access.password(self.URL)
        path.chmod(0o600)
        for damage in (b"", b"secret", b":x", b"x:", b"a:b\nc:d", b"a:\xff", b"a:b c"):
            path.write_bytes(damage)
            with pytest.raises(UserError, match="delete it") as caught:
                access.password(self.URL)
            assert "secret" not in str(caught.value) and "\n" not in str(caught.value)

    def test_the_users_own_is_used_and_two_that_differ_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tasks.server import access, server_environment

        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
        server = server_environment.environment_of_server(self.URL)
        assert server[access.SERVER] == server[access.CLIENT] == "me:mine"
        assert not access.password_file(self.URL).exists()
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:yours")
        with pytest.raises(UserError, match="differ") as caught:
            server_environment.environment(self.URL)
        assert "yours" not in str(caught.value)
