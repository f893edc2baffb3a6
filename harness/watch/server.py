"""The page of a running run, on this machine alone: two addresses, the page and what it shows as JSON.

Nothing of the run's folder is served by its path. A request must name this machine as its host: a foreign
name that was made to point here (DNS rebinding) is refused. What a model wrote travels as JSON and is put
into the page as text; the page's policy allows its own script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from secrets import compare_digest, token_urlsafe

from markupsafe import Markup

from harness.tables.html import environment
from harness.watch.view import View, Watch
from vzero.errors import InputError

HERE = "127.0.0.1"
HOSTS = frozenset({HERE, "localhost"})
EVERY = 1.0  # seconds between two looks at the folder, however many ask
FAREWELL = 3.0  # seconds for the page to fetch how it ended


@dataclass
class Page:
    """What is served of one run.

    Attributes:
        told: the state that a page was told last.
        key: part of its addresses: other accounts of the machine, who can connect too, do not know it.
    """

    run: Path
    told: str = ""
    key: str = field(default_factory=lambda: token_urlsafe(16))
    _watch: Watch = field(init=False)
    _looked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._watch = Watch(self.run)

    def view(self) -> View:
        """How the run stands, at most a second old.

        Raises:
            InputError: it is no run.
        """
        with self._lock:
            if self._watch.last is None or time.monotonic() - self._looked > EVERY:
                self._watch.look()
                self._looked = time.monotonic()
            assert self._watch.last is not None
            return self._watch.last

    @cached_property
    def _script(self) -> str:
        return (resources.files("harness.watch") / "templates" / "live.js").read_text(encoding="utf-8")

    @cached_property
    def policy(self) -> str:
        """What the page may load: itself, pictures inside its data, its own script."""
        own = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
        return (
            f"default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{own}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    @cached_property
    def html(self) -> str:
        """The page, the same for every run."""
        return environment("harness.watch").get_template("live.html.j2").render(script=Markup(self._script))


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version, timeout = "vzero-harness", "", 10
    page: Page

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].rpartition(":")[0 if ":" in hosts[0] else 2] not in HOSTS:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "This page is for this machine alone.\n")
        elif not compare_digest(self.path.rpartition("/")[0].encode(), f"/{self.page.key}".encode()):
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "There is nothing here; give the whole address.\n")
        elif self.path.endswith("/"):
            self._send(HTTPStatus.OK, "text/html", self.page.html)
        elif self.path.endswith("/state.json"):
            view = self.page.view()
            self._send(HTTPStatus.OK, "application/json", view.model_dump_json())
            self.page.told = view.state
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "There is nothing here but the page.\n")

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", self.page.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are nobody's concern."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error."""


@contextmanager
def serving(run: Path, port: int = 0) -> Iterator[tuple[Page, str]]:
    """Serve `run` until the end of the body: its page and its address. A page that looks on is then told how
    it ended.

    Args:
        port: on this machine; 0 takes a free one.

    Raises:
        InputError: `run` is no run directory, or the port is taken.
    """
    page = Page(run)
    page.view()
    try:
        server = _Server((HERE, port), type("Handler", (_Handler,), {"page": page}))
    except OSError as error:
        raise InputError(f"Cannot serve on port {port}: {error.strerror}; choose another --port.") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield page, f"http://{HERE}:{server.server_port}/{page.key}/"
        until = time.monotonic() + FAREWELL
        while page.told == "running" and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        server.shutdown()
        server.server_close()
