"""Reports and other pages of the data folder, for the links of the UI: served by `cohobate up`, on the next port.

A browser opens no file from a web page, and the password of the Prefect server is no use for a link; so the address of
each page holds a token that is made of the password. The page of all runs, and what it shows of an artifact, are
written when they are asked for; nothing else is changed, and no file but pages is served.
"""

import hashlib
import hmac
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

from cohobate.core.errors import CohobateError
from cohobate.core.server_address import server_address
from cohobate.store.artifacts import data_root
from tasks.server import access, server_environment

_STAGES = ("report", "comparison", "judge", "recovery", "single")  # whose artifacts are pages
_PAGES = "pages"  # the folder of those that were written on request, of the data or of a stage
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # a page that links elsewhere does not give its address away
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:; connect-src 'none'; form-action 'none'",
}
_LONGEST = 4096  # characters of an address
_WRITING = {kind: threading.Lock() for kind in ("runs", "details", "samples")}


def link(page: Path) -> str | None:
    """The address of a page of the data folder; None where `cohobate up` of this machine does not serve it."""
    url, password = server_address(), os.environ.get(access.CLIENT)
    root = data_root().absolute()
    if not password or not server_environment.is_here(url) or not page.absolute().is_relative_to(root):
        return None
    where = quote(page.absolute().relative_to(root).as_posix())
    return f"http://127.0.0.1:{_port(url)}/{_token(password)}/{where}"


def all_runs() -> str | None:
    """The address of the page of all runs; None as `link`."""
    return link(data_root() / _PAGES / "runs.html")


def serve(url: str) -> ThreadingHTTPServer | None:
    """Serve the pages in a thread, beside the Prefect server at `url`; None where that has no password, or the port is
    taken.
    """
    password = os.environ.get(access.CLIENT)
    if not password or not server_environment.is_here(url):
        return None
    handler = type("Pages", (_Pages,), {"root": data_root().absolute(), "token": _token(password)})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", _port(url)), handler)
    except OSError:
        return None
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


def _port(url: str) -> int:
    return (urlsplit(url).port or 80) % 65535 + 1


def _token(password: str) -> str:
    return hmac.new(password.encode(), b"cohobate pages", hashlib.sha256).hexdigest()[:32]


def _write(path: Path) -> None:
    """Write what is made when it is asked for: the page of all runs, and the pages of an artifact."""
    from cohobate.report import dataset, details, runs

    if path == runs.page_path().resolve():
        _in_turn("runs", path, runs.refresh)
    elif not path.exists() and (artifact := runs.stored(f"{path.parents[1].name}/{path.stem}")):
        if path == details.details_path(artifact).resolve():
            _in_turn("details", path, lambda: path.exists() or details.write_details(artifact))
        elif path == dataset.default_path(artifact).resolve():
            _in_turn("samples", path, lambda: path.exists() or dataset.write_page(artifact, path))


def _in_turn(kind: str, path: Path, write: Callable[[], object]) -> None:
    """Write one page of a kind at a time; where a page is there while it is written anew, nobody waits for that."""
    if _WRITING[kind].acquire(blocking=not path.exists()):
        try:
            write()
        finally:
            _WRITING[kind].release()


class _Pages(BaseHTTPRequestHandler):
    root: ClassVar[Path]
    token: ClassVar[str]
    timeout = 30  # seconds in which a request has to come

    def do_GET(self) -> None:
        path = self._page()
        try:
            file = path.open("rb") if path else None
        except OSError:
            file = None
        if path is None or file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_response(HTTPStatus.OK)
            for name, value in {**_HEADERS, "Content-Type": _KINDS[path.suffix]}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)

    def _page(self) -> Path | None:
        """The file that is asked for; None where there is none, or it may not be had."""
        if len(self.path) > _LONGEST:
            return None
        try:
            token, _, name = unquote(urlsplit(self.path).path, errors="strict").lstrip("/").partition("/")
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                return None  # before the disk is looked at
            path = (self.root / name).resolve()
            parts = path.relative_to(self.root.resolve()).parts
        except (ValueError, OSError, RuntimeError):  # no text, no name of a file, outside, links in a circle
            return None
        is_page = parts[:1] and (parts[0] in _STAGES or _PAGES in parts[:2])
        if not is_page or path.suffix not in _KINDS:
            return None
        with suppress(CohobateError, OSError):  # a page that cannot be written is not there
            _write(path)
        return path if path.is_file() else None

    def log_message(self, format: str, *arguments: object) -> None:
        """The address holds the token, and is no line of a log."""
