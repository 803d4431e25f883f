#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the report's page: that a browser, Debian's chromium without a screen, shows it from a
file without a complaint and without anything beyond its edge.

    test_page.py                        the tests
    test_page.py PAGE.html FOLDER       pictures of a page, to be looked at; "sample": of a made-up one
"""

import base64
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import test_ab  # noqa: E402
from lab import page  # noqa: E402

WIDTHS = (360, 1280)
SECONDS = 60
BROWSER = shutil.which("chromium")


class Browser:
    """A browser that is driven through a pipe, in the DevTools protocol: JSON messages, each with a
    zero byte after it."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="hakmem-browser-")
        ours_out, theirs_in = os.pipe(), os.pipe()

        def connect():
            # The protocol's descriptors are 3, which the browser reads, and 4, which it writes.
            # Either may be where the other belongs.
            reads, writes = (fcntl.fcntl(file, fcntl.F_DUPFD, 10)
                             for file in (ours_out[0], theirs_in[1]))
            os.dup2(reads, 3)
            os.dup2(writes, 4)
        self.process = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             f"--user-data-dir={self.home}"],
            env={**os.environ, "HOME": self.home}, preexec_fn=connect, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        os.close(ours_out[0])
        os.close(theirs_in[1])
        self.writes, self.reads = ours_out[1], theirs_in[0]
        self.buffer, self.number, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.writes)
        os.close(self.reads)
        shutil.rmtree(self.home, ignore_errors=True)

    def _message(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reads], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.reads, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer")
            self.buffer += chunk
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (answer := self._message(deadline)).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, path, width, scheme="light"):
        """Shows a file; returns what it complained of and asked the network for."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        deadline = time.monotonic() + SECONDS
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message(deadline))
        self.evaluate("document.fonts.ready.then(() => 1)")
        complaints = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                complaints.append(json.dumps(parameters))
            if method == "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if not url.startswith(("file://", "data:")):
                    complaints.append(f"asked for {url}")
        return complaints

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def picture(self, path):
        """The whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size["width"],
                               "height": min(size["height"], 12000), "scale": 1})
        Path(path).write_bytes(base64.b64decode(shot["data"]))


# A function: what lies beyond a width, text in plots included, apart from what is not shown.
BEYOND = """(width =>
    [...document.querySelectorAll('body *')].filter(element => {
        const box = element.getBoundingClientRect();
        return box.width && (box.right > width + 0.5 || box.left < -0.5);
    }).map(element => element.tagName + ' ' + (element.textContent || '').trim().slice(0, 60))
)"""


def sample():
    """A page with everything in it: long names, rows that failed, curves, counters."""
    names = ("random_mixed short", "larson 4 threads", "pair 64 B", "eighteen chars ok.", "python3")
    rows = [test_ab.invented_row(name, ratio=ratio, seconds=ratio / 10, rss=rss)
            for name, ratio, rss in zip(names, (3.2, 1.4, 0.97, 1.0, 0.4), (900, 99999, 1 << 20, 1, 5))]
    failed = test_ab.invented_row("failed")
    failed.failure = "default: killed by SIGABRT: " + "a long story " * 9
    failed.command = "LD_PRELOAD=/a/" + "very" * 30 + "/long/path/libhakmem.so program"
    skipped = test_ab.comparison.Row(test_ab.short_workload("skipped"), None,
                                     skipped="needs redis-server: apt-get install redis-server")
    return test_ab.invented([*rows, failed, skipped], "default",
                            "default+CONFIG_CACHE_BLOCKS_1024=32+CONFIG_CACHE_BYTES=65536", "system")


