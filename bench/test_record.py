#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of recordings: test_record.py [BENCH [LIBRARY]] [unittest's names]

BENCH is the folder of the built workloads (build/bench). LIBRARY has libhakmem.so and libhakmem.a built with
CONFIG_RECORD; without it their tests are skipped."""

import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

WORDS = sys.argv[1:]
FOLDERS = [WORDS.pop(0) for _ in range(2) if WORDS and Path(WORDS[0]).is_dir()]
if FOLDERS:
    os.environ["HAKMEM_BENCH_LIBRARIES"] = FOLDERS[0]

import numpy as np  # noqa: E402
from recording import charts, checking, importing, library, measures, recording  # noqa: E402
import testing  # noqa: E402

HERE = Path(__file__).resolve().parent
SECONDS = 240
MARK = 77001
BUILT_IN = Path(FOLDERS[1]).resolve() if len(FOLDERS) > 1 else None


def setUpModule():
    global FOLDER, EXERCISE, EXERCISE_CXX
    folder = tempfile.TemporaryDirectory(prefix="hakmem-record-")
    unittest.addModuleCleanup(folder.cleanup)
    FOLDER = Path(folder.name)
    os.chmod(FOLDER, 0o755)
    EXERCISE, EXERCISE_CXX = FOLDER / "exercise", FOLDER / "exercise_cxx"
    for compiler, source, out in (("gcc", "exercise.c", EXERCISE), ("g++", "exercise.cpp", EXERCISE_CXX)):
        subprocess.run([compiler, "-O1", "-fno-builtin", "-pthread", "-w", "-o", str(out),
                        str(HERE / "recording" / source)], check=True)


class Recorded(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=FOLDER))
        os.chmod(self.folder, 0o777)
        self.out = self.folder / "out"

    def run_recorded(self, *words, program=None, preload=None, out=None, **more):
        environment = {"PATH": "/usr/bin:/bin", "HAKMEM_RECORD": str(out or self.out),
                       "LD_PRELOAD": str(preload or library.RECORDER)}
        return subprocess.run([str(program or EXERCISE), *map(str, words)], env=environment, capture_output=True,
                              text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, **more)

    def record(self, *words, **more):
        """Runs the exercise and returns its recordings, each of which must check."""
        done = self.run_recorded(*words, **more)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\n", ""))
        return self.checked()

    def checked(self, path=None, notes=False):
        found = recording.load(path or self.out)
        for one in found:
            wrong, remarks = checking.check(one)
            self.assertEqual(wrong, [])
            if not notes:
                self.assertEqual([line for line in remarks if "still being written" not in line
                                  and "too coarse" not in line], [])
        return [one for one in found if len(one.events)]

    def between_marks(self, one, thread=0):
        """A thread's events between the blocks of MARK and MARK + 1 bytes."""
        events = one.events[one.events["thread"] == thread]
        begin, end = (np.flatnonzero((events["size"] == size) & (events["operation"] == library.MALLOC))
                      for size in (MARK, MARK + 1))
        self.assertTrue(len(begin) and len(end), "the marks are not there")
        return events[begin[0] + 2:end[0]]

    def operations(self, events):
        return [library.OPERATIONS[operation] for operation in events["operation"]]


