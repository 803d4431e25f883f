# SPDX-License-Identifier: MIT
"""From before main until after exit: fork, threads, dlopen, linking, limits, valgrind."""

import contextlib
import os
import pathlib
import re
import signal

from harness import HERE, ROOT, Skipped, about, once, test, test_without_libc_names

PYTHON = "/usr/bin/python3"


def says(case, result, text):
    case.check(result.stdout.decode() == text, f"said {result.stdout!r}, not {text!r}", result.command)


def simple(case, source, text, *arguments, before=()):
    """Run a program of this folder under the library; it says `text` where all is well."""
    result = case.run([case.program(source), *arguments], before=before)
    says(case, result, text)
    case.served(result)


@test
def fork_while_threads_allocate(case):
    """500 forks of a process whose 8 threads allocate without pause; each child frees blocks of them all."""
    simple(case, "fork_threads.c", "all children ended well\n", 1)


@test
def fork_from_several_threads(case):
    """The same, with 4 threads that fork at once."""
    simple(case, "fork_threads.c", "all children ended well\n", 4)


@test
def short_threads(case):
    """100 000 short-lived threads: neither resident nor mapped memory grows after the first 2000."""
    simple(case, "short_threads.c", "100000 threads left nothing behind\n")


@test
def signal_storm(case):
    """A handler that does not allocate strikes 3 allocating threads 3000 times; all blocks stay whole."""
    simple(case, "signals.c", "all blocks are whole\n")


@test
def crash_in_a_signal_handler(case):
    """A bad free in a signal handler, wherever it strikes: one line, and abort; no hang."""
    program = case.program("signals.c")
    for number in range(1, 400, 20):
        result = case.run([program, number], witness=False, status=-signal.SIGABRT)
        told = result.stderr.decode()
        case.check(told.count("\n") == 1 and told.startswith("hakmem: free(): invalid"), result.command, told)


@test_without_libc_names
def crash_under_all_locks(case):
    """A bad free while a fork holds every lock, by the thread that forks, another, the child: one line, and abort."""
    program = case.program("fork_crash.c")
    for who in ("self", "other", "child"):
        result = case.run([program, case.build.library, who], library=False, status=-signal.SIGABRT)
        told = result.stderr.decode()
        case.check(told.count("\n") == 1 and told.startswith("hakmem: free(): invalid"), result.command, told)


@once
@test_without_libc_names
def fork_handlers_older_than_the_library(case):
    """Opened late, it holds its locks while older handlers run, which may allocate all the same."""
    result = case.run([case.program("fork_crash.c"), case.build.library, "allocate"], library=False)
    says(case, result, "handlers and child had their memory\n")


LOGIN_SHELL = """
cd "$(mktemp -d)"
perl -e 'for my $i (1..20000) { print $i * 7919 % 20011, " ", "x" x ($i % 50), "\\n" }' > numbers
sort -n numbers | uniq -c | awk '{ sum += $2 } END { print NR, sum }'
tar cf - numbers | xz -1 | xz -d | tar tf -
gzip -c numbers | gzip -dc | cmp - numbers && echo same
git init -q . && git add numbers && git -c user.name=n -c user.email=e commit -q -m first && git log --format=%s
printf 'int main(void) { return 42; }' > a.c && gcc -O1 -o a a.c && ./a; echo $?
python3 -c 'print(sum(len(str(i)) for i in range(50000)))'
find . -name numbers | xargs -n1 sed -n '$='
"""


@once
@test
def login_shell(case):
    """A whole login shell and all that it starts, perl, sort, tar, xz, git, gcc, python3: as without the library."""
    alone, under = case.both(["/bin/bash", "-l", "-c", LOGIN_SHELL])
    case.check(alone.stdout.count(b"\n") == 7, "not everything was done", alone.stdout, alone.stderr)
    case.served(under, ["bash", "perl", "sort", "awk", "tar", "xz", "gzip", "git", "gcc", "python3", "find", "sed"])


@once
@test
def fork_handlers_allocate(case):
    """Another library's fork handlers allocate, whether they run outside our own or between them."""
    program = case.program("fork_streams.c")
    handlers, library = case.shared_object("fork_handlers.c"), case.build.library
    for preload in ([library, handlers], [handlers, library]):
        result = case.run([program], library=preload)
        says(case, result, "500 children beside stdio\n")


