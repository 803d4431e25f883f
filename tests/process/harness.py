# SPDX-License-Identifier: MIT
"""What the process tests stand on: compile a program, run a command in bounded time with or
without the library, and prove that the library served it."""

import collections
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

C_FLAGS = "-std=gnu17 -O2 -g -Wall -Wextra -Werror -fno-builtin -pthread"
CXX_FLAGS = "-std=c++17 -O2 -g -Wall -Wextra -Werror -fno-builtin -fsized-deallocation -pthread"

# What has not ended by then hangs: many times what the longest takes on a busy machine.
HANG_SECONDS = 600
# Sources of core that are no objects of their own: a back end includes them.
OF_BACK_ENDS = ("extents.c", "large.c")

# The Debian package of a tool whose name is not the package's own.
PACKAGE_OF = {
    "cgi-fcgi": "libfcgi-bin",
    "php": "php-cli",
    "redis-cli": "redis-server",
    "redis-benchmark": "redis-server",
    "python3": "python3",
    "prlimit": "util-linux",
    "gcore": "gdb",
    "nm": "binutils",
    "readelf": "binutils",
    "cc": "gcc",
    "c++": "g++",
}

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

TESTS = {}


class Failure(Exception):
    """A test's claim does not hold; the text says which and shows what was seen."""


class Skipped(Exception):
    """A test cannot be made here; the text says what is missing."""


def test(function):
    """Register a test under its function's name; the first line of its docstring is its claim."""
    TESTS[function.__name__] = function
    return function


def test_without_libc_names(function):
    """Likewise, of a test that also holds for a library that was built without libc's names."""
    function.without_libc_names = True
    return test(function)


def once(function):
    """Mark a test, above @test, that shows nothing of the front end or back end: of the pairs of these, one has it."""
    function.once = True
    return function


def about(*kinds):
    """Mark a test, above @test, that is about a "policy" or a "backend": of the pairs with the same one, one has it."""

    def mark(function):
        function.about = set(kinds)
        return function

    return mark


Result = collections.namedtuple("Result", "command status stdout stderr witnessed")


