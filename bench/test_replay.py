#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of replaying: test_replay.py [BENCH [LIBRARY]] [unittest's names]

BENCH is the folder of the built workloads (build/bench), LIBRARY a malloc to preload, besides the system's."""

import os
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

WORDS = sys.argv[1:]
FOLDERS = [WORDS.pop(0) for _ in range(2) if WORDS and Path(WORDS[0]).exists()]
if FOLDERS:
    os.environ["HAKMEM_BENCH_LIBRARIES"] = FOLDERS[0]

import numpy as np  # noqa: E402
from recording import cutting, library, making, recording, script  # noqa: E402
import testing  # noqa: E402

HERE = Path(__file__).resolve().parent
REPLAY = library.BUILD / "replay"
MALLOCS = ["", *(str(Path(folder).resolve()) for folder in FOLDERS[1:])]
MALLOC, CALLOC, ALIGNED, FREE = library.MALLOC, library.CALLOC, library.ALIGNED, library.FREE
GIVE, TAKE, KEEP, RETRACT, TOUCHED = library.GIVE, library.TAKE, library.KEEP, library.RETRACT, library.TOUCHED

# A malloc that says what it is asked: a line for each call of a program that is not its own.
SPY = r"""
#define _GNU_SOURCE
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>
#include <pthread.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
static void say(const char *what, size_t size) { char line[64]; if (size >= 70000 || *what == 'f')
    write(9, line, (size_t)snprintf(line, sizeof line, "%s %zu\n", what, size)); }
void *malloc(size_t n) { say("malloc", n); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { say("calloc", n * m); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { say("realloc", n); return __libc_realloc(p, n); }
int posix_memalign(void **p, size_t a, size_t n) { say("aligned", n); *p = __libc_memalign(a, n); return *p ? 0 : 12; }
void free(void *p) { if (p && malloc_usable_size(p) >= 70000) say("free", malloc_usable_size(p) / 1000 * 1000); __libc_free(p); }
"""
# A malloc that hands the first large block out twice.
TWICE = r"""
#include <stddef.h>
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
static void *kept;
void *malloc(size_t n) { if (n != 70000) return __libc_malloc(n); if (!kept) kept = __libc_malloc(n); return kept; }
void free(void *p) { if (p != kept) __libc_free(p); }
"""


def setUpModule():
    global FOLDER
    folder = tempfile.TemporaryDirectory(prefix="hakmem-replay-")
    unittest.addModuleCleanup(folder.cleanup)
    FOLDER = Path(folder.name)
    for name, source in (("spy", SPY), ("twice", TWICE)):
        (FOLDER / f"{name}.c").write_text(source)
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-O1", "-fno-builtin", "-o", FOLDER / f"{name}.so",
                        FOLDER / f"{name}.c"], check=True)


def events_of(*events):
    array = np.zeros(len(events), library.EVENT)
    for place, event in zip(array, events):
        place["thread"], place["operation"], place["address"], place["size"], place["time"], place["align"] = (*event, 0, 0)[:6]
    return array


def made(*events, runs=(), turns=None):
    """A recording of (thread, operation, address, size[, time[, log2 of the alignment]]), of each thread in order."""
    array = events_of(*events)
    if turns:
        array["turn"] = turns
    array = array[np.argsort(array["thread"], kind="stable")]
    return recording.Recording(recording.parts_of("made", cutting.pack(array, np.array(runs, "u4"), library.IMPORTED)))


def operations(words):
    """[[(kind, slot, value, flags), …] of each thread]."""
    threads = int(words[1]) >> 32
    found = []
    for number in range(threads):
        first, count = (int(word) for word in words[8 + 2 * number:10 + 2 * number])
        at = 8 + 2 * threads + 2 * first
        pairs = words[at:at + 2 * count].reshape(-1, 2).tolist()
        found.append([(head & 255, head >> 32, value, head >> 16 & 0xffff) for head, value in pairs])
    return found