HANDLED = "all handlers had their memory\n"


def fork_order(case, output, flags=(), libraries=(), **how):
    """Run fork_order.c, linked in this way, and see that no handler waits for ever."""
    program = case.program("fork_order.c", output, ["-Wl,--no-as-needed", *flags], libraries)
    how.setdefault("env", {"LD_LIBRARY_PATH": f"{case.build.folder}:{case.build.output}"})
    result = case.run([program, *how.pop("arguments", ())], **how)
    says(case, result, HANDLED)
    return result


@once
@test
def fork_handlers_of_a_linked_library(case):
    """Handlers that a library's constructor registers before ours runs may wait for threads that allocate."""
    case.served(fork_order(case, "fork_order_linked", (), [case.shared_object("fork_order_lib.c")]))


@once
@test
def fork_handlers_of_a_preloaded_library(case):
    """Likewise, of a library that is preloaded before this one, or after it."""
    library, other = case.build.library, case.shared_object("fork_order_lib.c")
    for preload in ([library, other], [other, library]):
        case.served(fork_order(case, "fork_order", library=preload))


@once
@test
def fork_handlers_of_a_library_opened_later(case):
    """Likewise, of a library that main opens."""
    case.served(fork_order(case, "fork_order", arguments=[case.shared_object("fork_order_lib.c")]))


@once
@test
def fork_handlers_where_both_are_linked(case):
    """Likewise, with both libraries linked, in either order."""
    ours, other = [f"-L{case.build.folder}", "-lhakmem"], case.shared_object("fork_order_lib.c")
    for name, libraries in (("before", [*ours, other]), ("after", [other, *ours])):
        fork_order(case, f"fork_order_{name}", (), libraries, library=False)


@once
@test
def fork_handlers_with_the_archive(case):
    """Likewise, with libhakmem.a in the program and the other library shared, in the program, or all static."""
    archive, other = case.build.archive, case.shared_object("fork_order_lib.c")
    fork_order(case, "fork_order_archive", (), [archive, other], library=False)
    part = HERE / "fork_order_lib.c"
    for name, flags in (("dynamic", ()), ("static", ("-static",)), ("static_pie", ("-static-pie", "-fPIE"))):
        fork_order(case, f"fork_order_{name}_before", flags, [part, archive], library=False)
        fork_order(case, f"fork_order_{name}_after", flags, [archive, part], library=False)


def unlike_libc(name):
    """Functions of doc/calls.md that interposer.c leaves alone: malloc's own, C++'s, and what is no function."""
    return name.startswith(("hak_", "_Z")) or name in ("environ", "malloc", "free", "realloc", "aligned_alloc", "pthread_atfork")


@test
def functions_of_libc_interposed(case):
    """A library that stands before all that is called of libc, and in each call allocates and waits for a thread that does."""
    calls = (ROOT / "doc/calls.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `\w+\.c` \| (.*?) \|", calls, re.MULTILINE)))
    known = (HERE / "interposer.c").read_text(encoding="utf-8")
    missing = [name for name in listed if not unlike_libc(name) and not re.search(rf"\b{name}\b", known)]
    case.check(len(listed) > 20 and not missing, f"interposer.c stands before all but {missing}")

    program, other = case.program("interposed.c"), case.shared_object("interposer.c")
    for preload in ([other, case.build.library], [case.build.library, other]):
        says(case, case.run([program], library=preload), "nobody waited for ever\n")
        # The last words, with libc's abort interposed like the rest.
        result = case.run([program, "abort"], library=preload, witness=False, status=-signal.SIGABRT)
        told = [line for line in result.stderr.decode().splitlines() if not line.startswith("hakmem: trace ")]
        case.check(len(told) == 1 and told[0].startswith("hakmem: free(): invalid"), result.command, *told)


