# SPDX-License-Identifier: MIT
"""The trace ring: what the library last did follows its message when it stops the process."""

import re
import signal

from harness import once, test

EVENT = re.compile(r"hakmem: trace (\d+): thread 0x[0-9a-f]+ ([a-z ]+) (0x[0-9a-f]+) size \d+")


def last_events(case, name, *defines):
    """(what happened, pointer) of each event that follows the message, and the pointer that was bad."""
    library = case.build.variant(name, "CONFIG_TRACE", defines)
    command = [case.program("misuse.c"), "free", "large-freed"]
    result = case.run(command, library=[library], witness=False, status=-signal.SIGABRT)
    told = result.stderr.decode().splitlines()
    case.check(told[0].startswith("hakmem: free(): invalid pointer"), result.command, told[0])
    events = [EVENT.fullmatch(line) for line in told[1:]]
    case.check(all(events), "a line is no event", result.stderr)
    numbers = [int(event[1]) for event in events]
    case.check(numbers == sorted(set(numbers)), "events are not in order", numbers)
    return [(event[2], event[3]) for event in events], result.stdout.decode().strip()


@once
@test
def trace_of_cold_paths(case):
    """With TRACE the last words show the thread's heap, refill and large block, and the two frees of it."""
    events, pointer = last_events(case, "trace", "CONFIG_TRACE 1", "CONFIG_TRACE_LOG2 6")
    names = [name for name, _ in events]
    case.check({"attach", "refill"} <= set(names), names)
    case.check([name for name, where in events if where == pointer] == ["large", "free other", "free other"], events)
    case.check("malloc" not in names, names)


@once
@test
def trace_of_all_calls(case):
    """With TRACE_HITS each malloc and free is shown too; the ring keeps the last 16 events."""
    defines = "CONFIG_TRACE 1", "CONFIG_TRACE_HITS 1", "CONFIG_TRACE_LOG2 4"
    events, pointer = last_events(case, "trace-hits", *defines)
    case.check(0 < len(events) <= 16, len(events))
    case.check([name for name, where in events if where == pointer][-2:] == ["free", "free other"], events)