class Replayed(unittest.TestCase):
    def write(self, words):
        file = FOLDER / f"{self.id()}.replay"
        file.write_bytes(words.astype("<u8").tobytes())
        return file

    def replay(self, words, *more, malloc="", **options):
        file = words if isinstance(words, Path) else self.write(words)
        environment = {"LD_PRELOAD": malloc} if malloc else {}
        return subprocess.run([REPLAY, file, *more], capture_output=True, text=True, env=environment, timeout=120, **options)

    def figures(self, done):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^workload=replay ops=\d+ ns_per_op=[0-9.]+ seconds=[0-9.]+ checksum=[0-9a-f]{16} "
                                      r"threads=\d+ own_ns=[0-9.]+ table_kib=\d+ server_peak_rss_kib=\d+\n$")
        return dict(word.split("=") for word in done.stdout.split())


class Scripts(Replayed):
    def test_each_thread_does_in_its_order_what_it_did(self):
        """Of a kept recording with threads: as many calls of each kind and as many bytes as in its events."""
        one = recording.load_one(HERE / "traces/lld.trace.zst")
        words = script.words_of(one)
        threads = operations(words)
        of_threads = [one.events[begin:end] for begin, end in zip(one.starts[:-1].tolist(), one.starts[1:].tolist())]
        self.assertEqual(len(threads), 5)
        kinds = Counter(kind for thread in threads for kind, *_ in thread)
        recorded = Counter(int(kind) for kind in one.events["operation"])
        blocks = one.sorted[2]
        known = int(((one.events["operation"] == FREE) & (blocks >= 0)).sum())
        self.assertEqual(kinds[script.FREE], known)
        self.assertEqual((kinds[script.CALLOC], kinds[script.ALIGNED]), (recorded[CALLOC], recorded[ALIGNED]))
        self.assertEqual(kinds[script.MALLOC] + kinds[script.REALLOC], recorded[MALLOC] + recorded[TAKE] + recorded[KEEP])
        self.assertEqual(kinds[script.SPAWN], 4)
        self.assertGreaterEqual(kinds[script.ADOPT], one.sorted[3].transfers)
        for thread, events in zip(threads, of_threads):
            sizes = [value for kind, _, value, _ in thread if kind == script.MALLOC]
            asked = events["size"][np.isin(events["operation"], (MALLOC, TAKE))].tolist()
            rest = Counter(asked)
            rest.subtract(sizes)
            self.assertFalse([size for size, count in rest.items() if count < 0])

    def test_a_block_that_another_thread_frees_has_a_slot_of_its_own(self):
        one = made((0, MALLOC, 0x1000, 10, 0), (0, MALLOC, 0x2000, 20, 1000), (0, FREE, 0x2000, 0, 2000),
                   (1, FREE, 0x1000, 0, 3000), (0, MALLOC, 0x3000, 30, 4000), (1, MALLOC, 0x4000, 40, 5000), turns=[1, 0, 0, 2, 0, 0])
        first, second = operations(script.words_of(one))
        self.assertEqual([kind for kind, *_ in first], [script.MALLOC, script.MALLOC, script.FREE, script.SPAWN, script.MALLOC])
        crossing = first[0][1]
        self.assertEqual(first[1][1], first[4][1])  # used again
        self.assertEqual([kind for kind, *_ in second], [script.ADOPT, script.FREE, script.MALLOC])
        self.assertEqual(second[0][2], crossing)
        self.assertNotIn(crossing, [slot for kind, slot, *_ in first[1:] + second if kind != script.SPAWN])

    def test_reallocs(self):
        one = made((0, MALLOC, 0x1000, 100), (0, GIVE, 0x1000, 0), (0, KEEP, 0x1000, 50), (0, GIVE, 0x1000, 0),
                   (0, TAKE, 0x2000, 500), (0, GIVE, 0x2000, 0), (0, RETRACT, 0x2000, 9999), (0, TAKE, 0x3000, 5),
                   (0, FREE, 0x2000, 0), (0, FREE, 0x3000, 0))
        thread, = operations(script.words_of(one))
        self.assertEqual([(kind, value) for kind, _, value, _ in thread],
                         [(script.MALLOC, 100), (script.REALLOC, 50), (script.REALLOC, 500), (script.MALLOC, 5),
                          (script.FREE, 500), (script.FREE, 5)])
        self.assertEqual([flags for *_, flags in thread], [0, script.CHECKED, script.CHECKED | script.GROWS, 0, script.CHECKED, 0])

    def test_touched_pages_belong_to_the_block_and_stay_inside(self):
        size = 64 * 4096
        one = made((0, MALLOC, 0x100000, size), (0, TOUCHED, 0x100000, 12, 0), (0, FREE, 0x100000, 0), runs=[2, 3, 10, 50, 2])
        thread, = operations(script.words_of(one))
        self.assertEqual([(kind, value) for kind, _, value, _ in thread],
                         [(script.MALLOC, size), (script.TOUCH, 3 << 32 | 10), (script.TOUCH, 63 << 32 | 1), (script.FREE, size)])
        self.assertEqual(thread[0][3], script.UNTOUCHED)

    def test_what_does_not_check_is_refused(self):
        one = made((0, MALLOC, 0x1000, 10), (0, MALLOC, 0x1000, 10))
        with self.assertRaisesRegex(library.TraceError, "not in order, and is not replayed: allocation and free do not alternate"):
            script.words_of(one)
        data = bytearray(recording.read_bytes(HERE / "traces/redis.trace.zst"))
        data[len(data) // 2] ^= 1
        file = FOLDER / "bad.trace"
        file.write_bytes(data)
        out = FOLDER / "bad.replay"
        done = subprocess.run([sys.executable, HERE / "trace", "script", file, out], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not in order, and is not replayed", done.stderr)
        self.assertFalse(out.exists())


class Calls(Replayed):
    def test_malloc_is_asked_for_just_what_was_recorded(self):
        sizes = [70000 + 1000 * n for n in range(8)]
        one = made((0, MALLOC, 0x100000, sizes[0]), (0, CALLOC, 0x200000, sizes[1]), (0, ALIGNED, 0x400000, sizes[2], 0, 12),
                   (0, FREE, 0x200000, 0), (0, GIVE, 0x100000, 0), (0, TAKE, 0x500000, sizes[3]), (0, FREE, 0x500000, 0),
                   (0, FREE, 0x400000, 0))
        log = FOLDER / "calls"
        with open(log, "wb") as file:
            duplicate = os.dup2(file.fileno(), 9)
            self.figures(self.replay(script.words_of(one), malloc=FOLDER / "spy.so", pass_fds=[duplicate]))
            os.close(duplicate)
        said = [line.split() for line in log.read_text().splitlines()]
        asked = [(what, int(size)) for what, size in said if what != "free"]
        self.assertEqual(asked, [("malloc", sizes[0]), ("calloc", sizes[1]), ("aligned", sizes[2]), ("realloc", sizes[3])])
        self.assertEqual(sum(what == "free" for what, _ in said), 3)

    def test_the_checksum_is_the_same_under_each_malloc_and_shows_a_block_handed_out_twice(self):
        one = made(*[(0, MALLOC, 0x1000 + 0x100000 * n, 70000) for n in range(2)],
                   *[(0, FREE, 0x1000 + 0x100000 * n, 0) for n in range(2)])
        words = script.words_of(one)
        sums = {self.figures(self.replay(words, malloc=malloc))["checksum"] for malloc in MALLOCS}
        self.assertEqual(len(sums), 1)
        self.assertNotIn(self.figures(self.replay(words, malloc=FOLDER / "twice.so"))["checksum"], sums)

    def test_kept_recordings_give_one_checksum_again_and_again(self):
        for name in ("gcc", "lld"):
            sums = {self.figures(self.replay(library.BUILD / f"{name}.replay", malloc=malloc))["checksum"]
                    for malloc in MALLOCS for _ in range(3)}
            self.assertEqual(len(sums), 1, name)

    def test_a_free_waits_for_a_block_that_is_not_there_yet(self):
        """Thread 1 has nothing to do but to free what thread 0 allocates last, long after it has started it."""
        many = [(0, MALLOC, 0x100000 + 32 * n, 16, 1) for n in range(30000)]
        one = made((0, MALLOC, 0x1000, 16, 0), (1, MALLOC, 0x2000, 16, 0), *many, (0, MALLOC, 0x3000, 100, 2),
                   (1, FREE, 0x3000, 0, 3), turns=[0] * 30002 + [1, 2])
        words = script.words_of(one)
        for _ in range(5):
            self.assertEqual(self.figures(self.replay(words))["ops"], "30004")

    def test_what_is_not_touched_is_not_resident(self):
        size = 64 << 20
        def peak(*runs):
            touched = [(0, TOUCHED, 0x100000, sum(runs[2::2]), 0)] if runs else []
            one = made((0, MALLOC, 0x100000, size), *touched, (0, FREE, 0x100000, 0), runs=runs)
            return int(self.figures(self.replay(script.words_of(one)))["server_peak_rss_kib"])
        whole, half, none = peak(), peak(1, 0, 8192), peak(1, 16384, 0)
        self.assertAlmostEqual(whole - none, 64 << 10, delta=1024)
        self.assertAlmostEqual(half - none, 32 << 10, delta=1024)

    def test_gaps_are_waited_for_only_if_asked(self):
        one = made((0, MALLOC, 0x1000, 16, 0), (0, FREE, 0x1000, 0, 400_000_000))
        words = script.words_of(one)
        self.assertLess(float(self.figures(self.replay(words))["seconds"]), 0.35)
        self.assertGreaterEqual(float(self.figures(self.replay(words, "--gaps"))["seconds"]), 0.399)

    def test_each_call_is_timed_if_asked(self):
        done = self.replay(library.BUILD / "lld.replay", "--latency")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        got = dict(word.split("=") for word in done.stdout.split())
        times = [float(got[f"{name}_ns"]) for name in ("p50", "p99", "p999", "max")]
        self.assertEqual(times, sorted(times))
        self.assertGreater(times[0], 0)
        plain = self.figures(self.replay(library.BUILD / "lld.replay"))
        self.assertEqual((got["checksum"], got["ops"]), (plain["checksum"], plain["ops"]))

    def test_only_some_operations_of_the_first_thread(self):
        got = self.figures(self.replay(library.BUILD / "lld.replay", "--only=100"))
        self.assertLessEqual(int(got["ops"]), 100)
        self.assertGreater(int(got["ops"]), 10)

    def test_a_program_recorded_now_is_replayed(self):
        out = FOLDER / "now"
        self.assertEqual(making.record(["/usr/bin/perl", "-e", "my %h; $h{$_} = 'x' x $_ for 1 .. 2000;"], out), 0)
        one = recording.load_one(out)
        calls = int(np.isin(one.events["operation"], (MALLOC, CALLOC, ALIGNED, FREE)).sum())
        for malloc in MALLOCS:
            self.assertGreater(int(self.figures(self.replay(script.words_of(one), malloc=malloc))["ops"]), calls // 2)


class BadScripts(Replayed):
    def refused(self, data, message):
        file = FOLDER / "refused.replay"
        file.write_bytes(data)
        done = self.replay(file)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertRegex(done.stderr, rf"^replay: .*{message}.*\n$")

    def test_each_kind_has_its_message(self):
        words = script.words_of(made((0, MALLOC, 0x1000, 16), (0, FREE, 0x1000, 0)))

        def changed(*changes, anew=True):
            other = words.copy()
            for at, value in changes:
                other[at] = value
            if anew:
                other[4] = 0
                other[4] = script.checksum(other)
            return other.tobytes()
        self.refused(b"", "is no script: `bench/trace script` makes one of a recording")
        self.refused(b"x" * 640, "is no script")
        self.refused(words.tobytes()[:-8], "is not as long as it says")
        self.refused(changed((1, 9 | 1 << 32)), "has version 9 of the format, not 1: make it anew")
        self.refused(changed((len(words) - 1, 17), anew=False), "is not what was written: its checksum is another")
        self.refused(changed((10, 200)), "an operation that cannot be")
        self.refused(changed((10, 5 << 32)), "an operation that cannot be")
        self.refused(changed((9, 3)), "operations beyond the end")
        self.refused(changed((1, 1 | 5000 << 32)), "has no thread or too many")
        done = self.replay(FOLDER / "nothing.replay")
        self.assertEqual((done.returncode, "No such file" in done.stderr), (3, True))

    def test_usage(self):
        for words, status in ((["--help"], 0), ([], 2), ([self.write(np.zeros(1, "u8")), "--what"], 2)):
            done = subprocess.run([REPLAY, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, status)
            self.assertIn("usage: replay", done.stdout + done.stderr)


if __name__ == "__main__":
    sys.exit(testing.run(__name__, WORDS, verbosity=2))