@unittest.skipUnless(BROWSER, "chromium is not installed")
class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="hakmem-page-"))
        cls.file = cls.folder / "page with space.html"
        cls.data = sample()
        page.write(cls.data, cls.file)
        cls.text = cls.file.read_text()
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        shutil.rmtree(cls.folder)

    def test_a_browser_opens_it_without_a_complaint(self):
        for width in WIDTHS:
            self.assertEqual(self.browser.open(self.file, width), [])
            self.assertIn("default", self.browser.evaluate("document.title"))

    def test_complaints_would_be_seen(self):
        bad = self.folder / "bad.html"
        bad.write_text("<script>console.error('x'); nothing()</script>"
                       "<img src='http://127.0.0.1:9/x.png'>")
        complaints = "\n".join(self.browser.open(bad, 360))
        for expected in ('"type": "error"', "nothing is not defined", "asked for http://127.0.0.1:9"):
            self.assertIn(expected, complaints)

    def test_nothing_overflows(self):
        for width in WIDTHS:
            self.browser.open(self.file, width)
            self.browser.evaluate(
                "document.querySelectorAll('details').forEach(d => { d.open = true; })")
            self.assertEqual(self.browser.evaluate("innerWidth"), width)
            self.assertLessEqual(
                self.browser.evaluate("document.documentElement.scrollWidth"), width)
            self.assertEqual(self.browser.evaluate(f"{BEYOND}({width})"), [])

    def test_what_overflows_would_be_seen(self):
        wide = self.folder / "wide.html"
        wide.write_text("<meta name=viewport content='width=device-width'>"
                        "<body><div style='width: 900px'>wide</div>")
        self.browser.open(wide, 360)
        self.assertEqual(self.browser.evaluate(f"{BEYOND}(360)"), ["DIV wide"])

    def test_light_and_dark_differ_in_the_plots_too(self):
        seen = []
        for scheme in ("light", "dark"):
            self.browser.open(self.file, 1280, scheme)
            seen.append(self.browser.evaluate(
                "[getComputedStyle(document.body).backgroundColor,"
                " getComputedStyle(document.querySelector('.forest.wide text')).fill]"))
        self.assertNotEqual(seen[0][0], seen[1][0])
        self.assertNotEqual(seen[0][1], seen[1][1])

    def test_text_in_plots_lies_within_them(self):
        for width in WIDTHS:
            self.browser.open(self.file, width)
            self.assertEqual(self.browser.evaluate("""
                [...document.querySelectorAll('svg')].flatMap(svg => {
                    const edge = svg.getBoundingClientRect();
                    return [...svg.querySelectorAll('text')].filter(text => {
                        const box = text.getBoundingClientRect();
                        return edge.width && (box.right > edge.right + 1 || box.left < edge.left - 1);
                    }).map(text => text.textContent);
                })"""), [])

    def test_it_needs_nothing_else_and_runs_no_script(self):
        self.assertNotRegex(self.text, r"<script|<link[^>]+stylesheet|@import|src=\"(?!data:)")
        self.assertNotRegex(self.text, r"#0a000[1-8]")

    def test_every_row_and_what_failed_is_there(self):
        for row in self.data["rows"]:
            self.assertIn(row["workload"], self.text)
        self.assertIn("killed by SIGABRT", self.text)
        self.assertIn("needs redis-server", self.text)
        self.assertIn("CONFIG_DEFAULT", self.text)

    def test_names_are_unique_over_all_plots(self):
        names = re.findall(r'\bid="([^"]+)"', self.text)
        self.assertEqual(len(names), len(set(names)))
        for name in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", self.text):
            self.assertIn("".join(name), names)


class Differences(unittest.TestCase):
    def test_options_are_compared_symbol_by_symbol(self):
        a = {"options": {"CONFIG_X": "1", "CONFIG_SIZE": "8", "CONFIG_SAME": "1"}}
        b = {"options": {"CONFIG_Y": "1", "CONFIG_SIZE": "1", "CONFIG_SAME": "1", "CONFIG_N": "5"}}
        self.assertEqual(page.differences(a, b), [
            ("CONFIG_X", "y", "n"), ("CONFIG_SIZE", "8", "1"), ("CONFIG_Y", "n", "y"),
            ("CONFIG_N", "-", "5")])
        self.assertIsNone(page.differences(a, {"options": None}))


def main():
    if len(sys.argv) == 3:
        source, folder = sys.argv[1:]
        os.makedirs(folder, exist_ok=True)
        if source == "sample":
            source = Path(folder) / "sample.html"
            page.write(sample(), source)
        browser = Browser()
        try:
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    print(width, scheme, browser.open(source, width, scheme),
                          browser.evaluate(f"{BEYOND}({width})"))
                    browser.picture(Path(folder) / f"{width}-{scheme}.png")
        finally:
            browser.close()
        return 0
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
