#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the report's page: that a browser, Debian's chromium without a screen, shows it from a
file without a complaint and without anything beyond its edge.

    test_page.py                        the tests
    test_page.py PAGE.html FOLDER       pictures of a page, to be looked at; of a made-up one: sample, sweep, two
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
from dataclasses import replace
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import test_ab  # noqa: E402
from lab import export, figures, libraries, matrix, page  # noqa: E402
import testing  # noqa: E402

WIDTHS = (360, 1280)
SECONDS = 600  # what has not answered by then hangs
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


def rows_of_sample():
    names = ("random_mixed short", "larson 4 threads", "pair 64 B", "eighteen chars ok.", "python3")
    rows = [test_ab.invented_row(name, ratio=ratio, seconds=ratio / 10, rss=rss)
            for name, ratio, rss in zip(names, (3.2, 1.4, 0.97, 1.0, 0.4), (900, 99999, 1 << 20, 1, 5))]
    failed = test_ab.invented_row("failed")
    failed.failure = "default: killed by SIGABRT: " + "a long story " * 9
    failed.command = "LD_PRELOAD=/a/" + "very" * 30 + "/long/path/libhakmem.so program"
    skipped = test_ab.comparison.Row(test_ab.short_workload("skipped"), None,
                                     skipped="needs redis-server: apt-get install redis-server")
    few = test_ab.invented_row("too short", count=3)
    return [*rows, failed, skipped, few]


LONG = "default+CONFIG_CACHE_BLOCKS_1024=32+CONFIG_CACHE_BYTES=65536"


