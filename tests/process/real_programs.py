# SPDX-License-Identifier: MIT
"""Programs from Debian packages: each must say under the library what it says without."""

import hashlib
import os
import pathlib
import random
import re
import shutil
import socket
import xml.etree.ElementTree

from harness import Failure, HERE, OF_BACK_ENDS, ROOT, about, once, test, wait_until

PYTHON = "/usr/bin/python3"

# Parts of Python's own test suite, chosen for what they do with memory and for their time: about
# 7700 tests in 40 s.
PYTHON_TESTS = """
    test_weakref test_gc test_exceptions test_array test_tuple test_deque test_set test_dict
    test_list test_itertools test_bytes test_unicode test_long test_int test_decimal test_re
    test_json test_pickle test_collections test_heapq test_sort test_generators test_functools
    test_descr test_memoryview test_buffer test_struct test_codecs test_string test_format
    test_random test_csv test_zlib test_hashlib test_pyexpat test_minidom test_ctypes test_mmap
    test_ast test_compile test_shelve test_configparser test_thread test_threading
""".split()


# For builds other than the first: modules that allocate in many sizes, share objects among threads, fork.
PYTHON_PART = """
    test_weakref test_gc test_dict test_bytes test_json test_pickle test_memoryview test_thread test_threading
""".split()


def python_outcomes(report):
    """{name of a test: (result, failed, skipped)} of a JUnit report."""
    return {
        case.get("name"): (
            case.get("result"),
            case.find("failure") is not None or case.find("error") is not None,
            case.find("skipped") is not None,
        )
        for case in xml.etree.ElementTree.parse(report).iter("testcase")
    }


def python_digest(modules):
    """Names the interpreter and the tests that are run with it."""
    said = f"{modules} {os.stat(PYTHON).st_mtime_ns} {os.stat('/usr/lib/python3.11/test').st_mtime_ns}"
    return hashlib.sha256(said.encode()).hexdigest()[:12]


@about("policy", "backend")
@test
def python_test_suite(case):
    """python3 passes a large part of its own test suite, every allocation by malloc."""
    if not pathlib.Path("/usr/lib/python3.11/test/test_dict.py").exists():
        raise Failure("Python's test suite is not installed: apt-get install libpython3.11-testsuite")
    # Without the library it is always the same, so it runs once for all builds that lie side by side.
    modules = PYTHON_TESTS if case.build.new is None else PYTHON_PART
    known = case.build.folder.parent / f"python-alone-{python_digest(modules)}.xml"
    started, reports = {}, {"alone": known}
    for name, library in (("alone", False), ("under", True)):
        if name == "alone" and known.exists():
            continue
        folder = case.folder / name
        folder.mkdir()
        reports[name] = folder / "report.xml"
        started[name] = case.start(
            [PYTHON, "-m", "test", "--junit-xml", reports[name], *modules],
            library=library,
            env={"PYTHONMALLOC": "malloc", "TMPDIR": str(folder), "HOME": str(folder)},
            cwd=folder,
        )
    results = {name: case.finish(started[name]) for name in ("under", "alone") if name in started}
    for result in results.values():
        case.check(b"Tests result: SUCCESS" in result.stdout, result.command, result.stdout)
    if reports["alone"] != known:
        shutil.copy(reports["alone"], known)
    under = results["under"]
    outcomes = [python_outcomes(reports[name]) for name in ("alone", "under")]
    case.check(len(outcomes[0]) > (7000 if case.build.new is None else 1000), f"only {len(outcomes[0])} tests ran", under.command)
    differing = {
        name: [outcome.get(name) for outcome in outcomes]
        for name in outcomes[0].keys() | outcomes[1].keys()
        if outcomes[0].get(name) != outcomes[1].get(name)
    }
    case.check(not differing, "outcomes differ (without, with the library)", differing)
    case.served(under, ["python3"])


# ── redis ───────────────────────────────────────────────────────────────────────────────────


