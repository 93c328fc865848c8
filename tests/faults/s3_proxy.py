"""An HTTP proxy in front of an object store that misbehaves on chosen requests, then heals.

    with misbehaving(store.url, Fault("PUT", "manifests/", "lost answer")) as proxy: …
    proxy.faults      # each request that was spoiled: the proof that the fault happened

It passes everything on as it is, with the client's `Host`, so that signatures stay valid.
"""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

How = Literal["status", "lost answer", "lost request", "hang", "truncated", "cut off", "hang after"]
_HANG_S = 60.0
_HOP = ("connection", "transfer-encoding", "keep-alive")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to go wrong.

    Attributes:
        method: of the requests that it hits.
        path: a pattern found in their path.
        how: `status`: refused with it; `lost request`, `lost answer`: the connection breaks before or after the store
            did it; `hang`, `hang after`: no answer, before or after the store did it; `truncated`: the answer's body
            breaks off in the middle; `cut off`: before its first byte, so that no number of requests gets to the end.
        status: of the refusal.
        first: which of the matching requests is the first to be spoiled, from 1.
        times: how many in a row are spoiled; None: all from there on.
    """

    method: str
    path: str
    how: How = "status"
    status: int = 503
    first: int = 1
    times: int | None = 1


@dataclass(slots=True)
class Proxy:
    """A proxy that runs.

    Attributes:
        url: where clients go.
        faults: method and path of each request that was spoiled.
        log: all requests.
    """

    url: str
    fault: Fault
    target: str
    faults: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    healed: threading.Event = field(default_factory=threading.Event)
    _matching: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def heal(self) -> None:
        """Ends the fault, and lets go of what hangs."""
        self.healed.set()

    def misbehave(self, fault: Fault) -> None:
        """Begins another fault, and forgets what was spoiled before."""
        with self._lock:
            self.fault, self._matching = fault, 0
            self.faults.clear()
            self.healed.clear()

    def spoils(self, method: str, path: str) -> bool:
        """Decides about a request, and notes it."""
        fault, asked = self.fault, unquote(path)
        with self._lock:
            self.log.append(f"{method} {asked}")
            if self.healed.is_set() or method != fault.method or not re.search(fault.path, asked):
                return False
            self._matching += 1
            last = None if fault.times is None else fault.first + fault.times
            if self._matching < fault.first or (last is not None and self._matching >= last):
                return False
            self.faults.append(f"{method} {asked}")
            return True


@contextmanager
def misbehaving(target: str, fault: Fault) -> Iterator[Proxy]:
    """Yields a proxy in front of the store at the URL `target`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = Proxy(f"http://127.0.0.1:{server.server_port}", fault, target)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy.heal()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    proxy: Proxy
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        proxy, body = self.server.proxy, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not proxy.spoils(self.command, self.path):
            self._answer(*self._ask(body))
            return
        how = proxy.fault.how
        if how == "status":
            self._answer(proxy.fault.status, {"Content-Type": "application/xml"}, _REFUSED)
        elif how in ("truncated", "cut off"):
            status, headers, whole = self._ask(body)
            self._truncate(status, headers, whole[: len(whole) // 2 if how == "truncated" else 0])
        else:
            if how in ("lost answer", "hang after"):
                self._ask(body)
            if how in ("hang", "hang after"):
                proxy.healed.wait(_HANG_S)
            self._break()

    do_PUT = do_HEAD = do_DELETE = do_POST = do_GET  # noqa: N815  (the names are http.server's)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Passes the request on to the store."""
        host = urlsplit(self.server.proxy.target)
        connection = http.client.HTTPConnection(str(host.hostname), host.port, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _truncate(self, status: int, headers: dict[str, str], part: bytes) -> None:
        """Promises the whole body and sends a part of it."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(part)
        self._break()

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: the proxy keeps its own log."""


_REFUSED = b"<Error><Code>InternalError</Code><Message>the test said so</Message></Error>"
