"""A headless Chromium, spoken to over a pipe in the DevTools protocol: nothing but the browser is needed.

JSON messages, each ended by a zero byte, on its file descriptors 3 and 4 (--remote-debugging-pipe).
"""

import base64
import fcntl
import itertools
import json
import os
import subprocess
import sys
import time

KEYS = {"Tab": 9, "Enter": 13, "ArrowDown": 40, "ArrowUp": 38}
CTRL, SHIFT = 2, 8
# the pipe's ends become the descriptors 3 and 4, and then this process becomes the browser
BECOME = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Page:
    """One page of a browser of its own. `asked`: the addresses that it has asked for."""

    def __init__(self, chromium, folder, width=600, height=560):
        theirs_in, self.out = self._pipe()
        self.into, theirs_out = self._pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
        flags += [f"--user-data-dir={folder}", f"--window-size={width},{height}", "--hide-scrollbars", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME, str(theirs_in), str(theirs_out), chromium, *flags],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.numbers, self.rest, self.session, self.asked = itertools.count(1), b"", "", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.out)
        os.close(self.into)
        self.process.terminate()
        self.process.wait(30)

    @staticmethod
    def _pipe():
        """Both ends of a pipe, with numbers above 10, so that neither is where the browser's own will be."""
        ends = os.pipe()
        moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
        for end in ends:
            os.close(end)
        return moved

    def call(self, method, **params):
        """What the browser answers to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                read = os.read(self.into, 1 << 16)
                assert read, "the browser has ended"
                self.rest += read
            one, _, self.rest = self.rest.partition(b"\0")
            said = json.loads(one)
            if said.get("method") == "Network.requestWillBeSent":
                self.asked.append(said["params"]["request"]["url"])
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def run(self, script):
        """The value of a JavaScript expression, in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script, seconds=60):
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"it did not happen: {script}"
            time.sleep(0.02)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def press(self, key, modifiers=0):
        """A key, as if it were pressed on a keyboard."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        text = {"text": "\r"} if key == "Enter" and not modifiers else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def focused(self):
        return self.run("document.activeElement.id || document.activeElement.tagName")

    def picture(self, path):
        """A PNG of all of the page."""
        self.run("scrollTo(0, 0)")
        height = self.run("document.body.getBoundingClientRect().bottom + 20")
        clip = {"x": 0, "y": 0, "width": self.run("innerWidth"), "height": height, "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
