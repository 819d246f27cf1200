"""Server, worker and deployments as `cohobate up` starts them, to be asked, clicked at and killed."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from tests.support.browser import ARGUMENTS, CHROMIUM

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
GPU_SLOTS = 3
# The webhook's, that of an environment variable, and that of a Secret block: none may show anywhere.
SECRETS = ("T0PSECRET-hook-1b", "T0PSECRET-key-2c", "T0PSECRET-block-3d")
LOST_SECONDS = 60  # twice the heartbeat: as soon as a lost run can be told from a live one


def small(*overrides: str, **sections: dict[str, Any]) -> Recipe:
    """Every stage of the tiny recipe in a second or two."""
    least = [
        *("runtime.threads=1", "questions.train=24", "sft.steps=2", "opd.steps=2", "opd.prompts=4", "opd.warmup=0"),
        *("sft.warmup=0", "sft.evaluate_every=2", "opd.evaluate_every=2", "opd.max_tokens=16", "triples.max_tokens=48"),
        *("evaluation.decodings=['greedy']", "evaluation.limit=4", "evaluation.max_tokens=8"),
    ]
    values = load_recipe("tiny", [*least, *overrides]).model_dump(mode="json")
    for name, changes in sections.items():
        values[name] = {**values[name], **changes}
    return Recipe.model_validate(values)


class Webhook:
    """A server that keeps the messages it gets; its address is a secret."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        texts = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook/{SECRETS[0]}"


