#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of programs of the user's as workloads: what is refused, how they are run, what is shown of them."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import test_ab  # noqa: E402
from lab import comparison, export, figures, libraries, page, present, programs, runs, verdict, wishes, workloads  # noqa: E402
from test_ab import BENCH, CC, data_of, run_script, time_by_looks  # noqa: E402
import testing  # noqa: E402

PROGRAMS = None  # the folder of `launch` and of the libraries; set when the tests begin
LIBRARIES = {}
PYTHON = "/usr/bin/python3 -S -c"
# Listens where it is told, answers each connection with a line, and counts connections that ask for something.
SERVER = """\
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listening.accept()
    if connection.recv(10):
        connection.sendall(b"an answer\\n")
    connection.close()
"""
CLIENT = """\
import socket, sys
for _ in range(3):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
        server.sendall(b"a question")
        print(server.recv(100).decode().strip())
print('{"results": [{"rate": 1234.5}]}')
"""


def setUpModule():
    global PROGRAMS
    PROGRAMS = Path(tempfile.mkdtemp(prefix="hakmem-programs-"))
    subprocess.run([*CC, "-std=gnu17", "-O2", BENCH / "launch.c", "-o", PROGRAMS / "launch"], check=True)
    for name in ("forward", "slow"):
        LIBRARIES[name] = str(PROGRAMS / f"lib{name}.so")
        subprocess.run([*CC, "-O1", "-fPIC", "-fno-builtin", "-shared", "-x", "c", "-", "-o", LIBRARIES[name]],
                       input=test_ab.SOURCES[name], text=True, check=True)
    (PROGRAMS / "server.py").write_text(SERVER)
    (PROGRAMS / "client.py").write_text(CLIENT)


def tearDownModule():
    shutil.rmtree(PROGRAMS)


def compared(chosen, names="forward system"):
    """A comparison of these workloads that has been run."""
    opened = [libraries.open_library(LIBRARIES.get(name, name)) for name in names.split()]
    a, *others = libraries.tell_apart(opened)
    result = comparison.Comparison(a, others, chosen, runs.Runner(PROGRAMS), 1.0, 1, present.Progress(io.StringIO()))
    with time_by_looks():
        result.run()
    return result


class Refusals(unittest.TestCase):
    def refused(self, expected, program="true", **settings):
        with self.assertRaises(ValueError) as caught:
            programs.asked(program, **settings)
        self.assertEqual(str(caught.exception), expected)

    def test_what_cannot_be_run(self):
        self.refused("PROGRAM=./nope: there is no program ./nope", "./nope")
        self.refused("PROGRAM=nope: there is no program nope in PATH; one of this folder is ./nope", "nope")
        self.refused("PROGRAM=true; 'x: no closing quotation: the words are separated as in a shell", "true; 'x")
        self.refused("PROGRAM= ; : there is no command in it", " ; ")
        file = PROGRAMS / "not-executable"
        file.touch()
        self.refused(f"PROGRAM={file}: {file} is not executable: chmod +x it, or name its interpreter first", str(file))

    def test_settings_without_a_program(self):
        for name in ("setup", "prepare", "input", "metric", "client", "port"):
            self.refused(f'{name.upper()}= needs a program: PROGRAM="COMMAND"', "", **{name: "x"})

    def test_files_and_ports(self):
        self.refused("INPUT=/nope: there is no such file, or it cannot be read", input="/nope")
        for port in ("x", "0", "70000", "-1", "1.5"):
            self.refused(f"PORT={port}: a port is a number from 1 to 65535", client="true", port=port)
        self.refused("CLIENT=true: a server needs a port: PORT=NUMBER, or {port} in both commands, which stands for a "
                     "free one", client="true")
        self.refused('PORT=80: a server needs a client that drives it: CLIENT="COMMAND"', port="80")
        self.refused("CLIENT=nope: there is no program nope in PATH; one of this folder is ./nope", client="nope", port="80")

    def test_metrics(self):
        one = "the regular expression needs one group, around the figure: higher:([0-9.]+) requests/s"
        self.refused(f"METRIC=x: {one}", metric="x")
        self.refused(f"METRIC=(a)(b): {one}", metric="(a)(b)")
        self.refused("METRIC=lower:(a: it is no regular expression: missing ), unterminated subpattern at position 0",
                     metric="lower:(a")
        for text in ("json:", "json:a..b", "higher:json:.a"):
            self.refused(f"METRIC={text}: json: is followed by the names of fields, with dots: json:results.rate", metric=text)

    def test_the_command_says_it_in_one_line(self):
        done = run_script("ab.py", LIBRARIES["forward"], "--program", "./nope")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(done.stderr, "ab.py: PROGRAM=./nope: there is no program ./nope\n")


