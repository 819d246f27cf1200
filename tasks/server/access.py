"""Who may use a Prefect server that cohobate starts: whoever has its password, and no page of another site.

By Prefect's own defaults each web page that is open in a browser of this machine may start runs there, and so commands.
The password is a `user:password` (HTTP basic authentication), passed on in the environment only. Imports no Prefect.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from cohobate.core.errors import UserError

CLIENT = "PREFECT_API_AUTH_STRING"
SERVER = "PREFECT_SERVER_API_AUTH_STRING"
_USER, _BYTES = "cohobate", 24
_LONGEST = 1024  # characters of a file that somebody else may have written


def new_password() -> str:
    """A `user:password` that cannot be guessed."""
    return f"{_USER}:{secrets.token_urlsafe(_BYTES)}"


def password_file(url: str) -> Path:
    """Where the password of the server at `url`, on this machine, is: beside its database."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    return home / "cohobate" / f"server-{_port(url)}.password"


def password(url: str) -> str | None:
    """That of the server at `url`: the environment's, else that of its file; None where there is neither.

    Raises UserError for an environment that contradicts itself, and for a file that others can read or that is damaged.
    """
    own, servers = os.environ.get(CLIENT), os.environ.get(SERVER)
    if own and servers and own != servers:
        raise UserError(f"{CLIENT} and {SERVER} differ: programs could not talk to the server; set one of them only")
    path = password_file(url)
    return own or servers or (_read(path) if path.is_file() else None)


def make_password(url: str) -> str:
    """The password of a server that is about to be started at `url`, in a file that only its owner can read.

    Raises UserError where no such file can be made, and as `password`.
    """
    path = password_file(url)
    if not path.exists():
        try:
            _write(path)
        except OSError as error:
            raise UserError(
                f"no password of the server can be kept in {path} ({error.strerror or type(error).__name__}): make "
                f"that folder writable, or set {SERVER} to a user:password of your own"
            ) from None
    return _read(path)


def _write(path: Path) -> None:
    """A new password, unless there is one by now. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A file of its own first, which nobody else can have laid there: another `cohobate up` must not read half of it.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{new_password()}\n")
        with suppress(FileExistsError):  # that of the other
            path.hardlink_to(draft)
    finally:
        draft.unlink()


def closed(url: str, password: str) -> dict[str, str]:
    """The settings of a server at `url` that obeys only requests with the password, and only its own pages."""
    own = ",".join(f"http://{host}:{_port(url)}" for host in ("127.0.0.1", "localhost", "[::1]"))
    return {
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        SERVER: password,
    }


def _port(url: str) -> int:
    return urlsplit(url).port or 80


def _read(path: Path) -> str:
    advice = "delete it, and start the server again for a new one"
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())  # of what is read, whatever the name says a moment later
            if status.st_uid != os.geteuid():
                raise UserError(f"the password in {path} is a file of another user's: {advice}")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise UserError(f"the password in {path} can be read by others: {advice}")
            text = file.read(_LONGEST).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the password in {path} cannot be read ({type(error).__name__}): {advice}") from None
    name, colon, secret = text.partition(":")
    if not (name and colon and secret) or any(character.isspace() for character in text):
        raise UserError(f"{path} does not hold a line user:password: {advice}")
    return text
