# SPDX-License-Identifier: MIT
"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import resource
import socket
from dataclasses import dataclass

NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Machine:
    kernel: str = NOT_AVAILABLE
    cpu: str = NOT_AVAILABLE
    cpus: int = 0  # those that this process may use
    memory: str = NOT_AVAILABLE
    governor: str = NOT_AVAILABLE
    huge_pages: str = NOT_AVAILABLE
    layout: str = NOT_AVAILABLE
    priority: str = NOT_AVAILABLE
    load: float | None = None  # at the start; of a row, in the middle of its runs
    name: str = ""  # of one of several


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip() or NOT_AVAILABLE
    except OSError:
        return NOT_AVAILABLE


def _after(path: str, key: str) -> str | None:
    """What follows the key and a colon in the first line that has it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(key):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return None


def _memory() -> str:
    total = _after("/proc/meminfo", "MemTotal")
    return f"{int(total.split()[0]) / 2**20:.1f} GiB" if total else NOT_AVAILABLE


def _layout() -> str:
    return {"0": "fixed, the kernel does not vary it", "1": "varied by the kernel, but the heap",
            "2": "varied by the kernel"}.get(
                _first_line("/proc/sys/kernel/randomize_va_space"), NOT_AVAILABLE)


def _priority() -> str:
    """The best nice value that programs can be given, which is what `launch` gives them."""
    if os.geteuid() == 0:
        return "highest (nice -20)"
    lowest = 20 - resource.getrlimit(resource.RLIMIT_NICE)[0]
    return "highest (nice -20)" if lowest <= -20 else "as usual: only root may raise it"


def own_name() -> str:
    """As Slurm or the user of GNU parallel calls this machine."""
    return os.environ.get("SLURMD_NODENAME") or os.environ.get("PARALLEL_SSHHOST", "").removeprefix(":") or socket.gethostname()


def describe() -> Machine:
    huge_pages = _first_line("/sys/kernel/mm/transparent_hugepage/enabled")
    if "[" in huge_pages:
        huge_pages = huge_pages.split("[")[1].split("]")[0]
    return Machine(
        kernel=f"{platform.system()} {platform.release()}",
        cpu=_after("/proc/cpuinfo", "model name") or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory(),
        governor=_first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        huge_pages=huge_pages,
        layout=_layout(),
        priority=_priority(),
        load=round(os.getloadavg()[0], 2),
    )
