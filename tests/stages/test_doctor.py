"""What is wrong with a machine: pins against pyproject.toml, servers that really listen, folders that are none."""

import json
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cohobate.stages.doctor import REASONS, Finding, Server, conflicts, examine
from tests.support.command import cohobate
from tests.support.wire_server import unused_port

ROOT = Path(__file__).parents[2]
PINS = [Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]


def test_every_pin_has_its_reason_and_every_reason_a_pin() -> None:
    pinned = {pin.name for pin in PINS if any(each.operator in ("<", "==") for each in pin.specifier)}
    assert set(REASONS) == pinned


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [
        ("fastapi", "0.150.0", True),
        ("fastapi", "0.151.0", False),
        ("sqlalchemy", "2.0.58", True),
        ("sqlalchemy", "2.1.0b1", False),
        ("torch", "2.13.0+cpu", True),
        ("torch", "2.12.1", False),
        ("polars", "1.19.0", False),
        ("polars", "not a version", False),
        ("polars", None, False),
    ],
)
def test_a_version_that_does_not_fit_is_named_with_the_command(name: str, version: str | None, fits: bool) -> None:
    [pin] = [pin for pin in PINS if pin.name == name]
    found = list(conflicts([pin], lambda asked: version if asked == name else "0"))
    assert (found == []) == fits
    for conflict in found:
        assert name in conflict.sentence and (version or "not installed") in conflict.sentence
        assert REASONS.get(name, "") in conflict.sentence
        assert conflict.mend.startswith("pip install '") and str(pin.specifier) in conflict.mend


@contextmanager
def answering(health: object) -> Iterator[str]:
    """A server that answers every address with this JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(health).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def found(name: str, server: Server) -> Finding:
    [finding] = [finding for finding in examine(server) if finding.name == name]
    return finding


@pytest.mark.serves
def test_a_prefect_server_is_told_from_another_program_and_from_none() -> None:
    with answering(True) as url:
        assert found("prefect server", Server(url, required=True)).status == "ok"
    with answering({"hello": "world"}) as url:
        other = found("prefect server", Server(url, required=False))
        assert other.status == "note" and "another program" in other.detail
        assert found("prefect server", Server(url, required=True)).status == "broken"
    nobody = f"http://127.0.0.1:{unused_port()}"
    assert found("prefect server", Server(nobody, required=False)).status == "ok"
    assert found("prefect server", Server(nobody, required=True)).status == "broken"
    assert found("prefect server", Server("http://127.0.0.1:many", required=False)).status == "broken"
    secret = f"http://me:s3cret@127.0.0.1:{unused_port()}/api"
    for server in (Server(secret, required=True), Server("http://me:s3cret@127.0.0.1:many", required=False)):
        assert "127.0.0.1" in found("prefect server", server).detail
        assert "s3cret" not in str(found("prefect server", server))


@pytest.mark.serves
def test_a_folder_that_is_none_and_a_vllm_that_is_not_there_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("COHOBATE_VLLM", str(tmp_path))
    findings = {finding.name: finding for finding in examine(Server("http://127.0.0.1:1", required=False))}
    assert findings["data folder"].status == findings["vllm"].status == "broken"
    assert "COHOBATE_DATA" in (findings["data folder"].mend or "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.serves
def test_the_command_says_it_in_json_and_by_its_exit_code(tmp_path: Path) -> None:
    result = cohobate("doctor", "--json", data=tmp_path / "data")
    said = json.loads(result.stdout)
    assert said["usable"] == (result.returncode == 0) == all(each["status"] != "broken" for each in said["findings"])
    assert {"cohobate", "memory", "data folder", "prefect server", "vllm"} <= {
        each["name"] for each in said["findings"]
    }
    assert list(tmp_path.iterdir()) == []