class Redis:
    """A redis-server on a port of its own on loopback, without persistence."""

    def __init__(self, case, name, **how):
        self.case = case
        folder = case.folder / name
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = case.start(
            [
                *(case.tool("redis-server"), "--port", self.port, "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", folder),
                *("--enable-debug-command", "yes", "--io-threads", "2"),
            ],
            cwd=folder,
            **how,
        )
        wait_until(self.answers, f"an answer of redis-server on port {self.port}")

    def answers(self):
        if self.process.poll() is not None:
            self.case.finish(self.process)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith(b"+PONG")
        except OSError:
            return False

    def tell(self, *words, **how):
        """The answer to one command."""
        client = [self.case.tool("redis-cli"), "-p", self.port, *words]
        return self.case.run(client, library=False, **how).stdout.decode()

    def load(self, commands):
        """Send a file of commands; the answer says how many errors there were."""
        answer = self.tell("--pipe", stdin=commands)
        self.case.check("errors: 0," in answer, "redis-cli --pipe", answer)

    def figure(self, section, name):
        answer = self.tell("INFO", section)
        found = re.search(rf"^{name}:(\d+)", answer, re.MULTILINE)
        self.case.check(found, f"INFO {section} has no {name}", answer)
        return int(found.group(1))


def redis_commands(path):
    """Commands that make, change and delete keys of each type, the same in every run."""
    chance = random.Random(2)
    lines = []
    for i in range(30000):
        key, value = chance.randrange(5000), "v" * chance.randrange(400)
        lines.append(
            chance.choice(
                [
                    f'SET string:{key} "{value}"',
                    f'APPEND string:{key} "{value}"',
                    f"DEL string:{key}",
                    f'HSET hash:{key % 300} field{i % 900} "{value}"',
                    f'RPUSH list:{key % 100} "{value}" {i}',
                    f"LPOP list:{key % 100}",
                    f"SADD set:{key % 100} {i} member{key}",
                    f"ZADD sorted:{key % 50} {chance.randrange(10**6)} member{key}",
                    f"ZREM sorted:{key % 50} member{key}",
                    f"DEL hash:{key % 300}",
                    f'XADD stream:{key % 20} {i + 1}-1 field "{value}"',
                    f"SETRANGE string:big{key % 10} {chance.randrange(10**6)} tail",
                    f"UNLINK set:{key % 100}",
                ]
            )
        )
    path.write_text("\n".join(lines) + "\n")


@test
def redis(case):
    """redis-server, which Debian links with jemalloc, is served by this library instead."""
    commands = case.folder / "commands"
    redis_commands(commands)
    alone = Redis(case, "alone", library=False)
    under = Redis(case, "under")
    for server in (alone, under):
        server.load(commands)
    case.same(alone.tell("DEBUG", "DIGEST"), under.tell("DEBUG", "DIGEST"), "the digest of the data")

    # A child process writes the data out while the server goes on; the other server reads it.
    case.check("started" in under.tell("BGSAVE"), "BGSAVE does not start")
    benchmark = [case.tool("redis-benchmark"), "-p", under.port, "-q", "-n", 15000, "-r", 20000]
    benchmark += ["-d", 300, "-c", 40, "-P", 8, "--threads", 2]
    benchmark += ["-t", "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100,mset"]
    load = case.start(benchmark)
    wait_until(lambda: under.figure("persistence", "rdb_bgsave_in_progress") == 0, "end of BGSAVE")
    case.check("rdb_last_bgsave_status:ok" in under.tell("INFO", "persistence"), "BGSAVE failed")
    case.served(case.finish(load), ["redis-benchmark"])

    # Redis asks malloc_usable_size for each block: used_memory is what it was given. It asks
    # jemalloc, by mallctl, what jemalloc gave: only what libraries do before main could be there.
    used = under.figure("memory", "used_memory")
    jemalloc = under.figure("memory", "allocator_allocated")
    case.check(used > 10 << 20, f"redis uses only {used} bytes after the benchmark")
    case.check(jemalloc < 1 << 20, f"jemalloc gave {jemalloc} of the {used} bytes that redis uses")
    own = alone.figure("memory", "allocator_allocated")
    case.check(own > 5 << 20, f"without the library jemalloc says that it gave {own} bytes: no proof")

    case.check("OK" in under.tell("FLUSHALL"), "FLUSHALL")
    case.check("OK" in under.tell("MEMORY", "PURGE"), "MEMORY PURGE")
    used = under.figure("memory", "used_memory")
    case.check(used < 10 << 20, f"redis uses {used} bytes after FLUSHALL")
    under.load(commands)
    case.same(alone.tell("DEBUG", "DIGEST"), under.tell("DEBUG", "DIGEST"), "the digest of the data")
    for server in (under, alone):
        server.tell("SHUTDOWN", "NOSAVE")
    case.served(case.finish(under.process), ["redis-server"])
    case.finish(alone.process)


