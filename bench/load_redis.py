#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""redis-server under redis-benchmark, over a Unix socket in a folder that is removed afterwards.

    load_redis.py [REQUESTS]    a line of data; an operation is one request
    load_redis.py --probe       only see that the server's malloc is the preloaded one

A library to measure is given by LD_PRELOAD, as for any program. Only the server gets it. Debian
links its redis-server with jemalloc: without LD_PRELOAD it gets libc's malloc instead, by preloading
libc. The checksum covers 10 000 keys that are written before and read back after the requests.
"""

import csv
import hashlib
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

COMMANDS = "set,get,incr,lpush,rpop,sadd,hset,zadd"
START_SECONDS, USAGE, FAILED = 60, 2, 3
LOADED = "HAKMEM_BENCH_SERVER_PRELOAD"  # LD_PRELOAD, put aside for the server

# Values of many sizes; they are read back in order, so that the sum depends on every byte.
WRITE = """for i = 1, tonumber(ARGV[1]) do
  redis.call('SET', 'kept:' .. i, string.rep(tostring(i), i % 97))
end"""
READ = """local sum = ''
for i = 1, tonumber(ARGV[1]) do sum = redis.sha1hex(sum .. redis.call('GET', 'kept:' .. i)) end
return sum"""


def fail(message, status=FAILED):
    print(f"load_redis.py: {message}", file=sys.stderr)
    sys.exit(status)


def without_preload():
    """Runs this script anew without the library, as only the server is to be measured."""
    aside = os.environ.pop("LD_PRELOAD", "")
    if aside:
        os.environ[LOADED] = aside
        os.execv(sys.executable, [sys.executable, *sys.argv])
    return os.environ.pop(LOADED, "") or "libc.so.6"


def probe(server, library):
    done = subprocess.run([server, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, errors="replace",
                          env={**os.environ, "LD_PRELOAD": library, "LD_DEBUG": "bindings"})
    wanted = re.escape(os.path.basename(library))
    if done.returncode or not re.search(rf"binding file {re.escape(server)} \[\d+\] to (\S*/)?"
                                        rf"{wanted} \[\d+\]: normal symbol `malloc'", done.stderr):
        fail(f"malloc of {server} is not served by {library}")


class Server:
    def __init__(self, program, library, folder):
        self.path = os.path.join(folder, "socket")
        self.process = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no",
             "--dir", folder, "--daemonize", "no", "--logfile", os.path.join(folder, "log")],
            env={**os.environ, "LD_PRELOAD": library}, stdin=subprocess.DEVNULL)
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connection = socket.socket(socket.AF_UNIX)
                self.connection.settimeout(START_SECONDS)
                self.connection.connect(self.path)
                break
            except OSError:
                self.connection.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    fail(f"{program} does not answer: exit status {self.process.returncode}")
                time.sleep(0.002)
        self.answers = self.connection.makefile("rb")

    def ask(self, *words):
        words = [str(word).encode() for word in words]
        self.connection.sendall(b"*%d\r\n" % len(words)
                                + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        line = self.answers.readline().rstrip()
        if line.startswith(b"-") or not line:
            fail(f"the server says {line.decode(errors='replace')!r}")
        if line.startswith(b"$") and line != b"$-1":
            line = self.answers.read(int(line[1:]) + 2)[:-2]
        return line.decode(errors="replace")

    def peak_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            return re.search(r"VmHWM:\s*(\d+)", file.read())[1]

    def stop(self):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def seconds_of(rows, requests):
    """How long redis-benchmark took for all commands. It counts milliseconds."""
    rates = [float(row["rps"]) for row in rows]
    if not all(map(math.isfinite, rates)):
        fail(f"{requests} requests take less than a millisecond, which redis-benchmark cannot time: ask for more")
    return sum(requests / rate for rate in rates)


def measure(server, benchmark, requests):
    keys = min(10000, requests)
    server.ask("EVAL", WRITE, 0, keys)
    before = server.ask("EVAL", READ, 0, keys)
    done = subprocess.run([benchmark, "-s", server.path, "-n", str(requests), "-r", "10000", "-d",
                           "100", "-P", "16", "-c", "8", "-t", COMMANDS, "--csv"],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if done.returncode or not rows:
        fail(f"redis-benchmark failed: {(done.stderr or done.stdout).strip()[:200]}")
    after = server.ask("EVAL", READ, 0, keys)
    if after != before:
        fail(f"the kept keys have changed: {before} before, {after} after")
    seconds = seconds_of(rows, requests)
    # SET allocates most; a latency is that of a request among 16 that were sent together.
    sets = next(row for row in rows if row["test"] == "SET")
    checksum = hashlib.sha256(f"{after} {requests} {[row['test'] for row in rows]}".encode())
    operations = requests * len(rows)
    percentiles = {name: float(sets[f"{column}_latency_ms"]) * 1e6
                   for name, column in (("p50", "p50"), ("p99", "p99"), ("max", "max"))}
    print(f"workload=redis ops={operations} ns_per_op={seconds / operations * 1e9:.3f} "
          f"seconds={seconds:.9f} checksum={checksum.hexdigest()[:16]} requests={requests} "
          f"requests_per_second={operations / seconds:.0f} "
          + " ".join(f"{name}_ns={value:.0f}" for name, value in percentiles.items())
          + f" server_peak_rss_kib={server.peak_kib()}", flush=True)


def main():
    library = without_preload()
    words = sys.argv[1:] or ["10000"]
    server = shutil.which("redis-server", path="/usr/bin:/bin")
    benchmark = shutil.which("redis-benchmark", path="/usr/bin:/bin")
    if not server or not benchmark:
        fail("redis-server or redis-benchmark is missing: apt-get install redis-server redis-tools")
    if words == ["--probe"]:
        probe(server, library)
        return
    if len(words) > 1 or not re.fullmatch(r"[1-9][0-9]{0,8}", words[0]):
        fail("usage: load_redis.py [REQUESTS | --probe]", USAGE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hakmem-redis-") as folder:
        running = Server(server, library, folder)
        try:
            measure(running, benchmark, int(words[0]))
        finally:
            status = running.stop()
    if status:
        fail(f"redis-server ended with status {status}")


if __name__ == "__main__":
    main()