@once
@test
def libfaketime(case):
    """Debian's libfaketime before the library and after it: its clock looks symbols up, and so allocates."""
    libraries = sorted(pathlib.Path("/usr/lib").glob("*-linux-gnu/faketime/libfaketime*.so.1"))
    case.check(len(libraries) == 2, "libfaketime is not installed: apt-get install libfaketime")
    threads = [PYTHON, "-c", "import threading, time; t = [threading.Thread(target=lambda: [bytes(i) for i in range(9999)])"
               " for _ in range(4)]; [x.start() for x in t]; [x.join() for x in t]; print(time.gmtime().tm_year)"]
    for faketime in libraries:
        for preload in ([faketime, case.build.library], [case.build.library, faketime]):
            for command in (["date", "-u", "+%Y"], threads):
                result = case.run(command, library=preload, env={"FAKETIME": "@1999-12-24 20:30:00"})
                says(case, result, "1999\n")
                case.served(result)


@test
def thread_exit(case):
    """Blocks outlive their threads, others free them, and 2000 threads leave nothing behind."""
    simple(case, "thread_exit.c", "blocks outlived their threads\n")


@test
def thread_specific_destructors(case):
    """Destructors of thread-specific data allocate and free in every round; nothing is left behind."""
    simple(case, "tls_destructors.c", "destructors allocated in every round\n")


@once
@test
def thread_local_destructors(case):
    """Destructors of C++ thread_local objects allocate, free and make other such objects."""
    simple(case, "thread_local.cpp", "800 destructors ran\n")


@once
@test
def exit_handlers(case):
    """Handlers of exit and destructors allocate and free."""
    simple(case, "exit_handlers.c", "late\nwith status\nearly\ndestructor\n")


@test
def exit_while_threads_allocate(case):
    """exit() while 4 threads allocate, 30 times."""
    for _ in range(30):
        simple(case, "exit_handlers.c", "late\nwith status\nearly\ndestructor\n", "busy")


@once
@test
def constructors(case):
    """malloc before main, in .preinit_array, constructors, and another preloaded library's."""
    program = case.program("constructors.c", libraries=("-ldl",))
    early, library = case.shared_object("early.c"), case.build.library
    for preload, blocks in (([library], 0), ([library, early], 50), ([early, library], 50)):
        result = case.run([program], library=preload)
        says(case, result, f"{blocks} blocks of another library\n")
        case.served(result)


@test_without_libc_names
def dlopen(case):
    """A running program opens the library, uses it, closes it, and goes on using its blocks."""
    program = case.program("opened.c", libraries=("-ldl",))
    for more in ([], [case.shared_object("tls_hog.c")]):
        result = case.run([program, case.build.library, *more], library=False)
        says(case, result, "opened, closed, and still at work\n")


def linked(case, source, output, flags, libraries, text=None):
    """Run, without LD_PRELOAD, a program linked with the library; it says what library it has."""
    program = case.program(source, output, [f"-I{case.build.include}", *flags], libraries)
    folder = str(case.build.folder)
    result = case.run([program], library=False, env={"LD_LIBRARY_PATH": folder})
    says(case, result, case.identity() + "\n" if text is None else text)


@test
def linked_shared(case):
    """A program linked with -lhakmem gets libc's names and the library's own from it."""
    linked(case, "linked.c", "linked_shared", [f"-L{case.build.folder}"], ["-lhakmem"])


@once
@test
def linked_archive(case):
    """A program linked with libhakmem.a, libc shared: no clash of symbols, and the same."""
    linked(case, "linked.c", "linked_archive", [], [case.build.archive])


@once
@test
def linked_static(case):
    """A static program with libhakmem.a: no clash with the malloc of libc.a, and the same."""
    linked(case, "linked.c", "linked_static", ["-static"], [case.build.archive])


@once
@test
def linked_static_pie(case):
    """A static position-independent program with libhakmem.a."""
    linked(case, "linked.c", "linked_static_pie", ["-static-pie", "-fPIE"], [case.build.archive])


@once
@test
def linked_static_cxx(case):
    """A static C++ program with libhakmem.a: no clash with the operators of libstdc++.a."""
    linked(case, "operators.cpp", "operators_static", ["-static"], [case.build.archive], "all forms\n")


@test
def threads_alive(case):
    """2000 threads alive at once, each with blocks of its own."""
    simple(case, "threads_alive.c", "2000 threads alive\n")


