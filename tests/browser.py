"""A real browser for tests of pages: Chromium over the DevTools protocol, on a pipe, with nothing but the
standard library. Where there is no Chromium the test skips and says so."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", "--no-first-run")
KEYS = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13, " ": 32}

# Texts whose contrast (WCAG 2.2) with what is behind them is below `least`: the first opaque background; for
# a text in a drawing its own outline, or the bar that it stands in.
CONTRAST = """(least) => {
  const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const rgba = text => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = e => {
    const bar = e.matches('text.inside') && e.previousElementSibling;
    if (bar) {
      const style = getComputedStyle(bar), c = rgba(style.fill);
      return [...over([...c.slice(0, 3), c[3] * style.opacity], behind(e.parentElement)), 1];
    }
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const found = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const e = node.parentElement, box = document.createRange();
    box.selectNodeContents(node);
    if (!node.data.trim() || !box.getClientRects().length) continue;
    if (e.closest('[hidden], script, style, option')) continue;
    const style = getComputedStyle(e), outlined = e instanceof SVGElement && style.stroke !== 'none';
    const back = outlined ? rgba(style.stroke) : behind(e);
    const front = rgba(e instanceof SVGElement ? style.fill : style.color);
    for (let up = e; up; up = up.parentElement) front[3] *= Number(getComputedStyle(up).opacity);
    const [a, b] = [light(over(front, back)), light(back)].sort((one, two) => two - one);
    const ratio = (a + .05) / (b + .05);
    if (ratio < least) found.add(`${node.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""


class Page:
    """One tab. `problems` gathers console errors, exceptions and refusals of the security policy."""

    def __init__(self) -> None:
        binary = next(filter(None, map(shutil.which, NAMES)), None)
        if binary is None:
            pytest.skip(
                f"no Chromium on this machine ({', '.join(NAMES)}): pages are tested in a real browser"
            )
        commands, replies = os.pipe(), os.pipe()

        def pipes() -> None:  # Chromium reads file descriptor 3 and writes 4
            read, write = os.dup(commands[0]), os.dup(replies[1])
            os.dup2(read, 3)
            os.dup2(write, 4)

        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [binary, *FLAGS, *sandbox, "about:blank"],
            preexec_fn=pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(replies[1])
        self.commands, self.replies = os.fdopen(commands[1], "wb"), os.fdopen(replies[0], "rb")
        self.count, self.buffer, self.session = 0, b"", None
        self.problems: list[str] = []
        self.events: set[str] = set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.commands.close()
        self.process.kill()
        self.process.wait()
        self.replies.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        number = self.count
        while True:
            found = self._receive()
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.replies.fileno(), 1 << 20)
            assert part, "Chromium ended"
            self.buffer += part
        first, self.buffer = self.buffer.split(b"\0", 1)
        found = json.loads(first)
        name, given = found.get("method", ""), found.get("params", {})
        self.events.add(name)
        if name == "Runtime.exceptionThrown":
            self.problems.append(str(given["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.problems.append(str(given["args"]))
        elif name == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.problems.append(given["entry"]["text"])
        return found

    def open(self, place: Path | str, script: bool = True) -> None:
        """Load a file from disk or an address, with or without its script."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.discard("Page.loadEventFired")
        self.call("Page.navigate", url=place if isinstance(place, str) else place.absolute().as_uri())
        while "Page.loadEventFired" not in self.events:
            self._receive()

    def show(self, width: int, height: int = 900, dark: bool = False, paper: bool = False) -> None:
        """The window's size, the system's mode, and whether the page is shown as it is printed."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        mode = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if paper else "", features=[mode])

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str, seconds: int = 60) -> bool:
        """Whether a condition in the page came true within so many seconds."""
        look = f"({condition}) ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 50)"
        end = f"const end = Date.now() + {1000 * seconds}"
        return bool(self.run(f"new Promise(done => {{ {end}; const look = () => {look}; look(); }})"))

    def press(self, key: str) -> None:
        """One key, where the focus is."""
        code = {"windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
        written = {} if len(key) > 1 and key != "Enter" else {"text": "\r" if key == "Enter" else key}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **code, **written)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page, for people to look at."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def faint(self, least: float = 4.5) -> list[str]:
        """Texts whose contrast is below `least`, with their ratio."""
        return list(self.run(f"({CONTRAST})({least})"))

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def browser() -> Iterator[Page]:
    """A tab, closed with its browser at the end; skips where there is no browser."""
    page = Page()
    try:
        yield page
    finally:
        page.close()