# ── compilers ───────────────────────────────────────────────────────────────────────────────


def project_sources(build):
    """What the library is built from: core, and the two plug-ins that this build has chosen."""
    folders = [ROOT / "core"]
    for header in ("frontend.h", "backend.h"):
        chosen = re.search(r'#include "([^"]+)/', (build.folder / "gen" / header).read_text())
        folders += [root / chosen.group(1) for root in plugin_roots()]
    left_out = set(OF_BACK_ENDS)
    if "#define CONFIG_PURGE_THREAD 1\n" not in (build.folder / "gen/autoconf.h").read_text():
        left_out.add("purger.c")
    return sorted(
        path
        for folder in folders
        for path in folder.glob("*.c")
        if not path.name.startswith("test_") and path.name not in left_out
    )


def plugin_roots():
    """Where policies/ and backends/ lie: here, and where PLUGINS says."""
    return [ROOT, *([ROOT / os.environ["PLUGINS"]] if os.environ.get("PLUGINS") else [])]


def compiles_the_project(case, compiler, cxx_compiler, parts, cxx_parts):
    folders = ["core", "core/include", *plugin_roots(), case.build.folder]
    flags = ["-std=gnu17", "-O2", "-g", "-fPIC", *(f"-I{folder}" for folder in folders)]
    jobs = [([compiler, *flags, "-c"], source, parts) for source in project_sources(case.build)]
    jobs.append(([cxx_compiler, "-std=c++17", "-O2", "-g", "-c"], HERE / "containers.cpp", cxx_parts))
    case.check(len(jobs) > 5, f"too few sources: {jobs}")
    for command, source, needed in jobs:
        objects = []
        for library in (False, True):
            objects.append(case.folder / f"{pathlib.Path(source).stem}.{len(objects)}.o")
            done = case.run(
                [*command, "-o", objects[-1], source],
                library=[case.build.library] if library else False,
                cwd=ROOT,
            )
        case.served(done, needed)
        alone, under = (path.read_bytes() for path in objects)
        case.check(alone == under, f"another object file than without the library: {done.command}")


@once
@test
def gcc(case):
    """gcc and g++ compile this project to the same object files, byte for byte."""
    compiles_the_project(case, case.tool("gcc"), case.tool("g++"), ["cc1", "as"], ["cc1plus", "as"])


@once
@test
def clang(case):
    """clang and clang++ compile this project to the same object files, byte for byte."""
    compiles_the_project(case, case.tool("clang"), case.tool("clang++"), ["clang"], ["clang++"])


# ── the rest ────────────────────────────────────────────────────────────────────────────────