# Bytes of private dirty memory that a thread may take beyond the bytes of its blocks: its heap, and pages that are partly
# used. Without sharing pages, 20 sizes would take up to 80 KiB.
THREAD_BYTES = 16 << 10


@test
def thousands_of_threads(case):
    """10 000 threads, or as many as there can be, with 20 blocks each: what each takes beyond them is bounded."""
    result = case.run([case.program("thousands.c"), 10000])
    found = re.fullmatch(r"(\d+) threads, (-?\d+) bytes each beyond (\d+)\n", result.stdout.decode())
    case.check(found, result.command, result.stdout, result.stderr)
    threads, beyond = int(found[1]), int(found[2])
    if threads < 1000:
        raise Skipped(f"the system gives {threads} threads: see ulimit -u, and pids.max of the control group")
    case.check(beyond <= THREAD_BYTES, f"{threads} threads take {beyond} bytes each beyond their blocks")
    case.served(result)


# ── tools that run a program in their own way ───────────────────────────────────────────────


def under_valgrind(case, *options):
    valgrind = [case.tool("valgrind"), "--quiet", "--error-exitcode=99", *options]
    result = case.run([*valgrind, case.program("mixed.c")])
    says(case, result, "all well\n")
    return result


@test
def valgrind_none(case):
    """Starts and works under valgrind --tool=none, where the address space is small and odd."""
    case.served(under_valgrind(case, "--tool=none"), ["mixed"])


@once
@test
def valgrind_memcheck(case):
    """Under memcheck, which puts its own malloc in: no error, no leak."""
    under_valgrind(case, "--tool=memcheck", "--leak-check=full")


@once
@test
def valgrind_memcheck_own_malloc(case):
    """Under memcheck with the library's own malloc left in place: no error."""
    under_valgrind(case, "--tool=memcheck", "--soname-synonyms=somalloc=nouserintercepts")


# ── limits ──────────────────────────────────────────────────────────────────────────────────


def limited(case, kilobytes):
    """What stands before a command to run it as after `ulimit -v kilobytes`."""
    return [case.tool("prlimit"), f"--as={kilobytes * 1024}"]


@once
@test
def address_limit_start(case):
    """Starts and works under ulimit -v 100000."""
    simple(case, "mixed.c", "all well\n", before=limited(case, 100000))
    case.both(["/bin/sh", "-c", "ls / | sort"], before=limited(case, 100000))


@about("backend")
@test
def address_limits(case):
    """ulimit -v of 64 MB, 96 MB, 128 MB, 256 MB and 1 GB: programs start, work and end."""
    for megabytes in (64, 96, 128, 256, 1024):
        before = limited(case, megabytes << 10)
        simple(case, "mixed.c", "all well\n", before=before)
        case.both(["/bin/sh", "-c", "ls / | sort"], before=before)


PYTHON_THREADS = """
import mmap, threading

mapping = mmap.mmap(-1, 64 << 20)
for at in range(0, 64 << 20, 4096):
    mapping[at] = at >> 12 & 255
answers = [None] * 8
barrier = threading.Barrier(8)

def work(number):
    barrier.wait()
    table = {}
    for i in range(20000):
        table[f"{number} {i}"] = [i] * (i % 10)
        if i % 3 == 0:
            del table[f"{number} {i // 2}"]
            table[f"{number} {i // 2}"] = bytes(i % 3000)
        if i % 5000 == 0:
            bytearray(2 << 20)
    answers[number] = len(table), sum(len(value) for value in table.values())

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(answers, sum(mapping[at] for at in range(0, 64 << 20, 4096)))
"""


@about("policy", "backend")
@test
def address_limit_python(case):
    """python3 with 8 threads and a mapping of its own of 64 MB under ulimit -v 300000."""
    environment = {"PYTHONMALLOC": "malloc"}
    command = [PYTHON, "-c", PYTHON_THREADS]
    # Without the limit: glibc does not always get through with it.
    alone = case.run(command, library=False, env=environment)
    under = case.run(command, before=limited(case, 300000), env=environment)
    case.same(alone.stdout, under.stdout, "what python3 says")
    case.check(not under.stderr, under.command, under.stderr)
    case.served(under, ["python3"])