class Up:
    """`cohobate up` on a free port, with a Prefect home and a data folder of its own."""

    def __init__(self, folder: Path, python: str = sys.executable, cwd: Path | None = None) -> None:
        self.python, self.cwd = python, cwd
        self.folder, self.data, self.log = folder, folder / "data", folder / "up.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.csrf_token = ""
        self.webhook = Webhook()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "COHOBATE_DATA": str(self.data),
            "COHOBATE_WEBHOOK": self.webhook.url,
            "TEACHER_KEY": SECRETS[1],
        }

    def start(self) -> None:
        arguments = ["--gpu", str(GPU_SLOTS), "--lost-after", str(LOST_SECONDS)]
        with self.log.open("w") as log:
            command = [self.python, "-m", "cohobate", "up", *arguments]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.cwd)
        self.wait_for(lambda: "Ctrl+C stops" in self.log.read_text(), "worker", 300)

    def stop(self) -> int:
        self.webhook.server.shutdown()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def child(self, name: str) -> int:
        """The process of `up` that runs `prefect NAME start`."""
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError(f"up has no {name}")

    def command(
        self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """`cohobate ARGUMENTS` with this server and these data."""
        command = [self.python, "-m", "cohobate", *arguments]
        env = environment or self.environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=cwd or self.cwd)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """user:password, as `up` has written it."""
        return (self.folder / "prefect" / "cohobate" / f"server-{self.port}.password").read_text().strip()

    def headers(self) -> dict[str, str]:
        """Those of a request that the server obeys."""
        basic = base64.b64encode(self.password.encode()).decode()
        sender = {"Authorization": f"Basic {basic}", "Prefect-Csrf-Client": str(self.port)}
        if not self.csrf_token:
            request = urllib.request.Request(f"{self.url}/api/csrf-token?client={self.port}", headers=sender)
            with urllib.request.urlopen(request, timeout=120) as reply:
                self.csrf_token = json.loads(reply.read())["token"]
        return {**sender, "Prefect-Csrf-Token": self.csrf_token, "Content-Type": "application/json"}

    def api(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api{path}", data, self.headers(), method=method)
        for attempt in range(20):
            try:
                with urllib.request.urlopen(request, timeout=120) as reply:
                    text = reply.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                # A busy SQLite database: every client of Prefect's tries again.
                if error.code != 503 or attempt == 19:
                    raise
                time.sleep(0.5)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no {what} within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def run(self, deployment: str, **parameters: Any) -> str:
        """The id of a new run of `flow/deployment`."""
        found = self.api(f"/deployments/name/{deployment}", method="GET")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, run: str) -> dict[str, Any]:
        """type, name and message."""
        state: dict[str, Any] = self.api(f"/flow_runs/{run}", method="GET")["state"]
        return state

    def end(self, run: str, seconds: float = 120) -> dict[str, Any]:
        """The state that the run ends in."""

        def ended() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in ENDED else None

        found: dict[str, Any] = self.wait_for(ended, f"end of {run}", seconds)
        return found

    def completed(self, run: str, seconds: float = 120) -> None:
        state = self.end(run, seconds)
        assert state["type"] == "COMPLETED", (state["message"], self.log.read_text()[-3000:])

    def tasks(self, run: str) -> dict[str, str]:
        """The states' names of the run's newest tasks, by name."""
        body = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return {task["name"]: task["state_name"] for task in self.api("/task_runs/filter", body)}

    def artifacts(self, run: str) -> dict[str, str]:
        """The data of the run's artifacts, by key."""
        found = self.api("/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}, "sort": "UPDATED_DESC"})
        return {each["key"]: each["data"] for each in reversed(found) if each["key"]}

    def record(self, run: str) -> dict[str, Any] | None:
        """What cohobate recorded of a flow run."""
        for path in self.data.glob("runs/*.json"):
            values: dict[str, Any] = json.loads(path.read_text())
            if values["flow_run_id"] == run:
                return values
        return None

    def pid(self, run: str) -> int:
        return int(self.wait_for(lambda: self.record(run), "run record")["pid"])

    @contextmanager
    def worker(self, pool: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Another worker, in a process group of its own, as on another machine."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
        root = str(Path(__file__).parents[2])
        environment = {
            **self.environment,
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_API_AUTH_STRING": self.password,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        }
        with (self.folder / f"{pool}.log").open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    @contextmanager
    def page(self, path: str, *, logged_in: bool = True, scheme: Literal["light", "dark"] = "light") -> Iterator[Any]:
        """A page of the UI in Chromium, with the password that its page Login stores, unless told otherwise."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            page = browser.new_context(color_scheme=scheme, viewport={"width": 1300, "height": 1000}).new_page()
            if logged_in:
                login = base64.b64encode(self.password.encode()).decode()
                script = f"if (location.origin === '{self.url}') localStorage.setItem('prefect-password', '{login}')"
                page.context.add_init_script(script)
            page.goto(f"{self.url}{path}")
            try:
                yield page
            finally:
                browser.close()

    def picture(self, page: Any, name: str) -> None:
        """Keep what the page shows as test output."""
        folder = Path(os.environ.get("COHOBATE_SCREENSHOTS") or self.folder / "screenshots")
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(1000)  # the UI draws after it has loaded
        page.screenshot(path=folder / f"{name}.png")

    def retry(self, run: str, name: str) -> None:
        """Press Retry on the run's page, and confirm; once more if the worker's own report of the end undid it."""
        count = self.api(f"/flow_runs/{run}", method="GET")["run_count"]

        def started() -> bool:
            if self.state(run)["type"] in ENDED:
                self._press_retry(run, name)
            return bool(self.api(f"/flow_runs/{run}", method="GET")["run_count"] > count)

        self.wait_for(started, "retry")

    def _press_retry(self, run: str, name: str) -> None:
        with self.page(f"/runs/flow-run/{run}") as page:
            page.get_by_role("button", name="Retry").first.wait_for()
            self.picture(page, f"{name}-before")
            page.get_by_role("button", name="Retry").first.click()
            page.get_by_role("dialog").get_by_role("button", name="Retry").click()
            self.wait_for(lambda: self.state(run)["type"] not in ENDED, "retry")

    def look(self, path: str, name: str, says: str, scheme: Literal["light", "dark"] = "light") -> None:
        """The page shows `says`; a picture of it is kept."""
        with self.page(path, scheme=scheme) as page:
            page.get_by_text(says).first.wait_for()
            self.picture(page, name)