class Commands(unittest.TestCase):
    def test_semicolons_that_are_not_quoted_separate_them(self):
        for text, expected in (("a b", ["a b"]), ("a; b 'c;d' ;", ["a", "b 'c;d'"]), ('x --y="1;2"', ['x --y="1;2"']),
                               (r"a\;b;;c", [r"a\;b", "c"])):
            self.assertEqual(programs.commands(text), expected)

    def test_each_gets_a_name_of_its_own(self):
        made = programs.asked("true; true x; /bin/false; gcc -v" if shutil.which("gcc") else "true; true x; /bin/false")
        self.assertEqual([workload.name for workload in made][:3], ["true", "true 2", "false"])
        self.assertNotIn("gcc", [workload.name for workload in made])  # a workload of the laboratory
        self.assertLessEqual(max(len(workload.name) for workload in made), programs.MOST_NAME)


class Figures(unittest.TestCase):
    def read(self, text, output):
        return programs.metric(text).read(output)

    def test_the_last_match_counts(self):
        self.assertEqual(self.read(r"([\d.,]+) req/s", "1 req/s\n2,345.5 req/s\n"), 2345.5)

    def test_fields_of_json(self):
        text = 'begin\n{"a": {"b": [{"c": 7}]}, "t": true}\n'
        self.assertEqual(self.read("higher:json:a.b.0.c", text), 7)
        self.assertEqual(self.read("json:x", '{"x": "8.5"}'), 8.5)
        for path in ("json:a", "json:a.b.1.c", "json:nothing", "json:a.b.c"):
            with self.assertRaisesRegex(ValueError, "is not in the output"):
                self.read(path, text)

    def test_what_is_no_figure(self):
        for output, expected in (("x=a", "gives 'a', which is no number"), ("x=0", "only a figure above 0"),
                                 ("", "is not in the output"), ("x=-3", "only a figure above 0")):
            with self.assertRaisesRegex(ValueError, expected):
                self.read("x=(.*)", output)


class OwnList(unittest.TestCase):
    def setUp(self):
        self.file = PROGRAMS / "list.toml"

    def read(self, text):
        self.file.write_text(text)
        return programs.read(self.file)

    def test_a_list(self):
        (PROGRAMS / "data").write_text("x")
        tool = PROGRAMS / "tool"
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
        first, second = self.read("""
            [mine]
            program = "./tool --x 'a b'"
            input = "data"
            environment = { DEPTH = "3" }
            metric = "higher:json:rate"
            unit = "requests/s"
            same_output = true
            ["a server"]
            program = "true {port}"
            client = "true"
            about = "words"
        """)
        self.assertEqual(first.command, (str(tool), "--x", "a b"))
        self.assertEqual((first.environment, first.own.input, first.own.same_output),
                         ({"DEPTH": "3"}, str(PROGRAMS / "data"), True))
        self.assertEqual((first.metric.higher, first.metric.unit, first.measure), (True, "requests/s", workloads.METRIC))
        self.assertEqual((second.name, second.about, second.own.port), ("a server", "words", 0))
        own = [first, second]
        self.assertEqual(wishes.chosen(["mine"], own), [first])
        self.assertEqual(wishes.chosen(["@own"], own), own)
        self.assertFalse({"mine", "a server"} & {one.name for one in wishes.chosen(["all"], own)})

    def test_refusals(self):
        for text, expected in (
            ("x", "is not TOML: "),
            ("program = 'true'", '[program]: a workload is a table: [name] with program = "COMMAND" below it'),
            ("[a]", '[a]: there is no program = "COMMAND"'),
            ("[a]\nprogramm = 'x'", "[a]: programm is none of program, setup, prepare, input, metric, unit, client, port, "
                                    "environment, about, same_output"),
            ("[a]\nprogram = 3", "[a]: program is a text in quotes"),
            ("[a]\nprogram = 'true'\nport = true", "[a]: port is a number"),
            ("[a]\nprogram = 'true'\nenvironment = { A = 1 }", '[a]: environment is a table: { NAME = "value" }'),
            ("[a]\nprogram = 'true'\nsame_output = 'yes'", "[a]: same_output is true or false"),
            ("[a]\nprogram = 'nope'", "[a]: program: there is no program nope in PATH"),
            ("['larson 4 threads']\nprogram = 'true'", "a workload of the laboratory has this name"),
            ("[abcdefghijklmnopqrs]\nprogram = 'true'", "a name has 1 to 18 characters and does not begin with @"),
            ("['@x']\nprogram = 'true'", "a name has 1 to 18 characters and does not begin with @"),
        ):
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                self.read(text)
            self.assertIn(expected, str(caught.exception))
            self.assertIn(str(self.file), str(caught.exception))
        with self.assertRaisesRegex(ValueError, "^/nope: No such file"):
            programs.read("/nope")