def reaches(case, size, other):
    result = case.run([case.program("reach.c"), size, other], before=limited(case, 300000))
    case.check(result.stdout.startswith(b"blocks of"), result.command, result.stdout)
    case.served(result)


@about("backend")
@test
def address_limit_reach_64(case):
    """Blocks of 64 B fill 60 % of ulimit -v 300000, then NULL; freed, they and others fill it again."""
    reaches(case, 64, 102400)


@about("backend")
@test
def address_limit_reach_1k(case):
    """The same with blocks of 1 KiB, then of 1 MiB."""
    reaches(case, 1024, 1 << 20)


@about("backend")
@test
def address_limit_reach_100k(case):
    """The same with blocks of 100 KiB, then of 64 B."""
    reaches(case, 102400, 64)


@about("backend")
@test
def address_limit_reach_1m(case):
    """The same with blocks of 1 MiB, then of 1 KiB."""
    reaches(case, 1 << 20, 1024)


# Versions 1 and 2: which line of /proc/self/cgroup, where the groups are, which files limit memory and swap.
CGROUPS = (
    (r"^\d+:(?:.*,)?memory(?:,.*)?:(.*)$", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    (r"^0::(.*)$", "/sys/fs/cgroup", "memory.max", "memory.swap.max"),
)


@contextlib.contextmanager
def memory_cgroup(name, limit):
    """The folder of a new control group below this process's own, which may have so many bytes of memory."""
    own = pathlib.Path("/proc/self/cgroup").read_text()
    refused = "there is no control group for memory"
    for pattern, root, file, swap in CGROUPS:
        found = re.search(pattern, own, re.MULTILINE)
        if not found:
            continue
        group = pathlib.Path(root + found[1]) / f"{name}-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            refused = f"no control group can be made: {error}"
            continue
        try:
            (group / file).write_text(str(limit))
        except OSError as error:
            group.rmdir()
            refused = f"the control group has no limit on memory: {error}"
            continue
        try:
            with contextlib.suppress(OSError):
                (group / swap).write_text(str(limit if swap == "memory.memsw.limit_in_bytes" else 0))
            yield group
        finally:
            group.rmdir()
        return
    raise Skipped(refused)


@about("backend")
@test
def memory_limit(case):
    """In a control group of 192 MiB: 320 MiB in turn, from size to size and thread to thread; and then too much."""
    program = case.program("phases.c")
    with memory_cgroup("hakmem-test", 192 << 20) as group:
        inside = ["/bin/sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"]
        says(case, case.run([program], before=inside), "all phases fit\n")
        # That there is a limit: as much at once ends as it does for everybody.
        case.run([program, "all"], before=inside, status=-signal.SIGKILL)


OVERCOMMIT = pathlib.Path("/proc/sys/vm/overcommit_memory")


@contextlib.contextmanager
def strict_overcommit():
    """The kernel charges memory when it is mapped, in all processes of the machine."""
    mode = OVERCOMMIT.read_text()
    if mode.strip() == "2":
        yield
        return
    if not os.environ.get("HAKMEM_TEST_OVERCOMMIT"):
        raise Skipped("HAKMEM_TEST_OVERCOMMIT=1 lets this set vm.overcommit_memory=2 for the whole machine for a while")
    try:
        OVERCOMMIT.write_text("2")
    except OSError as error:
        raise Skipped(f"vm.overcommit_memory cannot be set: {error}") from None
    try:
        yield
    finally:
        OVERCOMMIT.write_text(mode)


@about("backend")
@test
def strict_overcommit_of_memory(case):
    """Where the kernel charges what is mapped: nothing is charged for addresses; programs work and end."""
    with strict_overcommit():
        simple(case, "mixed.c", "all well\n")
        simple(case, "phases.c", "all phases fit\n")
        simple(case, "fork_threads.c", "all children ended well\n", 1)
        case.served(case.both([PYTHON, "-c", PYTHON_THREADS], env={"PYTHONMALLOC": "malloc"})[1], ["python3"])
        charged = case.run([case.program("charged.c")])
        says(case, charged, "charged for what is used, and refused what is not there\n")
