"""A message to a webhook when a run fails, crashes, or is refused by the gate.

COHOBATE_WEBHOOK holds the address (an environment variable of the worker, or a Secret block `cohobate-webhook`); it
gets {"text": ...}, as Slack, Mattermost and Discord (its /slack address) read it.
"""

import json
import re
import urllib.request
from typing import Any

from prefect.logging import get_logger
from prefect.settings import PREFECT_UI_URL

from cohobate.core import errors
from cohobate.core.sanitize import one_line, without_secrets
from cohobate.store import runs
from tasks.best_effort import attempt
from tasks.secrets import secret

WEBHOOK = "COHOBATE_WEBHOOK"
_SECONDS = 10
_LONGEST = 600  # characters of the reason
_REFUSED = "GateError"
# Prefect's words, and the exception's type, before its message.
_PREAMBLE = re.compile(r"(?:.*encountered an exception: )?(?:(\w+): )?(.*)", re.DOTALL)


def notify(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of a flow: post which run ended, how, why, and its page. An error of the webhook is only logged."""
    address = secret(WEBHOOK)
    if not address:
        return
    try:
        if not address.startswith(("https://", "http://")):
            raise ValueError
        body = json.dumps({"text": message(flow, flow_run, state)}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except Exception as error:
        # The address is a secret: an error may repeat it, and must not reach Prefect's log of failed hooks.
        get_logger("cohobate").warning("the webhook of %s took no message: %s", WEBHOOK, type(error).__name__)


def message(flow: Any, flow_run: Any, state: Any) -> str:
    """Four lines in the escapes of Slack: recipe and outcome, the run, what failed in a sentence, the run's page."""
    kind, reason = _PREAMBLE.fullmatch(state.message or "").groups()  # type: ignore[union-attr]
    if kind and not hasattr(errors, kind):  # another library's: its type says as much as its message
        reason = f"{kind}: {reason}"
    words = {"Awaiting": "awaits its teacher"}
    outcome = "was refused by the gate" if kind == _REFUSED else words.get(state.name, str(state.name).lower())
    record = attempt(runs.of_flow_run, flow_run_id=str(flow_run.id))
    recipe = f" of recipe {record.recipe['name']}" if record else ""
    return "\n".join(
        [
            f"cohobate: {flow.name}{recipe} {outcome}",
            f"Run: {_escaped(flow_run.name)}",
            f"Why: {_escaped(reason)}",
            f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}",
        ]
    )


def _escaped(text: str) -> str:
    """`text` in one line of bounded length, without keys, in Slack's escapes: it mentions nobody, and links nothing."""
    line = without_secrets(one_line(text))
    short = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
