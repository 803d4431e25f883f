# SPDX-License-Identifier: MIT
"""trace.c, called through ctypes: events are arrays of numpy."""

import ctypes
import os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("HAKMEM_BENCH_LIBRARIES") or ROOT / "build/bench").resolve()
TRACE, RECORDER = BUILD / "libhakmem-trace.so", BUILD / "libhakmem-record.so"

EVENT = np.dtype([("address", "u8"), ("size", "u8"), ("time", "u8"), ("thread", "u4"), ("runs", "u4"),
                  ("turn", "u8"), ("operation", "u1"), ("align", "u1"), ("unused", "u1", 6)])

OPERATIONS = ("calloc", "aligned", "give", "take", "keep", "retract", "refused", "gap", "touched",
              "switch", "odd", "lost", "malloc", "free", "turn")
(CALLOC, ALIGNED, GIVE, TAKE, KEEP, RETRACT, REFUSED, GAP, TOUCHED, SWITCH, ODD, LOST, MALLOC,
 FREE, TURN) = range(len(OPERATIONS))
# After which a block lives that did not just before, or ceases to.
TAKES, GIVES = (MALLOC, CALLOC, ALIGNED, TAKE, KEEP, RETRACT), (FREE, GIVE)

# Flags of a header.
SHARED, FORKED, BUILT_IN, CUT, IMPORTED, NUMBERED = 1, 2, 4, 8, 16, 32

UNKNOWN, IMPOSSIBLE = -1, -2

(NO_HEADER, VERSION, GARBAGE, SHORT, CHECKSUM, EVENT_BAD, COUNT, MISSING, OPEN, UNUSED) = range(1, 11)


class TraceError(Exception):
    """What cannot be done, in one line."""


class Problem(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("value", ctypes.c_uint64), ("kind", ctypes.c_uint32),
                ("thread", ctypes.c_uint32)]


class Summary(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_uint64) for name in (
        "events", "runs", "chunks", "open_chunks", "bytes", "damaged", "begin_ns", "end_ns")),
        ("ns_per_tick", ctypes.c_double), ("last", ctypes.c_uint32), ("problem_count", ctypes.c_uint32),
        ("problems", Problem * 64)]


class Header(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_uint32) for name in (
        "flags", "process", "parent", "image", "part", "page", "thread", "unused")),
        ("start_ns", ctypes.c_uint64)]


class OrderReport(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "unknown", "impossible", "first", "transfers", "late")]


_loaded = None


def _library():
    global _loaded
    if _loaded is None:
        if not TRACE.exists():
            raise TraceError(f"{TRACE} is not there: `scons workloads` builds it")
        _loaded = ctypes.CDLL(str(TRACE))
        _loaded.trace_encode.restype = ctypes.c_size_t
        _loaded.trace_overlaps.restype = ctypes.c_uint64
    return _loaded


def _at(array):
    return ctypes.c_void_p(array.ctypes.data)


def read_header(data):
    """The header at the start of some bytes, or None."""
    header = Header()
    some = np.frombuffer(bytes(data[:4096]), dtype="u1")
    known = _library().trace_read_header(_at(some), ctypes.c_size_t(len(some)), ctypes.byref(header))
    return header if known else None


def decode(data, ns_per_tick=0.0):
    """(events, runs, summary) of one file."""
    data = np.frombuffer(bytearray(data), dtype="u1")
    summary = Summary(ns_per_tick=ns_per_tick)
    call = _library().trace_decode
    call(_at(data), ctypes.c_size_t(len(data)), None, None, ctypes.byref(summary))
    events, runs = np.zeros(summary.events, EVENT), np.zeros(max(summary.runs, 1), "u4")
    call(_at(data), ctypes.c_size_t(len(data)), _at(events), _at(runs), ctypes.byref(summary))
    return events, runs[:summary.runs], summary


def encode(header, events, runs):
    """One thread's events as the bytes of a file."""
    events, runs = np.ascontiguousarray(events), np.ascontiguousarray(runs if len(runs) else np.zeros(1, "u4"))
    call = _library().trace_encode
    arguments = (ctypes.byref(header), _at(events), ctypes.c_size_t(len(events)), _at(runs))
    out = np.zeros(call(*arguments, None), "u1")
    call(*arguments, _at(out))
    return out.tobytes()


def order(events, starts):
    """(order, after, block, report) of the events of all threads, one behind the other from `starts` on."""
    events, starts = np.ascontiguousarray(events), np.ascontiguousarray(starts, "u8")
    found, after, block = (np.zeros(len(events), kind) for kind in ("u4", "u4", "i4"))
    report = OrderReport()
    if not _library().trace_order(_at(events), _at(starts), ctypes.c_uint32(len(starts) - 1), _at(found),
                                  _at(after), _at(block), ctypes.byref(report)):
        raise TraceError("too many events for the memory of this machine: cut the recording first")
    return found, after, block, report


def overlaps(events, order, block):
    """(how many allocations lie over a live block, one of them)."""
    first = ctypes.c_uint64()
    events = np.ascontiguousarray(events)
    count = _library().trace_overlaps(_at(events), _at(order), _at(block), ctypes.c_uint64(len(events)),
                                      ctypes.byref(first))
    return count, first.value
