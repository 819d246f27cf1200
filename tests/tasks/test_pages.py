"""The pages that `cohobate up` serves: to who has their address, and nothing else of the data folder."""

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cohobate.config import Recipe
from cohobate.store import runs
from cohobate.store.artifacts import verify
from tests.support.made_triples import sample, triples
from tests.support.opened_files import watching
from tests.support.wire_server import unused_port

pytestmark = pytest.mark.serves

SERVED = ("report/tiny-01234567/index.html", "report/tiny-01234567/figures/a b.svg", "pages/a--b.html")
OF_A_STAGE = "triples/pages/tiny-01234567.html"
HIDDEN = (
    "responses/page.html",
    "runs/run.json",
    "logs/worker.html",
    "triples/tiny-01234567/index.html",
    "report/tiny-01234567/manifest.json",
    "report/tiny-01234567/facts.parquet",
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder whose pages are served."""
    from tasks.server import pages

    data, url = tmp_path / "data", f"http://127.0.0.1:{unused_port() - 1}"
    for name in (*SERVED, OF_A_STAGE, *HIDDEN):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    (tmp_path / "outside.html").write_text("outside")
    (data / "pages" / "link.html").symlink_to(tmp_path / "outside.html")
    (data / "pages" / "circle.html").symlink_to(data / "pages" / "circle.html")
    monkeypatch.setenv("COHOBATE_DATA", str(data))
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "cohobate:secret-of-the-server")
    server = pages.serve(url)
    assert server
    yield data
    server.shutdown()
    server.server_close()


def ask(address: str, path: str | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """The raw path is sent as it is."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=10)
    connection.putrequest(method, parts.path if path is None else path, skip_host=False)
    connection.endheaders()
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, content, dict(reply.getheaders())


def test_a_page_opens_by_its_link(root: Path) -> None:
    from tasks.server import pages

    for name in (*SERVED, OF_A_STAGE):
        address = pages.link(root / name)
        assert address and "secret" not in address
        status, content, headers = ask(address)
        assert (status, content) == (200, name)
        assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_nothing_else_of_the_disk_is_served(root: Path) -> None:
    from tasks.server import pages

    address = pages.link(root / SERVED[0])
    assert address
    token = urlsplit(address).path.split("/")[1]
    for name in HIDDEN:
        hidden = pages.link(root / name)
        assert hidden and ask(hidden)[0] == 404
    for path in (
        f"/{token}/pages/link.html",
        f"/{token}/pages/circle.html",
        f"/{token}/pages/../../outside.html",
        f"/{token}/pages/%2e%2e/%2e%2e/outside.html",
        f"/{token}//etc/passwd",
        f"/{token}/report",
        f"/{token}/",
        "/",
        f"/{token}/pages/%00.html",
        f"/{token}/pages/%ff.html",
        f"/{token}/{'a' * 9000}.html",
        f"/{'0' * len(token)}/{SERVED[0]}",
        f"//{SERVED[0]}",
        f"/{token[:-1]}/{SERVED[0]}",
        f"/%C3%A9/{SERVED[0]}",
    ):
        assert ask(address, path)[0] in (400, 404), path
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(address, method=method)[0] == 501


def test_the_page_of_all_runs_and_what_it_shows_are_written_when_they_are_asked_for(root: Path) -> None:
    from tasks.server import pages

    artifact = triples(root, [sample("What is 1 + 1?", "It is 2.\nAnswer: 2")])
    record = runs.begin(Recipe(name="first"), "triples")
    runs.add_artifact(record.id, artifact.id)
    address = pages.all_runs()
    assert address and not (root / "pages" / "runs.html").exists()
    first = ask(address)
    assert first[0] == 200 and '"first"' in first[1] and '"second"' not in first[1]
    runs.begin(Recipe(name="second"), "triples")
    assert '"second"' in ask(address)[1]
    for end, text in ((".js", "cohobateDetails("), (".html", "<title>triples/made-")):
        page = artifact.path.parent / "pages" / f"{artifact.path.name}{end}"
        made = pages.link(page)
        assert made and not page.exists()
        status, content, headers = ask(made)
        assert status == 200 and text in content and "script-src" not in headers["Content-Security-Policy"]
        absent = pages.link(page.with_name(f"gone-01234567{end}"))
        assert absent and ask(absent)[0] == 404
    verify(artifact)


def test_while_a_page_is_written_the_others_are_served_and_so_is_its_earlier_one(root: Path) -> None:
    from tasks.server import pages

    artifact = triples(root, [sample("What is 1 + 1?", "It is 2.\nAnswer: 2")])
    runs.begin(Recipe(name="first"), "triples")
    address = pages.all_runs()
    made = pages.link(artifact.path.parent / "pages" / f"{artifact.path.name}.js")
    plain = pages.link(root / SERVED[0])
    assert address and made and plain and '"first"' in ask(address)[1]
    slow = runs.begin(Recipe(name="second"), "triples").path
    reached, go_on = threading.Event(), threading.Event()

    def wait_for_the_disk(path: str) -> None:
        if path == str(slow):
            reached.set()
            go_on.wait(30)

    with watching(wait_for_the_disk), ThreadPoolExecutor(1) as others:
        try:
            newest = others.submit(ask, address)
            assert reached.wait(10)
            assert ask(plain)[:2] == (200, SERVED[0])
            assert "cohobateDetails(" in ask(made)[1]
            assert '"first"' in (earlier := ask(address)[1]) and '"second"' not in earlier
            assert not newest.done()
        finally:
            go_on.set()
        assert '"second"' in newest.result()[1]


def test_without_a_password_or_here_there_are_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.server import pages

    assert pages.link(Path("/etc/passwd")) is None
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    assert pages.link(root / SERVED[0]) is None and pages.serve("https://elsewhere.example") is None
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert pages.link(root / SERVED[0]) is None and pages.serve("http://127.0.0.1:4200") is None
