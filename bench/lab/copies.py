# SPDX-License-Identifier: MIT
"""Private copies of what is measured.

A measurement takes minutes, in which a build may replace the library or the workloads. So each library, each
workload's program and each file that a workload reads is copied first, and only the copies are run. What
cannot be copied, such as libc, a peer's further libraries or Debian's programs, is watched. At the end the
digests of all of them are taken again:

  a copy, or a watched file, is another one    the figures mix two programs: `spoiled` says which
  an original is another one                   harmless, as the copy was measured: `replaced` says which
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterable, Sequence

from . import libraries
from .libraries import CLEAN_ENVIRONMENT, Library, LibraryError
from .workloads import Workload

BENCH = Path(__file__).resolve().parent.parent
READ_BY_WORKLOADS = ("*.c", "*.h", "*.lua", "*.py", "*.sql")


def digest(path: str | Path) -> str | None:
    """None for a file that is not there or cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def _suitable(folder: str) -> bool:
    """Whether LD_PRELOAD can name what lies there, and the kernel runs it."""
    try:
        return not re.search(r"[\s:]", folder) and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    except OSError:
        return False


def _place() -> str:
    candidates = dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp", os.getcwd()])
    for folder in candidates:
        if _suitable(folder) and os.access(folder, os.W_OK):
            return folder
    raise LibraryError("there is no folder for private copies of what is measured: set TMPDIR to one in which "
                       "programs may be run and whose path has no space and no colon")


def _loaded(file: str) -> dict[str, str | None]:
    """{name: path, or None where it is not found} of what the dynamic linker loads for a program or a library."""
    def said(command: Sequence[str], **more: str) -> str:
        return subprocess.run(command, env={**CLEAN_ENVIRONMENT, **more}, capture_output=True, text=True,
                              errors="replace").stdout

    # It is in its own list, the one file without an arrow. Unlike a program's environment, it takes any path.
    linker = re.search(r"^\s*(/\S+) \(0x", said(["/bin/true"], LD_TRACE_LOADED_OBJECTS="1"),
                       re.MULTILINE)
    if not linker:
        return {}
    found = {}
    for line in said([linker[1], file], LD_TRACE_LOADED_OBJECTS="1").splitlines():
        if match := re.match(r"\s*(\S+) => (?:not found|(/.+) \(0x)", line):
            found[match[1]] = match[2]
        elif match := re.match(r"\s*(/.+) \(0x", line):
            found[match[1]] = match[1]
    return found


class Copies:
    """A folder of copies; close() removes it. As a context manager it closes itself."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="hakmem-measured-", dir=_place())
        self.programs = os.path.join(self.folder, "programs")
        self.bench = os.path.join(self.folder, "bench")
        self._copied: dict[str, tuple[str, str | None]] = {}  # copy -> (original, digest)
        self._watched: dict[str, str | None] = {}  # file -> digest
        self._opened: dict[str, Library] = {}  # argument -> Library
        os.mkdir(self.programs)
        os.mkdir(self.bench)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy(self, original: str | Path, copy: str) -> None:
        """The copy's content decides: what it was copied from may change at any time."""
        if copy in self._copied:
            return
        shutil.copyfile(original, copy)
        os.chmod(copy, 0o555 if os.access(original, os.X_OK) else 0o444)
        self._copied[copy] = (os.path.abspath(original), digest(copy))

    def watch(self, path: str | Path | None) -> None:
        if path and os.path.isfile(path):
            real = os.path.realpath(path)
            self._watched.setdefault(real, digest(real))

    def take_programs(self, programs: str | Path, chosen: Iterable[Workload]) -> None:
        """Copies the chosen workloads' programs, and what workloads read; watches the system's programs."""
        for name in {"launch", *(word.removeprefix("{programs}/") for workload in chosen for word in workload.command
                                 if word.startswith("{programs}/"))}:
            self._copy(os.path.join(programs, name), os.path.join(self.programs, name))
        for pattern in READ_BY_WORKLOADS:
            for file in BENCH.glob(pattern):
                self._copy(file, os.path.join(self.bench, file.name))
        for workload in chosen:
            if workload.command[0].startswith("/"):
                self.watch(workload.command[0])
            if workload.own:
                self.watch(workload.own.input)
            for program, _ in workload.needs:
                self.watch(shutil.which(program, path=CLEAN_ENVIRONMENT["PATH"]))

    def open_library(self, argument: str) -> Library:
        """As libraries.open_library, of a copy: what it says it is, the copy says. Raises LibraryError."""
        if argument not in self._opened:
            self._opened[argument] = self._open(argument)
        return self._opened[argument]

    def _open(self, argument: str) -> Library:
        original = libraries.find(argument)
        for file in _loaded("/bin/true").values():
            self.watch(file)
        if original is None:
            return libraries.open_library(argument)
        folder = os.path.join(self.folder, str(len(self._opened)))
        os.mkdir(folder)
        copy = os.path.join(folder, re.sub(r"[\s:]", "_", os.path.basename(original)))
        self._copy(original, copy)
        needed = _loaded(original)
        for name, path in _loaded(copy).items():
            # Found in the original's folder only: the copy's folder needs it, too.
            if path is None and (found := needed.get(name)):
                self._copy(found, os.path.join(folder, name))
        try:
            opened = libraries.open_library(argument, copy)
        except LibraryError as error:
            raise type(error)(self.known(str(error))) from None
        for path in _loaded(copy).values():
            if path and not path.startswith(self.folder):
                self.watch(path)
        return opened

    @property
    def originals(self) -> dict[str, str]:
        """{copy: what it was copied from}"""
        return {copy: original for copy, (original, _) in self._copied.items()}

    def known(self, text: str) -> str:
        """The text with the names that the user knows: a copy will be gone when it is read."""
        for copy, original in self.originals.items():
            text = text.replace(copy, original)
        return text

    @property
    def spoiled(self) -> list[str]:
        """The files that were measured and are not what they were, as their users know them."""
        return [original for copy, (original, taken) in self._copied.items() if digest(copy) != taken] + [
            path for path, taken in self._watched.items() if digest(path) != taken]

    @property
    def replaced(self) -> list[str]:
        """The originals that are not any more what was copied."""
        return [original for original, taken in self._copied.values() if digest(original) != taken]
