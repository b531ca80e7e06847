"""A real browser, headless, spoken to over its debugging pipe: no package and no port."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

# Where there is none, scripts/setup/browser.sh has said so.
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
]
_SECONDS = 120


class Tab:
    """One page that is shown."""

    def __init__(self, ask, events):
        self._ask, self.events = ask, events

    def call(self, method, **params):
        return self._ask(method, params)

    def open(self, path):
        """Load a file; the seconds until all of it was laid out."""
        self.events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.call("Runtime.evaluate", expression="0")
            time.sleep(0.02)
        self.js("document.body.offsetHeight")
        return time.monotonic() - began

    def js(self, expression):
        """What an expression comes to. The page itself may run no script; this is the debugger's own."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def screen(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def media(self, medium="", **features):
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=medium, features=given)

    def press(self, key, code=0):
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def tree(self):
        """What a screen reader is given: nodes with role, name and properties."""
        return [node for node in self.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF")["data"])


@contextmanager
def browser(profile):
    """A tab of a new browser with an empty profile."""
    to_read, to_write = os.pipe(), os.pipe()
    # Its descriptor 3, which it reads, and its 4, which it writes: from numbers above, that neither takes the other's place.
    given = fcntl.fcntl(to_read[0], fcntl.F_DUPFD, 10), fcntl.fcntl(to_write[1], fcntl.F_DUPFD, 10)
    argv = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
    shell = f'exec "$@" 3<&{given[0]} 4>&{given[1]} {given[0]}<&- {given[1]}>&-'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *argv],
        pass_fds=given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for descriptor in (to_read[0], to_write[1], *given):
        os.close(descriptor)
    events, left, number, session = [], b"", 0, None

    def message():
        nonlocal left
        while b"\0" not in left:
            ready, _, _ = select.select([to_write[0]], [], [], _SECONDS)
            part = os.read(to_write[0], 1 << 20) if ready else b""
            assert part, "the browser ended, or says nothing"
            left += part
        text, _, left = left.partition(b"\0")
        return json.loads(text)

    def ask(method, params):
        nonlocal number
        number += 1
        sent = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        data = json.dumps(sent).encode() + b"\0"
        while data:
            data = data[os.write(to_read[1], data) :]
        while True:
            told = message()
            if told.get("id") == number:
                assert "error" not in told, (method, told)
                return told["result"]
            if "method" in told:
                events.append(told)

    try:
        target = ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            ask(f"{domain}.enable", {})
        yield Tab(ask, events)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to_read[1])
        os.close(to_write[0])
