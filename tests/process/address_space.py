# SPDX-License-Identifier: MIT
"""What the library costs a program in addresses: limits on them, core dumps, locked memory, more than there is."""

import re

import promises
from harness import Skipped, about, test, wait_until

PYTHON = "/usr/bin/python3"

# Beside what the program has itself: the library's file, the first of its memory, what describes that.
ADDRESSES_KB = 6 << 10

CORE_RATIO = 1.5


@about("backend")
@test
def refusals_leave_nothing_behind(case):
    """Under RLIMIT_DATA requests from 2^30 bytes on are refused, and addresses and data are as before."""
    result = case.run([case.program("refusals.c")])
    case.same("nothing left behind\n", result.stdout.decode(), result.command)
    case.served(result)


@about("backend")
@test
def refusals_are_quick(case):
    """A refusal takes at most eight system calls, and none of them works on memory."""
    refusals = 100
    [(_, calls)] = promises.calls_between_marks(case, "refusals.c", [refusals])
    case.check(len(calls) <= 8 * refusals, f"{len(calls)} system calls for {refusals} refusals", *calls[:20])
    granted = [call for call in calls if not re.search(r" = -1 (ENOMEM|EAGAIN) ", call)]
    case.check(not granted, "what was refused was given in part:", *granted[:20])


LOWERED = """
import mmap, resource, threading
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
thread = threading.Thread(target=int)
thread.start()
thread.join()
mapping = mmap.mmap(-1, 1 << 20)
blocks = [bytearray(1 << 20) for _ in range(50)]
try:
    bytearray(3 << 30)
except MemoryError:
    print("refused")
"""


@about("backend")
@test
def a_limit_on_addresses_set_later(case):
    """python3 lowers RLIMIT_AS to 1 GiB, starts a thread, maps and allocates, and is refused what is more."""
    alone, _ = case.both([PYTHON, "-c", LOWERED])
    case.same("refused\n", alone.stdout.decode(), alone.command)


@about("backend")
@test
def limits_lowered_again_and_again(case):
    """RLIMIT_AS and RLIMIT_DATA, lowered while the program runs: threads, blocks up to the limit, NULL beyond."""
    result = case.run([case.program("limits_later.c")])
    case.same("under all limits\n", result.stdout.decode(), result.command)
    case.served(result)


def kilobytes(file, name):
    """The number of a line of a file of /proc."""
    with open(file) as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@about("backend")
@test
def more_than_there_is(case):
    """What the kernel refuses, as it is more than all memory, is refused: python3 says MemoryError."""
    with open("/proc/sys/vm/overcommit_memory") as file:
        if file.read().strip() != "0":
            raise Skipped("the kernel grants everything, or charges it (vm.overcommit_memory)")
    more = 8 * (kilobytes("/proc/meminfo", "MemTotal") + kilobytes("/proc/meminfo", "SwapTotal")) << 10
    script = f"try:\n    bytes({more})\nexcept MemoryError:\n    print('refused')"
    alone, _ = case.both([PYTHON, "-c", script])
    case.same("refused\n", alone.stdout.decode(), alone.command)


@about("backend")
@test
def locked_memory(case):
    """mlockall(MCL_CURRENT | MCL_FUTURE) under a limit of 8 MiB, and 2 MB of blocks then."""
    program = case.program("locked.c")
    alone = case.run([program], library=False, status=None)
    if alone.status != 0:
        raise Skipped("memory cannot be locked here, whatever the allocator")
    result = case.run([program], witness=False)
    case.same("locked\n", result.stdout.decode(), result.command)


@about("backend")
@test
def addresses(case):
    """A small program has at most 6 MiB more addresses than without the library, and far less than 100 MB in all."""
    command = ["/bin/grep", "VmSize:", "/proc/self/status"]
    alone = int(case.run(command, library=False).stdout.split()[1])
    under = int(case.run(command, witness=False).stdout.split()[1])
    case.check(under - alone <= ADDRESSES_KB, f"{under - alone} KB more: {under} KB, {alone} KB without")
    case.check(under < 100 << 10, f"{under} KB")


def core_of_gcore(case, library):
    """The size of the core that gcore writes of the paused program."""
    gcore = case.tool("gcore")
    paused = case.start([case.program("core_dump.c")], library=library, witness=False)
    wait_until(lambda: b"ready" in read_so_far(paused), "the program being ready")
    core = case.folder / f"core-{'with' if library else 'without'}"
    case.run([gcore, "-o", core, paused.pid], library=False)
    paused.terminate()
    case.finish(paused, status=-15)
    return (case.folder / f"{core.name}.{paused.pid}").stat().st_size


def read_so_far(process):
    with open(process.streams[0].name, "rb") as file:
        return file.read()


def check_sizes(case, alone, under):
    case.check(alone > 10 << 20, f"a core of {alone} bytes does not have the blocks")
    case.check(under <= CORE_RATIO * alone, f"{under} bytes, {alone} without the library")


@about("backend")
@test
def core_by_gcore(case):
    """gcore's core of a program that has freed 20 of 30 MB is at most 1.5 times as large as without the library."""
    check_sizes(case, core_of_gcore(case, False), core_of_gcore(case, True))


def core_of_kernel(case, library):
    """The size of the core that the kernel writes when the program aborts, in blocks that the file has."""
    folder = case.folder / ("with" if library else "without")
    folder.mkdir()
    before = [case.tool("prlimit"), "--core=1073741824:"]
    case.run([case.program("core_dump.c"), "abort"], library=library, witness=False, before=before, cwd=folder, status=-6)
    cores = list(folder.iterdir())
    case.check(len(cores) == 1, f"no core in {folder}, or several: {cores}")
    return cores[0].stat().st_size


@about("backend")
@test
def core_by_the_kernel(case):
    """The kernel's core of that program is at most 1.5 times as large as without the library."""
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if pattern[0] in "|/" or "/" in pattern:
        raise Skipped(f"the kernel writes cores elsewhere: {pattern}")
    check_sizes(case, core_of_kernel(case, False), core_of_kernel(case, True))
