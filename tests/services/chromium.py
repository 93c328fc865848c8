"""A headless Chromium that a test drives over its DevTools protocol: open, type, click, read, take a picture.

The protocol is JSON over one websocket, and five of its methods are enough: no driver has to fit the version.
"""

import base64
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.services.service import RigError, Spec, answers, free_ports, service

_SIZE = (1400, 1000)
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # needs user namespaces, which containers often lack; it shows our own pages only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    f"--window-size={_SIZE[0]},{_SIZE[1]}",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_COUNT_COLOURS = """
(async () => {
  const image = new Image();
  image.src = "data:image/png;base64,DATA";
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return new Set(new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer)).size;
})()
"""


@dataclass(frozen=True, slots=True)
class Page:
    """One tab.

    Attributes:
        pictures: folder where screenshots go.
    """

    pictures: Path
    _socket: ClientConnection
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self, url: str) -> None:
        """Goes to an address; wait for what it should show."""
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Returns the JSON value of a JavaScript expression.

        Raises:
            RigError: it threw.
        """
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RigError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, *texts: str, limit_s: float = 30.0) -> str:
        """Returns the page's text once it shows all of these.

        Raises:
            RigError: it does not within the limit; the message says what it shows, and a screenshot is taken.
        """
        deadline = time.monotonic() + limit_s
        while missing := [text for text in texts if text not in self.text]:
            if time.monotonic() > deadline:
                self.screenshot("missing")
                where = self.evaluate("location.href")
                raise RigError(f"{where} does not show {missing} within {limit_s:g} s, but: {self.text[:2000]!r}")
            time.sleep(0.2)
        return self.text

    def settle(self, quiet_s: float = 1.0, limit_s: float = 15.0) -> None:
        """Returns when the page has not changed for some time; one that always changes is left as it is."""
        deadline, before, since = time.monotonic() + limit_s, "", time.monotonic()
        while time.monotonic() < deadline:
            now = str(self.evaluate("document.body.innerHTML"))
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet_s:
                return
            time.sleep(0.2)

    def type_into(self, selector: str, text: str) -> None:
        """Types into a field, key by key as far as the page can tell."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self._call("Input.insertText", text=text)

    def press_enter(self) -> None:
        """Presses the key Enter."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self._call("Input.dispatchKeyEvent", type="keyDown", **key)
        self._call("Input.dispatchKeyEvent", type="keyUp", **key)

    def screenshot(self, name: str) -> Path:
        """Takes a picture of what is visible; returns the PNG file."""
        data = self._call("Page.captureScreenshot", format="png")["data"]
        path = self.pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(data))
        return path

    def colours(self, picture: Path) -> int:
        """Returns how many colours a picture has; a blank one has one. Leaves the page that was open."""
        self.open("about:blank")
        data = base64.b64encode(picture.read_bytes()).decode()
        return int(self.evaluate(_COUNT_COLOURS.replace("DATA", data)))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") != number:  # an event, or the answer to a call that failed
                continue
            if "error" in answer:
                raise RigError(f"{method}: {answer['error']}")
            found: dict[str, Any] = answer["result"]
            return found


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """Yields a tab of a new browser that has never been anywhere.

    Args:
        folder: for its profile, log and pictures; must exist.
    """
    (port,) = free_ports(1)
    profile = tempfile.mkdtemp(prefix="chromium-", dir=folder)
    url = f"http://127.0.0.1:{port}/json"
    command = [chromium_program(), *_OPTIONS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}"]
    spec = Spec("chromium", [*command, "about:blank"], folder, lambda _: answers(f"{url}/version"))
    with service(spec):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/list", timeout=10) as answer:
            tab = next(each for each in json.load(answer) if each["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Page(folder, socket)


def chromium_program() -> str:
    """The browser's program.

    Raises:
        RigError: there is none.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise RigError("there is no Chromium: install Debian's package chromium")
    return found
