"""The Prefect server of this process: whether it answers, and whether it takes the password."""

import os

import httpx
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from cohobate.core.errors import UserError
from tasks.server import access, server_environment

_EPHEMERAL = "COHOBATE_EPHEMERAL_SERVER"  # the address of a run's short-lived server, in its environment


def use(url: str, password: str | None, *, ephemeral: bool = False) -> None:
    """From now on this process, and those that it starts, talk to the server at `url`."""
    os.environ["PREFECT_API_URL"] = f"{url}/api"
    if password:
        os.environ[access.CLIENT] = password
    if ephemeral:
        os.environ[_EPHEMERAL] = f"{url}/api"
    refresh_global_settings_context()


def is_lasting() -> bool:
    """Whether the server outlives this run, so that other runs and `cohobate up` use it too."""
    url = PREFECT_API_URL.value()
    return bool(url) and url != os.environ.get(_EPHEMERAL)


def connect() -> bool:
    """Make sure that the server which PREFECT_API_URL or a profile names can be used; False where none is named.

    The password of one that `cohobate up` started on this machine is read from its file. Raises UserError in one
    sentence where the server does not answer, or refuses.
    """
    api = PREFECT_API_URL.value()
    if not api:
        return False
    url = api.rstrip("/").removesuffix("/api")
    if server_environment.is_here(url) and not (PREFECT_API_AUTH_STRING.value() or PREFECT_API_KEY.value()):
        use(url, access.password(url))
    check(url)
    return True


def check(url: str) -> None:
    """Ask the server once. Raises UserError where it does not answer, or refuses."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            client.api_version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise UserError(
                f"the Prefect server at {url} refuses the password; give its own as {access.CLIENT} (user:password)"
            ) from None
        raise UserError(f"the server at {url} answers with {error.response.status_code}: {_ADVICE}") from None
    except httpx.HTTPError as error:
        raise UserError(f"no Prefect server answers at {url} ({type(error).__name__}): {_ADVICE}") from None
    except ValueError:
        raise UserError(f"what answers at {url} is no Prefect server: {_ADVICE}") from None


_ADVICE = "start it there, or unset PREFECT_API_URL, which names it (here `cohobate up` starts one)"
