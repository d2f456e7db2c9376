"""A headless browser, driven over a pipe by the DevTools protocol: no driver and no package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
         "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking")  # fmt: skip


def found() -> str | None:
    """Return the path of a browser, the one that PREFDENSITY_BROWSER names first."""
    given = os.environ.get("PREFDENSITY_BROWSER")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One window: `show` a page at a width, `run` a script on it, take a picture."""

    def __init__(self) -> None:
        self.profile = tempfile.mkdtemp(prefix="prefdensity-browser-")
        theirs_in, self.to = os.pipe()
        self.since, theirs_out = os.pipe()

        def pipes() -> None:  # the protocol is read from 3 and written to 4
            os.dup2(theirs_in, 103), os.dup2(theirs_out, 104)
            os.dup2(103, 3), os.dup2(104, 4)

        command = [str(found()), *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, **quiet)
        os.close(theirs_in), os.close(theirs_out)
        self.rest, self.number, self.session = b"", 0, None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self("Page.enable"), self("Runtime.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.to)
        self.process.terminate()
        self.process.wait(20)
        os.close(self.since)
        shutil.rmtree(self.profile, ignore_errors=True)

    def __call__(self, method: str, **given: object) -> dict:
        """Return the answer to a command; what happens meanwhile is kept in `events`."""
        self.number += 1
        said = {"id": self.number, "method": method, "params": given}
        if self.session:
            said["sessionId"] = self.session
        os.write(self.to, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict:
        while b"\0" not in self.rest:
            assert select.select([self.since], [], [], 60)[0], "the browser does not answer"
            part = os.read(self.since, 1 << 20)
            assert part, "the browser has gone"
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def show(self, path: Path, width: int, height: int = 844, dark: bool = False, mobile: bool = False) -> None:
        """Open a file at a width in CSS pixels, in a light or a dark theme."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        went = self("Page.navigate", url=Path(path).absolute().as_uri())
        assert "errorText" not in went, f"{path}: {went['errorText']}"
        until = time.monotonic() + 60
        while self.run("location.href.startsWith('file:') ? document.readyState : ''") != "complete":
            assert time.monotonic() < until, f"{path} does not load"
            time.sleep(0.05)

    def run(self, script: str) -> object:
        """Return the value of an expression, of a promise what it comes to."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what is seen, or all of the page, as PNG."""
        given: dict[str, object] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self.run("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            given["clip"] = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 16000), "scale": 1}
        Path(path).write_bytes(base64.b64decode(self("Page.captureScreenshot", **given)["data"]))