def git_history(path):
    """A stream for git fast-import: 400 commits to some of 120 files in 6 folders."""
    chance = random.Random(1)
    files = {
        f"folder{i % 6}/file{i}.txt": [str(chance.randrange(10**9)) for _ in range(chance.randrange(20, 800))]
        for i in range(120)
    }
    stream = []
    for number in range(400):
        changed = chance.sample(sorted(files), 8) if number else sorted(files)
        message = f"commit {number}"
        stream += ["commit refs/heads/main", f"committer C <c@example.org> {1600000000 + number} +0000"]
        stream += [f"data {len(message)}", message]
        for name in changed:
            lines = files[name]
            for _ in range(5):
                lines[chance.randrange(len(lines))] = str(chance.randrange(10**9))
            lines.append(str(number))
            content = "\n".join(lines) + "\n"
            stream += [f"M 644 inline {name}", f"data {len(content)}", content]
    path.write_text("\n".join(stream) + "\n")


@once
@test
def git(case):
    """git: import, merge, rebase, log, blame, clone, repack, gc and fsck of a repository made here."""
    case.tool("git")
    history = case.folder / "history"
    git_history(history)
    results = []
    for library in (False, True):
        folder = case.folder / f"repositories{len(results)}"
        folder.mkdir()
        results.append(
            case.run(["sh", HERE / "git_session.sh", history, folder], library=library)
        )
    case.same(results[0].stdout, results[1].stdout, f"stdout of {results[1].command}")
    case.check(results[1].stdout.count(b"\n") > 5000, "git said too little", results[1].stdout)
    case.served(results[1], ["git", "sh", "sort"])


@test
def sqlite(case):
    """sqlite3: a load with indexes, joins, updates, deletes, VACUUM and an integrity check."""
    alone, under = case.both([case.tool("sqlite3"), "-batch", ":memory:"], stdin=HERE / "load.sql")
    case.check(b"\nok\n" in under.stdout, "the integrity check did not say ok", under.stdout)
    case.served(under, ["sqlite3"])


@test
def perl(case):
    """perl: hashes, regular expressions, closures, sorting, child processes."""
    _, under = case.both([case.tool("perl"), HERE / "load.pl"])
    case.check(under.stdout.count(b"\n") > 40, "perl said too little", under.stdout)
    case.served(under, ["perl"])


@once
@test
def lua(case):
    """lua5.4: tables, strings, coroutines, closures, full collections."""
    _, under = case.both([case.tool("lua5.4"), HERE / "load.lua"])
    case.check(under.stdout.count(b"\n") > 30, "lua said too little", under.stdout)
    case.served(under, ["lua5.4"])


@once
@test
def sort(case):
    """sort of a file of 32 MB by two threads, and again by key without duplicates."""
    large = case.folder / "large"
    hexadecimal = random.Random(7).randbytes(16 << 20).hex()
    large.write_text(hexadecimal.translate({ord("f"): "\n"}))
    for options in ([], ["-u", "-k1.3"]):
        sorted_files = []
        for library in (False, True):
            sorted_files.append(case.folder / f"sorted{len(sorted_files)}")
            command = [case.tool("sort"), "--parallel=2", "-S", "64M", *options]
            done = case.run([*command, "-o", sorted_files[-1], large], library=library)
        case.served(done, ["sort"])
        alone, under = (path.read_bytes() for path in sorted_files)
        case.check(alone and alone == under, f"sorted otherwise than without the library: {done.command}")


@test
def cxx_containers(case):
    """A C++ program with threads that pass containers to each other, and exceptions."""
    _, under = case.both([case.program("containers.cpp")])
    case.served(under, ["containers"])


@once
@test
def cxx_operators(case):
    """Every form of operator new and delete does what the C++ standard says."""
    program = case.program("operators.cpp")
    case.served(case.run([program]), ["operators"])


@once
@test
def cxx_late_runtime(case):
    """In a C program, new throws in a C++ plug-in that was loaded at run time."""
    program = case.program("late_runtime.c", libraries=("-ldl",))
    result = case.run([program, case.shared_object("late_plugin.cpp")])
    case.check(result.stdout == b"thrown and caught\n", "the plug-in catches bad_alloc", result.command)