def clip(data, limit=3000):
    """Bytes as text, the middle of a long one left out."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - limit} characters ...]\n{text[-half:]}"


def describe_status(status):
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


class Build:
    """One built library, and the test programs compiled beside it, each once."""

    def __init__(self, folder, new=None):
        self.folder = pathlib.Path(folder).resolve()
        # What of "policy" and "backend" no other build of the run has had; None: it is the first. Others have nothing that one
        # pair of plug-ins shows for all, and a part of what takes longest.
        self.new = new
        self.library = self.folder / "libhakmem.so"
        self.archive = self.folder / "libhakmem.a"
        self.include = self.folder / "include"
        self.output = self.folder / "tests" / "process"
        self.cc = shlex.split(os.environ.get("CC") or "cc")
        self.cxx = shlex.split(os.environ.get("CXX") or "c++")
        self._lock = threading.Lock()
        self._compiled = {}

    def has_libc_names(self):
        return "define CONFIG_OVERRIDE_LIBC 1" in (self.folder / "gen" / "autoconf.h").read_text()

    def compile(self, source, output, flags, libraries):
        """The path of the compiled source; a second request for the same output waits for the first."""
        with self._lock:
            lock = self._compiled.setdefault(output, threading.Lock())
        path = self.output / output
        with lock:
            if self._compiled.get((output, "done")):
                return path
            is_cxx = source.endswith(".cpp")
            compiler, common = (self.cxx, CXX_FLAGS) if is_cxx else (self.cc, C_FLAGS)
            command = [*compiler, *shlex.split(common), *flags, "-o", str(path), str(HERE / source)]
            command += [str(library) for library in libraries]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=HANG_SECONDS)
            if done.returncode:
                raise Failure(f"does not compile: {shlex.join(command)}\n{clip(done.stderr)}")
            self._compiled[(output, "done")] = True
        return path


    def variant(self, name, prefix, defines):
        """The path of a shared library like this build's, but with these #defines instead of all whose names
        start with `prefix`."""
        generated = self.output / name / "gen"
        generated.mkdir(parents=True, exist_ok=True)
        for file in (self.folder / "gen").glob("*.[ch]"):
            shutil.copy(file, generated)
        lines = (self.folder / "gen" / "autoconf.h").read_text().splitlines()
        kept = [line for line in lines if not line.startswith(f"#define {prefix}")]
        text = "\n".join([*kept, *(f"#define {define}" for define in defines), ""])
        (generated / "autoconf.h").write_text(text)
        chosen = dict(line.split()[1:3] for line in kept if len(line.split()) == 3)
        optional = {
            "override_deepbind.c": "#define CONFIG_DEEPBIND 1\n",
            "purger.c": "#define CONFIG_PURGE_THREAD 1\n",
            "trace.c": "#define CONFIG_TRACE 1\n",
        }
        left_out = {"malloc.c", *OF_BACK_ENDS, *(file for file, define in optional.items() if define not in text)}
        sources = [file for file in (ROOT / "core").glob("*.c") if file.name not in left_out]
        for kind, option in (("policies", "CONFIG_FRONTEND"), ("backends", "CONFIG_BACKEND")):
            folder = ROOT / kind / chosen[option].strip('"')
            sources += [file for file in folder.glob("*.c") if not file.name.startswith("test_")]
        library = self.output / name / "libhakmem.so"
        # Without optimization: what is tested is what the library does, and it is compiled for a test alone.
        command = [*self.cc, "-std=gnu17", "-O0", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        command += ["-fvisibility=hidden", "-ftls-model=initial-exec", "-fexceptions", "-fno-builtin-malloc"]
        command += ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-Wl,-z,nodelete"]
        command += [f"-I{ROOT}", f"-I{self.output / name}", f"-I{ROOT / 'core' / 'include'}"]
        command += ["-o", str(library), *(str(source) for source in sources)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=HANG_SECONDS)
        if done.returncode:
            raise Failure(f"does not compile: {shlex.join(command)}\n{clip(done.stderr)}")
        return library


class Case:
    """What one test works with: its own empty folder, and the ways to run something."""

    def __init__(self, build, name):
        self.build = build
        self.folder = build.output / "scratch" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._runs = 0
        self._lock = threading.Lock()
        self._children = []
        self._closed = False

    # ── tools and programs ──────────────────────────────────────────────────────────────────

    def tool(self, name):
        """The path of an installed program; where it is missing the test fails and says what to install."""
        path = shutil.which(name, path=PATH)
        if not path:
            raise Failure(f"{name} is not installed: apt-get install {PACKAGE_OF.get(name, name)}")
        return path

    def program(self, source, output=None, flags=(), libraries=()):
        """Compile a program of this folder, without the library unless it is among the flags."""
        return str(self.build.compile(source, output or source.rsplit(".", 1)[0], flags, libraries))

    def shared_object(self, source):
        return self.program(source, source.rsplit(".", 1)[0] + ".so", ("-fPIC", "-shared"))

    # ── running ─────────────────────────────────────────────────────────────────────────────

    def settings(self, library, extra, witness):
        """The words of `env` that a command runs under, beside those that all have in common."""
        words = dict(extra)
        if library:
            preload = [str(entry) for entry in library]
            if witness:
                preload.append(self.shared_object("witness.c"))
                words["HAKMEM_TEST_WITNESS"] = str(witness)
            words["LD_PRELOAD"] = ":".join(preload)
        return ["env", *(f"{key}={value}" for key, value in words.items())] if words else []

    def start(self, argv, library=True, witness=True, env=None, before=(), cwd=None, stdin=None):
        """Start a command and leave it running; finish() awaits it.

        library: True for the one under test, False for none, or a list of what to preload.
        witness: whether witness.c is preloaded too, for served().
        before:  a command that runs the command, and is not itself served by the library.
        """
        self._runs += 1
        stem = self.folder / f"run{self._runs}"
        seen = stem.with_suffix(".witness") if library and witness else None
        if library is True:
            library = [self.build.library]
        words = [*before, *self.settings(library, env or {}, seen), *argv]
        streams = [open(stem.with_suffix(suffix), "w+b") for suffix in (".stdout", ".stderr")]
        with self._lock:
            if self._closed:
                raise Failure("stopped")
            process = subprocess.Popen(
                # Whoever kills the runner kills this too.
                ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in words)],
                stdin=open(stdin, "rb") if stdin else subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                cwd=cwd or self.folder,
                env={
                    "PATH": PATH,
                    "LC_ALL": "C.UTF-8",
                    "TZ": "UTC",
                    "HOME": str(self.folder),
                    "TMPDIR": str(self.folder),
                },
                start_new_session=True,
            )
            self._children.append(process)
        process.shown = shlex.join(str(word) for word in words)
        process.streams, process.seen = streams, seen
        return process

    def finish(self, process, timeout=HANG_SECONDS, status=0):
        """Await a started command; a hang, or another status than the one expected, is a failure.

        status: the exit status, -signal, or None where the caller looks at it himself.
        """
        shown = process.shown
        try:
            process.wait(timeout)
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
        self._kill(process)
        outputs = []
        for stream in process.streams:
            stream.seek(0)
            outputs.append(stream.read())
            stream.close()
        stdout, stderr = outputs
        told = f"  {shown}\nstdout: {clip(stdout)}\nstderr: {clip(stderr)}"
        if hung:
            raise Failure(f"hangs: still running after {timeout} s\n{told}")
        if status is not None and process.returncode != status:
            raise Failure(
                f"{describe_status(process.returncode)}, not {describe_status(status)}\n{told}"
            )
        witnessed = process.seen.read_text().splitlines() if process.seen and process.seen.exists() else []
        return Result(shown, process.returncode, stdout, stderr, witnessed)

    def run(self, argv, timeout=HANG_SECONDS, status=0, **how):
        return self.finish(self.start(argv, **how), timeout, status)

    def both(self, argv, timeout=HANG_SECONDS, served=True, side_by_side=False, **how):
        """Run a command without the library and with it; output and status must be the same."""
        alone = self.start(argv, library=False, **how)
        if not side_by_side:
            alone = self.finish(alone, timeout)
        under = self.finish(self.start(argv, **how), timeout)
        if side_by_side:
            alone = self.finish(alone, timeout)
        self.same(alone.stdout, under.stdout, f"stdout of {under.command}")
        self.same(alone.stderr, under.stderr, f"stderr of {under.command}")
        if served:
            self.served(under)
        return alone, under

    def close(self):
        """Nothing that the test started outlives it."""
        with self._lock:
            self._closed = True
            for process in self._children:
                self._kill(process)

    @staticmethod
    def _kill(process):
        # The session is the process's own, so this reaches all that it started and nothing else.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    # ── claims ──────────────────────────────────────────────────────────────────────────────

    def check(self, holds, claim, *seen):
        if not holds:
            raise Failure("\n".join([claim, *(clip(text) for text in seen)]))

    def same(self, expected, got, what):
        if expected != got:
            raise Failure(f"{what} differs\nwithout the library: {clip(expected)}\nwith it: {clip(got)}")

    def served(self, result, programs=()):
        """The library answered malloc in every process seen, and glibc's own heap was never used.

        programs: names that must be among the processes.
        """
        names = set()
        for line in result.witnessed:
            what, _, name, answer = line.split(" ", 3)
            names.add(name)
            if what == "start":
                wanted = str(self.build.library.resolve())
                self.check(answer == wanted, f"malloc of {name} is not the library's: {line}", result.command)
            else:
                self.check(answer == "0", f"glibc's own heap of {name} was used: {line}", result.command)
        self.check(names, f"the library was not loaded: {result.command}")
        missing = set(programs) - names
        self.check(not missing, f"not served: {sorted(missing)}, but {sorted(names)}", result.command)

    def identity(self):
        """What hak_config() returns, asked of the library itself."""
        shown = self.run([self.program("identity.c", libraries=("-ldl",))], witness=False)
        return shown.stdout.decode()


def wait_until(happened, what, seconds=HANG_SECONDS):
    """Poll until happened() is true; what never comes is a failure."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.02)
