"""The message to the webhook, as a server of this machine gets it."""

import logging
from uuid import UUID

import pytest

from tests.support.prefect_server import SECRETS, Webhook

pytestmark = pytest.mark.serves

RUN = UUID("01234567-89ab-4def-8123-456789abcdef")
PREAMBLE = "Flow run encountered an exception: "


def post(message: str, name: str = "Failed") -> None:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.states import Crashed, Failed

    from flows.nightly import nightly
    from tasks.notify import notify

    state: State[None] = (Crashed if name == "Crashed" else Failed)(message=message, name=name)
    run = FlowRun(id=RUN, flow_id=RUN, name="arithmetic 2026-01-02 02:00:00")
    notify(nightly, run, state)


@pytest.mark.parametrize(
    ("message", "name", "said"),
    [
        (
            f"{PREAMBLE}GateError: tiny does not pass the gate and is not promoted: pass rate 0.2, was 0.9",
            "Failed",
            ["nightly was refused by the gate", "Why: tiny does not pass the gate and is not promoted: pass rate 0.2"],
        ),
        (f"{PREAMBLE}UserError: no such file", "Failed", ["nightly failed", "Why: no such file\n"]),
        (f"{PREAMBLE}KeyError: 'x'", "Failed", ["Why: KeyError: 'x'\n"]),
        ("Flow run process exited with non-zero status code -9.", "Crashed", ["crashed", "status code -9.\n"]),
        (f"{PREAMBLE}ValueError: <!channel> a & b\nsecond", "Failed", ["&lt;!channel&gt; a &amp; b second\n"]),
        (f"{PREAMBLE}OSError: http://me:pass@host/x?key=abc said {SECRETS[1]}", "Failed", ["http://host/x said ...\n"]),
        ("24 requests are under way", "Awaiting", ["nightly awaits its teacher", "Why: 24 requests are under way"]),
        ("x" * 5000, "Failed", ["xxx...\n"]),
        ("", "Crashed", ["Why: \n"]),
    ],
)
def test_a_message_says_what_failed(message: str, name: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = Webhook()
    monkeypatch.setenv("COHOBATE_WEBHOOK", webhook.url)
    monkeypatch.setenv("TEACHER_KEY", SECRETS[1])
    post(message, name)
    webhook.server.shutdown()
    [text] = webhook.texts
    assert all(each in text for each in said), text
    lines = text.splitlines()
    assert len(lines) == 4 and lines[0].startswith("cohobate: nightly") and len(text) < 1000
    assert lines[1] == "Run: arithmetic 2026-01-02 02:00:00" and lines[3].endswith(f"/runs/flow-run/{RUN}")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/{}", "http://127.0.0.1:x/{}", "ftp://h/{}", "file:///tmp/{}", "http://a b\n{}", "{}"],
)
def test_a_webhook_that_takes_nothing_is_only_logged(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("COHOBATE_WEBHOOK", address.format(SECRETS[0]))
    logging.getLogger("prefect").propagate = True
    with caplog.at_level(logging.DEBUG):
        post("it failed")
    assert SECRETS[0] not in caplog.text


def test_the_recipe_is_named(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohobate.config.load import load_recipe
    from cohobate.store import runs

    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path))
    runs.begin(load_recipe("tiny"), "report", flow="nightly", flow_run_id=str(RUN))
    webhook = Webhook()
    monkeypatch.setenv("COHOBATE_WEBHOOK", webhook.url)
    post("it failed")
    webhook.server.shutdown()
    assert webhook.texts[0].startswith("cohobate: nightly of recipe tiny failed\n")