class Runs(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=PROGRAMS))

    def row(self, program, names="forward system", **settings):
        result = compared(programs.asked(program, **settings), names)
        return result, data_of(result).rows[0]

    def failed(self, expected, program, **settings):
        _, row = self.row(program, **settings)
        self.assertIn(expected, row.failure or "")
        self.assertTrue(row.to_repeat)

    def test_a_program_is_a_row_like_any_other(self):
        result, row = self.row(f"{PYTHON} 'x = [str(i) for i in range(30000)]'")
        self.assertIsNone(row.failure)
        self.assertGreaterEqual(row.pairs, 10)
        for name in ("time", "wall", "peak_rss", "faults", "processor"):
            self.assertIsNotNone(row.measures[name].estimate, name)
            self.assertIsNotNone(row.measures[name].estimate.low, name)
        data = data_of(result)
        self.assertIn("python3 1", page.html(data))
        self.assertIn("python3 1,system,peak_rss,MiB", export.summary_csv(data))

    def test_setup_comes_once_and_prepare_before_each_run(self):
        setup, prepare, ran = (self.folder / name for name in ("setup", "prepare", "ran"))
        _, row = self.row(f"/bin/sh -c 'cat {prepare} >>{ran}'", setup=f"echo x >>{setup}", prepare=f"date +%s%N >{prepare}")
        self.assertIsNone(row.failure)
        self.assertEqual(setup.read_text(), "x\n")
        made = ran.read_text().split()
        self.assertEqual(len(made), 2 * row.pairs + 2)  # and a first run of each
        self.assertEqual(len(set(made)), len(made))

    def test_the_input_and_the_environment_reach_it(self):
        (self.folder / "in").write_text("42\n")
        with mock.patch.dict(os.environ, {"FROM_THE_USER": "7", "MALLOC_ARENA_MAX": "1", "LD_DEBUG": "none"}):
            _, row = self.row("/bin/sh -c 'read x; echo figure=$((x + FROM_THE_USER))${MALLOC_ARENA_MAX}'",
                              input=str(self.folder / "in"), metric="figure=(.*)")
        self.assertIsNone(row.failure)
        self.assertEqual(row.time.A, 49)

    def test_a_figure_where_more_is_better(self):
        program = "/bin/sh -c 'case $LD_PRELOAD in *slow*) echo rate 50;; *) echo rate 100;; esac'"
        for better, faster in (("higher", "A"), ("lower", "B")):
            result, row = self.row(program, "forward slow", metric=f"{better}:rate (.*)")
            self.assertEqual((row.time.A, row.time.B), (100, 50))
            self.assertEqual(row.time.estimate.faster, faster)
            self.assertAlmostEqual(row.time.estimate.ratio, 2.0 if better == "higher" else 0.5)
            self.assertEqual(verdict.verdict(row).words, f"2.00x {'better' if faster == 'A' else 'worse'}")
            series, written = figures._series(data_of(result), "sh")
            self.assertEqual({round(value) for points in series.values() for _, value in points}, {50, 100})
            self.assertEqual(written(50.0), "50.0")
            for shown in (" ".join(present.table(data_of(result))), page.html(data_of(result))):
                self.assertEqual("turned round" in shown, better == "higher")
            self.assertIn(f"rate (.*) ({better} is better)", page.html(data_of(result)))

    def test_failures_have_their_reason(self):
        self.failed("forward: exit status 3: why", "/bin/sh -c 'echo why >&2; exit 3'")
        self.failed("SETUP: exit status 4: not ready", "true", setup="echo not ready >&2; exit 4")
        self.failed("PREPARE: exit status 5", "true", prepare="exit 5")
        self.failed("forward: METRIC: 'x=(.)' is not in the output", "true", metric="x=(.)")

    def test_a_program_that_no_library_can_serve(self):
        static = self.folder / "static"
        subprocess.run([*CC, "-static", "-x", "c", "-", "-o", static], input="int main(void) { return 0; }", text=True, check=True)
        self.failed(f"malloc of {static} is not served by {LIBRARIES['forward']} but by itself: it is linked statically",
                    str(static))

    def test_outputs_are_compared_on_request(self):
        file = PROGRAMS / "same.toml"
        program = "/bin/sh -c 'echo $LD_PRELOAD'"
        for asked, expected in (("true", True), ("false", False)):
            file.write_text(f'[one]\nprogram = "{program}"\nsame_output = {asked}\n')
            self.assertEqual("its result is" in (compared(programs.read(file)).rows[0].failure or ""), expected)


