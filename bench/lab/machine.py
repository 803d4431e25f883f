# SPDX-License-Identifier: MIT
"""What the figures were measured on."""

import os
import platform

NOT_AVAILABLE = "not available"


def _first_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip() or NOT_AVAILABLE
    except OSError:
        return NOT_AVAILABLE


def _cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def describe():
    huge_pages = _first_line("/sys/kernel/mm/transparent_hugepage/enabled")
    if "[" in huge_pages:
        huge_pages = huge_pages.split("[")[1].split("]")[0]
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),  # those that this process may use
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "huge_pages": huge_pages,
        "load": round(os.getloadavg()[0], 2),
    }