class Events(Recorded):
    def test_every_malloc_and_free_is_there(self):
        one, = self.record("churn", 20000)
        events = self.between_marks(one)
        kinds = self.operations(events)
        self.assertEqual((kinds.count("malloc"), kinds.count("free")), (20000, 20000))
        # The same numbers as the program draws.
        state, sizes = 1, []
        for _ in range(20000):
            state = (state * 1664525 + 1013904223) % 2**32
            state = (state * 1664525 + 1013904223) % 2**32
            sizes.append(1 + (state >> 8) % 500)
        self.assertEqual(events["size"][events["operation"] == library.MALLOC].tolist(), sizes)

    def test_kinds_of_calls(self):
        one, = self.record("kinds")
        events = self.between_marks(one)
        seen = list(zip(self.operations(events), events["size"].tolist()))
        for operation, size in (("calloc", 123), ("aligned", 1000), ("aligned", 200), ("aligned", 30), ("aligned", 10),
                                ("keep", 101), ("take", 50000), ("retract", 2**64 // 4 - 1), ("take", 60),
                                ("refused", 2**64 // 4 - 1)):
            self.assertIn((operation, size), seen)
        self.assertEqual(seen.count(("give", 0)), 5)
        self.assertIn((library.ALIGNED, 8), list(zip(events["operation"], events["align"])))  # 256
        self.assertIn(70000, events["size"][np.isin(events["operation"], (library.KEEP, library.TAKE))].tolist())

    def test_operators_of_cxx_are_recorded_once(self):
        done = self.run_recorded(program=EXERCISE_CXX)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        one, = self.checked()
        kinds = self.operations(self.between_marks(one))
        self.assertEqual(len(kinds), 18)
        self.assertEqual(kinds.count("free"), 9)
        self.assertEqual(kinds.count("aligned"), 3)

    def test_operators_of_a_library_that_has_its_own(self):
        """A malloc that brings operator new, as ours does, calls malloc by no name."""
        source = self.folder / "own.c"
        source.write_text("#define _GNU_SOURCE\n#include <stdlib.h>\nextern void *__libc_malloc(size_t);\n"
                          "extern void __libc_free(void *);\nvoid *malloc(size_t n) { return __libc_malloc(n); }\n"
                          "void free(void *p) { __libc_free(p); }\n"
                          "void *_Znwm(size_t n) { return __libc_malloc(n); }\n"
                          "void _ZdlPv(void *p) { __libc_free(p); }\n")
        own = self.folder / "libown.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", own, source], check=True)
        done = self.run_recorded(program=EXERCISE_CXX, preload=f"{library.RECORDER}:{own}")
        self.assertEqual((done.returncode, done.stderr), (1, ""))  # this new throws nothing
        one, = self.checked()
        self.assertEqual(self.operations(self.between_marks(one)).count("free"), 9)

    def test_which_pages_of_a_large_block_were_touched(self):
        one, = self.record("large")
        events = self.between_marks(one)
        touched = events[events["operation"] == library.TOUCHED]
        self.assertEqual(len(touched), 1)
        pages = (64 << 20) // os.sysconf("SC_PAGESIZE")
        # A quarter and an eighth, the malloc's own header, and what huge pages may add.
        self.assertGreaterEqual(int(touched["size"][0]), pages * 3 // 8)
        self.assertLess(int(touched["size"][0]), pages // 2)
        begin = int(touched["runs"][0])
        count = int(one.runs[begin])
        runs = one.runs[begin + 1:begin + 1 + 2 * count].reshape(count, 2)
        self.assertGreaterEqual(count, 2)
        self.assertLess(runs.sum() - pages, 3)

    def test_few_bytes_an_event(self):
        one, = self.record("churn", 200000)
        self.assertLess(one.bytes / len(one.events), 4)


class Threads(Recorded):
    def test_frees_by_other_threads_are_in_order(self):
        one, = self.record("threads", 8, 3000)
        order, after, block, report = one.sorted
        self.assertEqual(len(one.threads), 9)
        self.assertGreater(report.transfers, 1000)
        frees = one.events["operation"] == library.FREE
        self.assertEqual(int(frees.sum()), int((one.events["operation"] == library.MALLOC).sum()) - self.alive(one))

    def alive(self, one):
        return measures.measure(one).blocks_at_end - int((one.events["operation"] == library.CALLOC).sum())

    def test_order_does_not_hang_on_the_clock(self):
        """The argument of doc/recording.md: program order, and turns at each address, say which allocation a free
        is of. Times may be anything."""
        one, = self.record("threads", 8, 3000)
        _, _, block, report = one.sorted
        chance = np.random.default_rng(1)
        for times in (lambda count: np.zeros(count), lambda count: np.sort(chance.integers(0, 10**9, count)),
                      lambda count: np.arange(count) * 10**6):
            events = one.events.copy()
            for begin, end in zip(one.starts[:-1], one.starts[1:]):
                events["time"][begin:end] = times(int(end - begin))
            order, _, other, again = library.order(events, one.starts)
            self.assertEqual((again.impossible, again.transfers), (0, report.transfers))
            self.assertTrue(np.array_equal(other, block))
            position = np.empty(len(order), "i8")
            position[order] = np.arange(len(order))
            for begin, end in zip(one.starts[:-1], one.starts[1:]):
                self.assertTrue(np.all(np.diff(position[begin:end]) > 0))
            frees = np.flatnonzero(np.isin(events["operation"], library.GIVES) & (other >= 0))
            self.assertTrue(np.all(position[other[frees]] < position[frees]))

    def test_events_in_another_order_are_found(self):
        """Each of these is what a recorder would write that notes a free after the block is gone, or an allocation
        before it is had."""
        one, = self.record("threads", 4, 2000)
        _, after, _, _ = one.sorted
        events, found = one.events, 0
        cross = np.flatnonzero((after != 2**32 - 1) & (events["operation"] == library.FREE))
        cross = [index for index in cross if events["operation"][after[index]] == library.MALLOC
                 and events["thread"][after[index]] != events["thread"][index]
                 # 0: the turn of the event before, so that it has none to exchange
                 and events["turn"][index] and events["turn"][after[index]]]
        self.assertGreater(len(cross), 20)
        for index in cross[:20]:
            late = events.copy()
            turns = late["turn"][index], late["turn"][after[index]]
            late["turn"][index], late["turn"][after[index]] = turns[1], turns[0]
            report = library.order(late, one.starts)[3]
            found += report.impossible + report.unknown > 0
        self.assertEqual(found, 20)

    def test_a_lost_event_is_found(self):
        one, = self.record("churn", 3000)
        frees = np.flatnonzero(one.events["operation"] == library.FREE)
        for index in frees[100:2000:100]:
            rest = np.delete(one.events, index)
            again = np.flatnonzero((rest["address"] == one.events["address"][index]) & (
                np.arange(len(rest)) >= index))
            if len(again):
                self.assertEqual(library.order(rest, np.array([0, len(rest)]))[3].impossible, 1)

    def test_threads_that_die(self):
        one, = self.record("dies", 300)
        self.assertEqual(len(one.threads), 301)
        events = one.events[one.events["thread"] != 0]
        # Of each its own block and, in its last destructors, another one.
        self.assertEqual(int((events["size"] == 222).sum()), 300)
        self.assertGreaterEqual(int((events["size"] == 333).sum()), 300)
        mapped = sum(file.stat().st_size for file in self.out.iterdir())
        self.assertLess(mapped, 400 * 4096 + 2 * 65536)

    def test_signals_that_allocate(self):
        done = self.run_recorded("signals", 3000000)
        self.assertEqual((done.returncode, done.stdout), (0, "done\n"))
        one, = self.checked(notes=True)
        self.assertGreater(int(((one.events["size"] >= 4000) & (one.events["size"] < 4010)).sum()), 10)


class Processes(Recorded):
    def test_fork(self):
        found = self.record_notes("fork")
        parents = [one for one in found if not one.flags & library.FORKED]
        children = [one for one in found if one.flags & library.FORKED]
        self.assertEqual((len(parents), len(children)), (1, 4))
        kinds = self.operations(self.between_marks(parents[0]))
        self.assertEqual((kinds.count("malloc"), kinds.count("free")), (3001, 3001))
        for child in children:
            self.assertEqual(child.header.parent, parents[0].header.process)
            kinds = self.operations(self.between_marks(child))
            self.assertEqual(kinds.count("malloc"), 1000)

    def record_notes(self, *words):
        done = self.run_recorded(*words)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\n", ""))
        return self.checked(notes=True)

    def test_exec_begins_another_recording(self):
        found = self.record("exec")
        self.assertEqual(sorted(one.header.image for one in found), [0, 1])
        self.assertEqual(len({one.header.process for one in found}), 1)
        self.assertEqual(sorted(self.operations(self.between_marks(one)).count("malloc") for one in found), [500, 700])

    def test_vfork(self):
        done = self.run_recorded("vfork")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\ndone\n", ""))
        self.assertEqual(sorted(self.operations(self.between_marks(one)).count("malloc") for one in self.checked()),
                         [500, 500])

    def test_killed_at_any_moment(self):
        """What is lost is at most the chunk that was being written; and of that, no event that was finished."""
        for _ in range(5):
            shutil.rmtree(self.out, ignore_errors=True)
            process = subprocess.Popen([EXERCISE, "grows"], stdout=subprocess.PIPE, env={
                "HAKMEM_RECORD": str(self.out), "LD_PRELOAD": str(library.RECORDER)})
            self.assertEqual(process.stdout.readline(), b"ready\n")
            file = None
            end = time.monotonic() + SECONDS
            while file is None or os.stat(file).st_blocks * 512 < 300000:
                file = next(iter(self.out.glob("*-0-0.trace")), None)
                self.assertLess(time.monotonic(), end)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            one, = self.checked()
            self.assertLessEqual(sum(part.summary.open_chunks for part in one.parts), 1)  # 0: between two
            self.assertEqual(one.parts[0].summary.damaged, 0)
            # All closed chunks, and the open one up to its last event.
            part = next(part for part in one.parts if part.source.endswith("-0-0.trace"))
            filled = os.stat(file).st_blocks * 512
            self.assertGreater(part.summary.bytes, filled - 2 * 65536)


class Adversities(Recorded):
    MESSAGE = r"hakmem: record: .*: (.*)\n"

    def survives(self, done, message):
        """The program went on, and one line says what became of the recording."""
        self.assertEqual((done.returncode, done.stdout), (0, "done\n"))
        self.assertRegex(done.stderr, f"^{self.MESSAGE}$")
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_closed_descriptors(self):
        one, = self.record("closes")
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 100000)
        self.assertEqual(len(one.threads), 3)

    @unittest.skipUnless(os.geteuid() == 0, "only root changes the root")
    def test_another_root_and_no_rights(self):
        (self.folder / "root").mkdir()
        done = self.run_recorded("root", self.folder / "root")
        if done.returncode == 7:
            self.skipTest(f"root has not all rights here: {done.stderr.strip()}")
        self.survives(done, "threads that start now share a file")
        one, = self.checked()
        self.assertEqual(len(one.threads), 3)
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 101000)

    @unittest.skipUnless(os.geteuid() == 0, "only root changes the root")
    def test_threads_that_fail_at_once_say_it_once(self):
        """Two of 20 such runs said it twice while any thread could pass the question whether it was said."""
        (self.folder / "root").mkdir()
        for number in range(60):
            done = self.run_recorded("root", self.folder / "root", out=self.folder / f"out{number}")
            if done.returncode == 7:
                self.skipTest(f"root has not all rights here: {done.stderr.strip()}")
            self.survives(done, "threads that start now share a file")

    @unittest.skipUnless(os.geteuid() == 0, "only root mounts")
    def test_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True)
        if mounted.returncode:
            self.skipTest(f"no tmpfs here: {mounted.stderr.decode().strip()}")
        try:
            done = self.run_recorded("grows", 30, out=disk)
            self.assertEqual((done.returncode, done.stdout), (0, "ready\ndone\n"))
            self.assertIn("the recording ends here, the program goes on: no space left", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
            one, = self.checked(disk)
            self.assertGreater(len(one.events), 50000)
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_limit_on_the_size_of_files(self):
        limits = lambda size: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        done = self.run_recorded("churn", 100000, preexec_fn=limits(200000))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\n", ""))
        one, = self.checked()
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 100000)
        self.assertGreater(max(part.header.part for part in one.parts), 0)
        self.survives(self.run_recorded("churn", 100, preexec_fn=limits(1000), out=self.folder / "small"), "ulimit -f")

    def test_a_place_that_cannot_be_written(self):
        file = self.folder / "file"
        file.write_text("")
        self.survives(self.run_recorded("churn", 100, out=file), "it is no folder")
        self.survives(self.run_recorded("churn", 100, out="/proc/nowhere"), "no such folder")
        self.assertEqual(self.run_recorded("churn", 100, out="/proc/nowhere").stdout, "done\n")

    @unittest.skipUnless(os.geteuid() == 0, "only root gives its rights up")
    def test_a_folder_of_somebody_else(self):
        closed = self.folder / "closed"
        closed.mkdir(mode=0o700)
        self.survives(self.run_recorded("churn", 100, out=closed / "inner", user=65534), "permission denied")

    def test_standard_error_of_another_file_gets_no_message(self):
        source = self.folder / "other.c"
        source.write_text("#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <pthread.h>\n"
                          "static void *run(void *p) { free(malloc(10)); return p; }\n"
                          "int main(int n, char **w) { free(malloc(1)); close(2); open(w[1], O_RDWR | O_CREAT, 0600);"
                          "rename(getenv(\"HAKMEM_RECORD\"), w[2]); pthread_t t; pthread_create(&t, 0, run, 0); pthread_join(t, 0); return 0; }\n")
        program = self.folder / "other"
        subprocess.run(["gcc", "-O0", "-fno-builtin", "-pthread", "-w", "-o", program, source], check=True)
        data = self.folder / "data"
        moved = self.folder / "moved"
        done = self.run_recorded(data, moved, program=program)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(data.read_bytes(), b"")
        one, = self.checked(moved)
        self.assertEqual(len(one.threads), 2)

    def test_preloaded_without_a_folder(self):
        done = self.run_recorded("churn", 10, out="")
        self.assertEqual(done.returncode, 0)