def sample():
    """A page with everything in it: several others, long names, rows that failed, curves, counters."""
    data = test_ab.invented(rows_of_sample(), "default", LONG, "system", "jemalloc", "tcmalloc", "mimalloc")
    built = "hakmem 0.1.0 unified/superslab revision {} config 1 compiler {} flags {}"
    data.A = replace(data.A, identity=built.format("0123456789ab", "gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "0123456789ab"))
    data.others = [replace(data.others[0], identity=built.format("ba9876543210", "Debian clang version 14.0.6", "ba9876543210")),
                   *data.others[1:]]
    data.replaced = ["build/default/libhakmem.so"]
    return data


def sample_sweep():
    return test_ab.invented(rows_of_sample(), "default", *(f"default+CONFIG_CACHE_BYTES={1024 * 2 ** power}"
                                                           for power in range(4, 12)), sweep="CONFIG_CACHE_BYTES")


def sample_of_two():
    return test_ab.invented(rows_of_sample(), "default", "system")


SAMPLES = {"sample": sample, "sweep": sample_sweep, "two": sample_of_two}


@unittest.skipUnless(BROWSER, "chromium is not installed")
class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="hakmem-page-"))
        cls.file = cls.folder / "page with space.html"
        cls.data = sample()
        page.write(cls.data, cls.file)
        cls.text = cls.file.read_text()
        cls.sweep = cls.folder / "sweep.html"
        cls.sweep_data = sample_sweep()
        page.write(cls.sweep_data, cls.sweep)
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
        for file, width in ((file, width) for file in (self.file, self.sweep) for width in WIDTHS):
            self.browser.open(file, width)
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
        for file, width in ((file, width) for file in (self.file, self.sweep) for width in WIDTHS):
            self.browser.open(file, width)
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
        self.assertNotRegex(self.text, r"#0a00[0-9a-f]{2}")

    def test_every_row_and_what_failed_is_there(self):
        for row in self.data.rows:
            self.assertIn(row.workload, self.text)
        self.assertIn("killed by SIGABRT", self.text)
        self.assertIn("needs redis-server", self.text)
        self.assertIn("CONFIG_DEFAULT", self.text)

    def test_names_are_unique_over_all_plots(self):
        for text in (self.text, self.sweep.read_text()):
            names = re.findall(r'\bid="([^"]+)"', text)
            self.assertEqual(len(names), len(set(names)))
            for name in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text):
                self.assertIn("".join(name), names)

    def test_the_index_leads_to_every_part(self):
        self.browser.open(self.file, 1280)
        links = self.browser.evaluate("[...document.querySelectorAll('nav a[href^=\"#\"]')].map(a => a.hash)")
        headings = self.browser.evaluate("[...document.querySelectorAll('h2')].map(h => '#' + h.id)")
        self.assertEqual(links, headings)
        self.assertEqual(len(links), 11)  # two matrices, overview, five sections, runs, machine, reading
        self.browser.evaluate("location.hash = document.querySelectorAll('table.times a')[2].hash")
        self.assertTrue(self.browser.evaluate("document.querySelector(location.hash) !== null"))

    def test_the_matrix_has_all_libraries_and_the_best_in_bold(self):
        for width in WIDTHS:
            self.browser.open(self.file, width)
            cells = self.browser.evaluate("""
                [...document.querySelectorAll('.matrix')[0].rows].map(row => [...row.cells].slice(1).map(cell => {
                    const figure = cell.querySelector('.figure') || cell;
                    return [figure.innerText, parseInt(getComputedStyle(figure).fontWeight),
                            getComputedStyle(cell).backgroundColor];
                }))""")
            lines = matrix.matrix(self.data)
            self.assertEqual(len(cells), 1 + len(lines) + 1)  # heads and means
            self.assertTrue(all(len(line) == 6 for line in cells))
            for line, shown in zip(lines, cells[1:]):
                for cell, (text, weight, colour) in zip(line.cells, shown):
                    self.assertEqual(weight >= 700, cell.best, (line.workload, text))
                    plain = not cell.significant
                    self.assertEqual(colour.endswith(", 0)") or colour == "rgba(0, 0, 0, 0)", plain, (text, colour))
            green, red = (re.match(r"rgba\((\d+), (\d+)", next(colour for line, row in zip(lines, cells[1:])
                          for cell, (_, _, colour) in zip(line.cells, row)
                          if cell.significant and (cell.ratio < 1) == faster)) for faster in (True, False))
            self.assertGreater(int(green[2]), int(green[1]))
            self.assertGreater(int(red[1]), int(red[2]))

    def test_the_overview_comes_before_the_sections_and_has_every_library(self):
        self.browser.open(self.file, 1280)
        order = self.browser.evaluate("[...document.querySelectorAll('h2')].map(h => h.id)")
        self.assertEqual(order[:3], ["matrix-time", "matrix-peak-resident-memory", "overview"])
        plot = self.text[self.text.index('id="overview"'):self.text.index('id="b-')]
        for slot in list(figures.slots(self.data).values())[1:]:
            self.assertIn(f"var(--lib{slot})", plot)

    def test_each_library_has_one_colour_everywhere(self):
        slots = figures.slots(self.data)
        self.assertEqual(len(set(slots.values())), len(slots))
        # The same peer has the same colour on a page with others.
        self.assertEqual(figures.slots(test_ab.invented([test_ab.invented_row("x")], "a", "jemalloc"))["jemalloc"],
                         slots["jemalloc"])
        for label, slot in slots.items():
            for found in re.findall(rf'class="lib(\d+)">(?:\w, )?{re.escape(label)}<', self.text):
                self.assertEqual(int(found), slot, label)
            self.assertIn(f"var(--lib{slot})", self.text[self.text.index('id="runs"'):])
        for scheme in ("light", "dark"):
            self.browser.open(self.file, 1280, scheme)
            seen = self.browser.evaluate("[...Array(12).keys()].map(slot => "
                                         "getComputedStyle(document.documentElement).getPropertyValue('--lib' + slot))")
            self.assertEqual(len(set(seen)), 12)
            self.assertNotIn("", seen)

    def test_a_sweep_is_a_curve_with_its_band_for_each_workload(self):
        text = self.sweep.read_text()
        part = text[text.index('id="sweep"'):text.index('id="b-')]
        measured = [line for line in matrix.matrix(self.sweep_data) if not line.cells[1].why_not]
        self.assertEqual(part.count("<svg"), len(measured))
        self.assertEqual(len(re.findall(r"FillBetweenPolyCollection|PolyCollection", part)), len(measured))
        self.assertIn("16Ki", part)
        self.assertEqual(page.sweep_values(self.sweep_data)["default+CONFIG_CACHE_BYTES=65536"], 65536)
        self.assertEqual(page.sweep_values(self.data), {})

    def test_every_run_is_a_dot_twice(self):
        plotter = figures.Plotter(self.data)
        for workload in ("random_mixed short", "too short"):
            svg = str(plotter.runs(workload))
            dots = sum(len(re.findall(r"M (\S+) (\S+)\s+L \1 \2(?=\s)", path)) for path in re.findall(r' d="([^"]*)"', svg))
            runs = 3 if workload == "too short" else 12
            self.assertEqual(dots, 2 * 6 * runs)

    def test_long_names_are_there_in_full(self):
        self.browser.open(self.file, 360)
        shown = self.browser.evaluate("document.body.innerText")
        self.assertGreater(shown.count(LONG), 5)
        self.assertNotIn("…", re.sub(r"<[^>]*>", "", self.text[self.text.index("<body>"):]))

    def test_no_folder_of_the_machine_is_in_it(self):
        for text in (self.text, self.sweep.read_text()):
            text = re.sub(r'href="data:[^"]*"|<style.*?</style>|xmlns\S*|</\w+>', " ", text, flags=re.DOTALL)
            self.assertEqual(re.findall(r"(?<![\w.])/[\w.+-]+/\S*", text), [])

    def test_paths_are_shown_from_the_root_of_the_sources(self):
        def shown(text):
            return page._without_folders(text, "/home/me/hakmem")
        self.assertEqual(shown("LD_PRELOAD=/home/me/hakmem/build/default/libhakmem.so /usr/bin/python3 -s /home/me/hakmem/bench/x.py"),
                         "LD_PRELOAD=build/default/libhakmem.so python3 -s bench/x.py")
        self.assertEqual(shown({"a": ["/elsewhere/of/me/lib.so", 1, None]}), {"a": ["lib.so", 1, None]})
        self.assertEqual(shown("B/A 1/2/3 unified/superslab and/or"), "B/A 1/2/3 unified/superslab and/or")

    def test_what_is_downloaded_is_the_export(self):
        self.browser.open(self.file, 1280)
        links = self.browser.evaluate("[...document.querySelectorAll('a[download]')].map(a => [a.download, a.href])")
        self.assertEqual([name for name, _ in links], ["comparison.csv", "comparison.runs.csv", "comparison.md"])
        texts = [base64.b64decode(link.split(",")[1]).decode() for _, link in links]
        data = page.without_folders(self.data)
        self.assertEqual(texts, [make(data) for _, make in export.FILES])

    def test_warnings_stand_at_the_top(self):
        self.browser.open(self.file, 1280)
        first = self.browser.evaluate("document.querySelector('main > section').innerText")
        self.assertIn("differ in more than their configuration: compiler gcc", first)
        self.assertIn("replaced during the measurement: build/default/libhakmem.so", first)


class Differences(unittest.TestCase):
    def test_options_are_compared_symbol_by_symbol(self):
        a, b = (libraries.Library("x", None, "", None, options) for options in (
            {"CONFIG_X": "1", "CONFIG_SIZE": "8", "CONFIG_SAME": "1"},
            {"CONFIG_Y": "1", "CONFIG_SIZE": "1", "CONFIG_SAME": "1", "CONFIG_N": "5"}))
        self.assertEqual(page.differences(a, b), [
            ("CONFIG_X", "y", "n"), ("CONFIG_SIZE", "8", "1"), ("CONFIG_Y", "n", "y"),
            ("CONFIG_N", "-", "5")])
        self.assertIsNone(page.differences(a, replace(b, options=None)))


def main():
    if len(sys.argv) == 3:
        source, folder = sys.argv[1:]
        os.makedirs(folder, exist_ok=True)
        if source in SAMPLES:
            made, source = SAMPLES[source](), Path(folder) / "sample.html"
            page.write(made, source)
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
    return testing.run(__name__)


if __name__ == "__main__":
    sys.exit(main())
