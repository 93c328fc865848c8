"""Somebody who is told by a webhook: an HTTP server on loopback that keeps what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer


@dataclass(frozen=True, slots=True)
class Webhook:
    """Somebody who is told.

    Attributes:
        url: where to post JSON.
        told: what was posted, in its order.
    """

    url: str
    told: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Yields a server that listens."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.webhook = Webhook(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.webhook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(HTTPServer):
    webhook: Webhook


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.webhook.told.append(json.loads(body))
        self.send_response_only(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""