class Damage(Recorded):
    """check reports what is wrong, where, and reads the rest."""

    def setUp(self):
        super().setUp()
        self.record("churn", 60000)
        self.file = max(self.out.iterdir(), key=lambda file: file.stat().st_blocks)
        self.data = bytearray(recording.read_bytes(self.file))
        self.events = len(recording.load(self.file)[0].events)

    def wrong(self, data=None):
        (self.folder / "bad.trace").write_bytes(self.data if data is None else data)
        done = subprocess.run([HERE / "trace", "check", self.folder / "bad.trace"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        return done.stdout

    def test_one_bit_in_each_chunk(self):
        chance = np.random.default_rng(2)
        for chunk in (160, 4096, 65536, 131072):
            data = bytearray(self.data)
            used = struct.unpack_from("<I", data, chunk + 12)[0]
            for _ in range(8):
                data[chunk + 96 + int(chance.integers(used))] ^= 1 << int(chance.integers(8))
            self.assertIn("its checksum is another", self.wrong(data))
            self.assertGreater(len(recording.load(self.folder / "bad.trace")[0].events), self.events / 3)

    def test_damaged_header_of_a_chunk(self):
        self.data[65536:65540] = b"none"
        said = self.wrong()
        self.assertIn("what stands where a chunk should begin is none", said)
        self.assertIn("chunks are missing before number 4", said)

    def test_cut_off(self):
        self.assertIn("ends in the middle of a chunk", self.wrong(self.data[:70000]))

    def test_no_recording(self):
        self.assertIn("no recording starts here", self.wrong(b"#!/bin/sh\nexit 0\n" * 20))
        self.assertIn("no recording starts here", self.wrong(b""))

    def test_another_version(self):
        self.data[96] = 2
        self.assertIn("checksum", self.wrong())

    def test_random_bytes_are_no_crash(self):
        chance = np.random.default_rng(3)
        for _ in range(60):
            data = bytearray(self.data)
            for _ in range(20):
                data[int(chance.integers(len(data)))] = int(chance.integers(256))
            if chance.integers(2):  # with a sum that fits
                struct.pack_into("<Q", data, 4096 + 24, 0)
            library.decode(data)

    def test_independent_reading(self):
        """The format as its description says it, read without the decoder: bytes of one chunk."""
        offset = 4096
        used, count = struct.unpack_from("<II", self.data, offset + 12)
        base, = struct.unpack_from("<Q", self.data, offset + 40)
        data, at, last, entries, seen = self.data[offset + 96:offset + 96 + used], 0, base & ~7, {}, []

        def number():
            nonlocal at
            value, shift = 0, 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        def address(zigzag):
            return (last + 8 * (zigzag >> 1 if zigzag % 2 == 0 else -(zigzag + 1 >> 1))) % 2**64

        def first(byte, bits):
            low = byte & (1 << bits) - 1
            return address(low | number() << bits if byte >> bits & 1 else low)

        def slot(place):
            return (place >> 3) * 0x9e3779b97f4a7c15 % 2**64 >> 55
        gaps = 0
        while at < used:
            byte = data[at]
            at += 1
            if byte & 0x80:
                place, size = entries[(byte & (0x3f if byte & 0x40 else 0x1f)) << 8 | data[at]]
                at += 1
                if byte & 0x40:
                    seen.append(("free", place, 0))
                else:
                    size = size if byte & 0x20 else number()
                    entries[slot(place)] = place, size
                    seen.append(("malloc", place, size))
            elif byte & 0x40:
                place = first(byte, 5)
                entries[slot(place)] = place, 0
                seen.append(("free", place, 0))
            elif byte & 0x20:
                place = first(byte, 4)
                size = number()
                entries[slot(place)] = place, size
                seen.append(("malloc", place, size))
            else:
                self.assertEqual(byte, 0x17)
                number()
                gaps += 1
                continue
            last = seen[-1][1]
        self.assertEqual(len(seen) + gaps, count)
        one, = recording.load(self.file)
        before = len(library.decode(self.data[:4096])[0])
        events = one.events[before:before + len(seen)]
        self.assertEqual(list(zip(self.operations(events), events["address"].tolist(), events["size"].tolist())), seen)


class Tool(Recorded):
    def tool(self, *words, status=0):
        done = subprocess.run([HERE / "trace", *map(str, words)], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def test_show(self):
        self.record("threads", 2, 1000)
        said = self.tool("show", self.out, "--page", self.folder / "page.html")
        one, = self.checked()
        self.assertIn(f"{len(one.events):,}", said)
        self.assertIn(f"{one.sorted[3].transfers:,} of", said)
        page = (self.folder / "page.html").read_text()
        self.assertEqual(page.count("<svg"), 5)
        self.assertNotIn(str(self.folder), page)
        # Labels of neighbouring bars must not overlap, and a realloc is no dip of what is live.
        for plot in page.split("<svg")[2:]:
            self.assertLessEqual(len(re.findall(r">[\d.]+ (?:B|[KM]iB|[nµm]?s)<|>at once<", plot)), charts.MOST_LABELS)
        self.assertEqual(measures.measure(one).curve[1].max(), measures.measure(one).peak)

    def test_live_bytes(self):
        one, = self.record("churn", 5000)
        events, live, most = one.events, {}, 0
        for operation, address, size in zip(events["operation"], events["address"].tolist(), events["size"].tolist()):
            if operation in (library.MALLOC, library.CALLOC):
                live[address] = size
            elif operation == library.FREE:
                live.pop(address, None)
            most = max(most, sum(live.values()))
        found = measures.measure(one)
        self.assertEqual((found.peak, found.live_at_end), (most, sum(live.values())))

    def test_cut_has_every_block(self):
        self.record("threads", 4, 3000)
        one, = self.checked()
        cut = self.folder / "cut.trace.zst"
        length = one.seconds
        self.tool("cut", self.out, cut, "--from", length / 3, "--to", 2 * length / 3)
        part, = self.checked(cut)
        self.assertTrue(part.flags & library.CUT)
        self.assertEqual(part.sorted[3].unknown, 0)
        self.assertLess(len(part.events), len(one.events))
        whole = measures.measure(one)
        middle = whole.curve[1][len(whole.curve[1]) // 3:2 * len(whole.curve[1]) // 3]
        self.assertLess(abs(measures.measure(part).peak / max(middle.max(), 1) - 1), 0.2)

    def test_whole_cut_is_the_same(self):
        one, = self.record("kinds")
        self.tool("cut", self.out, self.folder / "all.trace")
        again, = self.checked(self.folder / "all.trace")
        for name in ("operation", "address", "size", "align", "thread"):
            self.assertEqual(one.events[name].tolist(), again.events[name].tolist(), name)
        spread = np.abs((one.events["time"] - one.events["time"][0]).astype("i8")
                        - (again.events["time"] - again.events["time"][0]).astype("i8"))
        self.assertLess(spread.max(), 1000)

    def test_anonymous(self):
        self.record("threads", 3, 1000)
        one, = self.checked()
        self.tool("anonymise", self.out, self.folder / "a.trace")
        other, = self.checked(self.folder / "a.trace")
        self.assertEqual((other.header.process, other.header.start_ns, other.begin_ns), (0, 0, 0))
        self.assertTrue(np.array_equal(one.sorted[2], other.sorted[2]))
        self.assertFalse(set(one.events["address"].tolist()) & set(other.events["address"].tolist()) - {0})
        self.assertEqual(measures.measure(one).sizes[1].tolist(), measures.measure(other).sizes[1].tolist())
        self.tool("anonymise", self.out, self.folder / "c.trace", "--coarse")
        coarse, = self.checked(self.folder / "c.trace")
        self.assertLess(len(np.unique(coarse.events["size"])), len(np.unique(one.events["size"])))
        self.assertTrue(np.all(coarse.events["size"] >= other.events["size"]))

    def test_no_content_and_no_names(self):
        """What is in a recording: sizes, addresses, times, ids. Nothing that the program stored or is called."""
        secret = b"a secret that a block holds"
        source = self.folder / "secret_name.c"
        source.write_text("#include <stdlib.h>\n#include <string.h>\nint main(void) { for (int i = 0; i < 99; i++) {"
                          f'char *p = strdup("{secret.decode()}"); if (i % 2) free(p); }} return 0; }}\n')
        program = self.folder / "secret_name"
        subprocess.run(["gcc", "-O0", "-w", "-o", program, source], check=True)
        self.assertEqual(self.run_recorded(program=program).returncode, 0)
        for file in self.out.iterdir():
            data = recording.read_bytes(file)
            for word in (secret, b"secret_name", str(self.folder).encode(), os.uname().nodename.encode()):
                self.assertNotIn(word, data)

    def test_messages(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.record("churn", 100)
        for words, message in (
                (("show", self.folder / "nothing"), "No such file"),
                (("show", empty), "there is no recording in it"),
                (("show", self.out, "--process", "1"), "there is no process 1"),
                (("cut", self.out, self.folder / "x.trace", "--from", "1000"), "there is no event between"),
                (("cut", self.out, self.folder / "x.trace", "--from", "2", "--to", "1"), "nothing lies between"),
                (("cut", self.out, self.folder / "x.txt"), "ends in .trace"),
                (("import", "mtrace", HERE / "trace", self.folder / "x.trace"), "this is no line of mtrace's"),
                (("show", HERE / "trace"), "there are no events in it")):
            said = self.tool(*words, status=1)
            self.assertTrue(said.startswith("bench/trace: "), said)
            self.assertIn(message, said)
            self.assertEqual(said.count("\n"), 1)


class Command(Recorded):
    def command(self, *words, status=0):
        done = subprocess.run([HERE / "record", "-o", self.out, *map(str, words)], capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "HAKMEM_BENCH_LIBRARIES": str(library.BUILD)})
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def test_records(self):
        done = self.command("--", EXERCISE, "churn", 1000)
        self.assertEqual(done.stdout, "done\n")
        self.assertIn("1 files", done.stderr)
        one, = self.checked()
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 1000)

    def test_hands_the_status_on(self):
        self.command("--", "/bin/sh", "-c", "exit 7", status=7)
        self.command("--", "/bin/sh", "-c", "kill -9 $$", status=137)

    def test_messages(self):
        self.assertIn("there is no such program", self.command("--", "/no/such", status=1).stderr)
        source = self.folder / "static.c"
        source.write_text("int main(void) { return 0; }\n")
        subprocess.run(["gcc", "-static", "-o", self.folder / "static", source], check=True)
        self.assertIn("nothing was recorded", self.command("--", self.folder / "static", status=1).stderr)


class Imports(unittest.TestCase):
    """Each format as its own tools write it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "trace"

    def events(self, format, text):
        self.file.write_text(text)
        events = importing.FORMATS[format](self.file)
        return [(library.OPERATIONS[event["operation"]], int(event["address"]), int(event["size"]),
                 int(event["align"]), int(event["thread"])) for event in events]

    def test_mtrace(self):
        self.assertEqual(self.events("mtrace", """= Start
@ ./program:[0x55d0c1b2a1c5] + 0x55d0c2f3a6a0 0x64
@ ./program:(main+0x2f)[0x55d0c1b2a1d5] < 0x55d0c2f3a6a0
@ ./program:(main+0x2f)[0x55d0c1b2a1d5] > 0x55d0c2f3a710 0x1f4
@ /lib/x86_64-linux-gnu/libc.so.6:(fopen+0x1)[0x7f0000000000] + 0x55d0c2f3a910 0x1d8
@ ./program:[0x55d0c1b2a1e1] - 0x55d0c2f3a710
= End
"""), [("malloc", 0x55d0c2f3a6a0, 100, 0, 0), ("give", 0x55d0c2f3a6a0, 0, 0, 0), ("take", 0x55d0c2f3a710, 500, 0, 0),
            ("malloc", 0x55d0c2f3a910, 472, 0, 0), ("free", 0x55d0c2f3a710, 0, 0, 0)])

    def test_mtrace_as_glibc_writes_it(self):
        debug = next(Path("/lib").glob("*/libc_malloc_debug.so.0"), None)
        if debug is None:
            self.skipTest("no libc_malloc_debug.so.0 here, which has mtrace")
        source, program = self.file.with_suffix(".c"), self.file.with_suffix(".bin")
        source.write_text("#include <mcheck.h>\n#include <stdlib.h>\nint main(void) { mtrace();\n"
                          "void *volatile a = malloc(1234), *volatile b = malloc(10); a = realloc(a, 99999);\n"
                          "a = realloc(a, 50000); void *volatile c = realloc(b, -2UL >> 1); (void)c;\n"
                          "free(a); free(b); muntrace(); return 0; }\n")
        subprocess.run(["gcc", "-O0", "-w", "-fno-builtin", "-o", program, source], check=True)
        log = self.file.with_suffix(".log")
        subprocess.run([program], env={"MALLOC_TRACE": str(log), "LD_PRELOAD": str(debug)}, check=True)
        events = importing.mtrace(log)
        kinds = [library.OPERATIONS[operation] for operation in events["operation"]]
        self.assertEqual(events["size"][0], 1234)
        self.assertEqual(kinds.count("free"), 2)
        self.assertEqual(library.order(events, np.array([0, len(events)]))[3].impossible, 0)

    def test_memory_replay(self):
        self.assertEqual(self.events("memory_replay", """186: malloc 0xb6038060 20
186: calloc 0xb609f080 32 4
187: free 0xb6038060
186: realloc 0xb609f0a0 0xb609f080 200
186: memalign 0x85423660 16 104
186: free 0xb609f0a0 1000 1010
187: thread_done 0x0
"""), [("malloc", 0xb6038060, 20, 0, 0), ("calloc", 0xb609f080, 128, 0, 0), ("give", 0xb609f080, 0, 0, 0),
            ("take", 0xb609f0a0, 200, 0, 0), ("aligned", 0x85423660, 104, 4, 0), ("free", 0xb609f0a0, 0, 0, 0),
            ("free", 0xb6038060, 0, 0, 1)])
        events = importing.memory_replay(self.file)
        report = library.order(events, np.array([0, 6, 7]))[3]
        self.assertEqual((report.impossible, report.unknown, report.transfers), (0, 0, 1))

    def test_logalloc(self):
        raw = """13663 13663 malloc(42)=0x7f0c33502040
13663 13664 calloc(3,8)=0x7f0c33503040
13663 13663 free(0x7f0c33503040)
13663 13663 realloc(0x7f0c33502040,100)=0x7f0c33502040
13663 13663 posix_memalign(64,30)=0x7f0c33504040
99 99 malloc(1)=0x10
13663 13663 jemalloc_stats()
"""
        seen = [("malloc", 42, 0, 0), ("free", 0, 0, 0), ("give", 0, 0, 0), ("keep", 100, 0, 0),
                ("aligned", 30, 6, 0), ("calloc", 24, 0, 1)]
        self.assertEqual([(row[0], *row[2:]) for row in self.events("logalloc", raw)], seen)
        munged = raw
        for at, word in enumerate(("0x7f0c33502040", "0x7f0c33503040", "0x7f0c33504040"), 1):
            munged = munged.replace(word, f"#{at}")
        self.assertEqual([(row[0], *row[2:]) for row in self.events("logalloc", munged)], seen)
        # The first form of the format has no threads.
        self.assertEqual(self.events("logalloc", "5 malloc(7)=#1\n5 free(#1)\n")[0][2], 7)

    def test_messages(self):
        for format, text, message in (
                ("mtrace", "@ p > 0x10 0x20\n", "1: the end of a realloc"),
                ("mtrace", "= Start\n= End\n", "there is no event in it"),
                ("memory_replay", "1: malloc 0x10 5\n1: memalign 0x20 3 5\n", "2: 3 is no alignment"),
                ("memory_replay", "1: mallocate 0x10 5\n", "1: this is no line of memory_replay's"),
                ("logalloc", "1 1 malloc(x)=0x10\n", "1: malloc() with other arguments"),
                ("logalloc", "1 1 mmap(1)=0x10\n", "1: logalloc knows no mmap()")):
            with self.assertRaises(library.TraceError) as raised:
                self.events(format, text)
            self.assertIn(message, str(raised.exception))


class Kept(Recorded):
    """bench/traces."""

    def test_each_checks_and_they_are_small(self):
        files = sorted((HERE / "traces").glob("*.trace.zst"))
        self.assertEqual([file.name.split(".")[0] for file in files], ["gcc", "lld", "python3", "redis", "sqlite3"])
        self.assertLess(sum(file.stat().st_size for file in files), 3_000_000)
        for file in files:
            one, = self.checked(file)
            self.assertGreater(len(one.events), 100000)
            self.assertEqual((one.header.process, one.begin_ns), (0, 0))
            self.assertEqual(len(one.threads), 5 if file.name.startswith("lld") else 1)


class BuiltIn(Recorded):
    """CONFIG_RECORD."""

    def setUp(self):
        super().setUp()
        if BUILT_IN is None:
            self.skipTest("no library with CONFIG_RECORD was named")

    def test_records_a_preloaded_program(self):
        one, = self.record("kinds", preload=BUILT_IN / "libhakmem.so")
        self.assertTrue(one.flags & library.BUILT_IN)
        kinds = self.operations(self.between_marks(one))
        self.assertEqual((kinds.count("calloc"), kinds.count("aligned"), kinds.count("retract")), (1, 4, 1))
        self.assertEqual(kinds.count("give"), 5)
        one, = self.record("threads", 4, 1000, preload=BUILT_IN / "libhakmem.so", out=self.folder / "threads") or [None]

    def record(self, *words, out=None, **more):
        done = self.run_recorded(*words, out=out, **more)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\n", ""))
        return self.checked(out or self.out)

    def test_operators(self):
        done = self.run_recorded(program=EXERCISE_CXX, preload=BUILT_IN / "libhakmem.so")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        one, = self.checked()
        kinds = self.operations(self.between_marks(one))
        self.assertEqual((len(kinds), kinds.count("free"), kinds.count("aligned")), (18, 9, 3))

    def test_a_static_program(self):
        if not (BUILT_IN / "libhakmem.a").exists():
            self.skipTest("this configuration does not export libc's names")
        program = self.folder / "static"
        subprocess.run(["gcc", "-static", "-O1", "-fno-builtin", "-pthread", "-w", "-o", program,
                        HERE / "recording/exercise.c", BUILT_IN / "libhakmem.a"], check=True)
        one, = self.record("churn", 5000, program=program)
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 5000)

    def test_only_one_of_two_recorders_records(self):
        one, = self.record("churn", 1000, preload=f"{library.RECORDER}:{BUILT_IN / 'libhakmem.so'}")
        self.assertFalse(one.flags & library.BUILT_IN)
        self.assertEqual(self.operations(self.between_marks(one)).count("malloc"), 1000)

    def test_nothing_is_recorded_unasked(self):
        done = subprocess.run([EXERCISE, "churn", "100"], capture_output=True, text=True, cwd=self.folder, env={
            "LD_PRELOAD": str(BUILT_IN / "libhakmem.so")})
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "done\n", ""))
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    sys.exit(testing.run(__name__, WORDS, verbosity=2))