class Servers(unittest.TestCase):
    def row(self, server="{python} {server} {port}", client="{python} {client} {port}", **settings):
        places = {"python": "/usr/bin/python3 -S", "server": PROGRAMS / "server.py", "client": PROGRAMS / "client.py"}

        def filled(text):
            for name, value in places.items():
                text = text.replace("{" + name + "}", str(value))
            return text
        return data_of(compared(programs.asked(filled(server), client=filled(client), **settings))).rows[0]

    def test_a_server_is_started_driven_and_ended(self):
        row = self.row(metric="higher:json:results.0.rate")
        self.assertIsNone(row.failure)
        self.assertGreaterEqual(row.pairs, 10)
        self.assertEqual(row.time.A, 1234.5)
        self.assertFalse(row.pinned)
        left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        self.assertNotIn(str(PROGRAMS / "server.py"), left)

    def test_without_a_metric_the_time_is_the_clients(self):
        row = self.row()
        self.assertIsNone(row.failure)
        self.assertEqual(row.time.unit, "s")
        run = row.runs[0].A
        self.assertLess(run.seconds, run.wall_seconds)  # the server's own life is longer

    def test_failures_have_their_reason(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            self.assertIn(f"port {port} is taken by another program", self.row(port=port, server="sleep 9").failure)
        self.assertIn("the server ended before it accepted a connection on port",
                      self.row("/bin/sh -c 'echo no luck {port} >&2'").failure)
        self.assertIn("the client: exit status 6: bad", self.row(client="/bin/sh -c 'echo bad; exit 6'").failure)
        with mock.patch.object(runs, "START_SECONDS", 0.1):
            self.assertIn("the server accepts no connection on port", self.row("/bin/sh -c 'sleep 60; : {port}'").failure)
        with mock.patch.object(runs, "STOP_SECONDS", 0.1):
            stubborn = f"{PYTHON} 'import signal, sys; signal.signal(15, signal.SIG_IGN); exec(open(\"{{server}}\").read())' {{port}}"
            self.assertIn("the server did not end within 0.1 s of SIGTERM", self.row(stubborn).failure)


class Command(unittest.TestCase):
    def test_one_command_makes_the_table_and_the_page(self):
        output = PROGRAMS / "ab"
        done = run_script("ab.py", "--programs", PROGRAMS, "--output", output, "--budget", "60", LIBRARIES["forward"],
                          "--program", f"{PYTHON} 'print(7)'; /bin/sh -c 'echo 5'", "--metric", "([0-9])")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"(?m)^python3 1 +10 +7\.00 +7\.00 +1\.000 ")
        self.assertRegex(done.stdout, r"(?m)^sh +10 +5\.00 +5\.00 ")
        self.assertIn("peak MiB", done.stdout)
        self.assertIn("python3 1", (output / "latest.html").read_text())

    def test_a_list_in_this_folder_is_known(self):
        folder = Path(tempfile.mkdtemp(dir=PROGRAMS))
        (folder / programs.FILE).write_text('["my own"]\nprogram = "true"\n')
        done = run_script("ab.py", "--list", cwd=folder)
        self.assertIn("+ my own             true", done.stdout)
        self.assertIn("@own", done.stdout)


if __name__ == "__main__":
    sys.exit(testing.run(__name__))
