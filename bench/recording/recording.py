# SPDX-License-Identifier: MIT
"""Files and folders as recordings: one for each process, and each program that it became by exec."""

import os
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from . import library
from .library import TraceError

HEADER = b"HKR1\x01\x00"
ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass
class Part:
    """What one header starts: a file, or a piece of one that holds several."""
    source: str  # the file's name
    offset: int
    header: library.Header
    events: np.ndarray
    runs: np.ndarray
    summary: library.Summary


@dataclass
class Recording:
    parts: "list[Part]"
    threads: "list[int]" = field(init=False)

    def __post_init__(self):
        own = sorted((part for part in self.parts if not part.header.flags & library.SHARED),
                     key=lambda part: (part.header.thread, part.header.part))
        shared = [part for part in self.parts if part.header.flags & library.SHARED]
        runs, pieces = [], []
        for part in [*own, *shared]:  # what a thread writes to the shared file comes after its own
            events = part.events.copy()
            events["runs"] += sum(map(len, runs))
            runs.append(part.runs)
            pieces.append(events)
        events = np.concatenate(pieces) if pieces else np.zeros(0, library.EVENT)
        events = events[np.argsort(events["thread"], kind="stable")]
        self.runs = np.concatenate(runs) if runs else np.zeros(0, "u4")
        self.threads, starts = np.unique(events["thread"], return_index=True)
        self.starts = np.append(starts, len(events)).astype("u8")
        for begin, end in zip(self.starts[:-1], self.starts[1:]):
            events["time"][begin:end] = np.maximum.accumulate(events["time"][begin:end])
        self.events = events

    @property
    def header(self):
        return self.parts[0].header

    @property
    def flags(self):
        return self.header.flags & ~library.SHARED

    @property
    def bytes(self):
        return sum(part.summary.bytes for part in self.parts)

    @cached_property
    def sorted(self):
        """(order, after, block, report) of library.order."""
        return library.order(self.events, self.starts)

    @property
    def begin_ns(self):
        return int(self.events["time"].min()) if len(self.events) else 0

    @property
    def seconds(self):
        return (int(self.events["time"].max()) - self.begin_ns) / 1e9 if len(self.events) else 0.0


def _data_end(file):
    """Where the last data of a file ends that was made larger than what was written."""
    end, at, size = 0, 0, os.fstat(file).st_size
    while at < size:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return end
        end = at = os.lseek(file, begin, os.SEEK_HOLE)
    return end


def read_bytes(path):
    """What was written to a file; unpacked if it is packed."""
    try:
        with open(path, "rb") as file:
            end = _data_end(file.fileno())
            file.seek(0)
            data = file.read(end)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    if data[:4] != ZSTD:
        return data
    try:
        unpacked = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True)
    except FileNotFoundError:
        raise TraceError(f"{path} is packed: zstd (Debian: apt-get install zstd) unpacks it") from None
    if unpacked.returncode:
        raise TraceError(f"{path}: {unpacked.stderr.decode(errors='replace').strip()}")
    return unpacked.stdout


def parts_of(path, data):
    """The parts of a file with these bytes."""
    begins, at = [], data.find(HEADER)
    while at >= 0:
        if at % 32 == 0 and library.read_header(data[at:at + 4096]):
            begins.append(at)
        at = data.find(HEADER, at + 1)
    if not begins or begins[0] != 0:
        begins.insert(0, 0)  # the decoder says what is wrong with it
    parts, scale = [], 0.0
    for begin, end in zip(begins, [*begins[1:], len(data)]):
        header = library.read_header(data[begin:begin + 4096])
        events, runs, summary = library.decode(data[begin:end], scale)
        scale = summary.ns_per_tick
        parts.append(Part(Path(path).name, begin, header or library.Header(), events, runs, summary))
    return parts


def files_of(path):
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.endswith((".trace", ".trace.zst")))
    if not files:
        raise TraceError(f"{path}: there is no recording in it (no .trace file)")
    return files


def load(path):
    """The recordings in a file or folder, the one with most events first."""
    groups = {}
    for file in files_of(path):
        for part in parts_of(file, read_bytes(file)):
            header = part.header
            groups.setdefault((header.process, header.image, header.start_ns), []).append(part)
    found = [Recording(parts) for parts in groups.values()]
    return sorted(found, key=lambda recording: -len(recording.events))


def load_one(path, process=None):
    """One recording of a file or folder: of this process, or the largest."""
    found = load(path)
    if process is not None:
        found = [recording for recording in found if recording.header.process == process]
        if not found:
            raise TraceError(f"{path}: there is no process {process} in it")
    if not len(found[0].events):
        raise TraceError(f"{path}: there are no events in it; `bench/trace check` says what is there")
    return found[0]
