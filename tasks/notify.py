"""A message to a webhook when a run fails, crashes, or is refused by the gate.

COHOBATE_WEBHOOK holds the address (an environment variable of the worker, or a Secret block `cohobate-webhook`); it
gets {"text": ...}, as Slack, Mattermost and Discord (its /slack address) read it.
"""

import json
import urllib.error
import urllib.request
from typing import Any

from prefect.logging import get_logger
from prefect.settings import PREFECT_UI_URL

from tasks.secrets import secret

WEBHOOK = "COHOBATE_WEBHOOK"
_SECONDS = 10


def notify(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of a flow: post which run ended, how, why, and its page. An error of the webhook is only logged."""
    address = secret(WEBHOOK)
    if not address:
        return
    # Prefect puts the exception's type before its message.
    reason = (state.message or "").rpartition("encountered an exception: ")[2]
    page = f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}"
    text = f"cohobate: {flow.name} '{flow_run.name}' {state.name}: {reason} {page}"
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except (urllib.error.URLError, OSError, ValueError) as error:
        # The address is a secret: an error may repeat it.
        get_logger("cohobate").warning("the webhook of %s took no message: %s", WEBHOOK, type(error).__name__)
