# SPDX-License-Identifier: MIT
"""The mallocs under test: what they are, and whether they really serve a program."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass, replace
from typing import Iterable, Mapping, Sequence

PROBE_SECONDS = 20
SYSTEM = "system"
# Other mallocs that can be asked for by name: the file to preload, and Debian's package of it.
PEERS = {
    "jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
    "tbb": ("libtbbmalloc_proxy.so.2", "libtbbmalloc2"),
}
FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class LibraryError(Exception):
    """The library cannot be measured; the message says why and what to do."""


class NotServed(LibraryError):
    """A program runs, but with another malloc."""


@dataclass(frozen=True)
class Library:
    label: str
    path: str | None  # None: whatever the program gets without LD_PRELOAD
    identity: str
    digest: str | None
    options: dict[str, str] | None = None  # macro CONFIG_… -> value, of one that was built here
    copy: str | None = None  # the private copy that programs get in its place

    @property
    def measured(self) -> str | None:
        """The file that programs are run with."""
        return self.copy or self.path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": self.measured} if self.measured else {}


def how_it_ended(returncode: int, stderr: str) -> str:
    """A few words on a program that failed, with its last words if it said any."""
    if returncode < 0:
        try:
            ended = f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            ended = f"killed by signal {-returncode}"
    else:
        ended = f"exit status {returncode}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"{ended}: {lines[-1]}" if lines else ended


def command_line(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The command as one can type it."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join(settings + [shlex.join(command)])


def _probe(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Runs a short program; returns what it wrote to stderr. Raises LibraryError if it fails."""
    shown = command_line(command, environment)
    try:
        done = subprocess.run(command, env={**CLEAN_ENVIRONMENT, **environment}, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LibraryError(f"{command[0]}: no end within {PROBE_SECONDS} s; "
                           f"to repeat: {shown}") from None
    except OSError as error:
        raise LibraryError(f"{command[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        # LD_DEBUG's flood is no message.
        said = "" if "LD_DEBUG" in environment else done.stderr
        raise LibraryError(f"{command[0]}: {how_it_ended(done.returncode, said)}; "
                           f"to repeat: {shown}")
    return done.stderr


def malloc_served_by(command: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """The files to which the program's and its libraries' malloc was bound, as the dynamic linker
    reports it; empty for a static program."""
    report = _probe(command, {**environment, "LD_DEBUG": "bindings"})
    return set(re.findall(r"binding file \S+ \[\d+\] to (\S+) \[\d+\]: normal symbol `malloc'",
                          report))


def check_served(library: Library, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises NotServed unless the program's malloc is the library's."""
    served = malloc_served_by(command, {**library.environment, **environment})
    if library.measured:
        if any(os.path.realpath(file) == os.path.realpath(library.measured) for file in served):
            return
    else:
        # An executable at a fixed address may stand between: it passes the call on.
        others = {file for file in served if file != command[0]}
        if others and all(os.path.basename(file).startswith("libc.so") for file in others):
            return
    by = " and ".join(sorted(served)) or "itself (it seems to be linked statically)"
    raise NotServed(f"malloc of {command[0]} is not served by {library.path or 'libc'} but by {by}")


ALLOCATING = re.compile(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `(?:malloc|calloc|realloc|free|"
                        r"aligned_alloc|posix_memalign|_Zn[wa]m|_ZdlPvm?)'")


def not_served(library: Library, program: str, reports: Iterable[str]) -> None:
    """Raises NotServed unless one of the processes that the dynamic linker reported on got its allocating functions
    from the library."""
    served = {file for report in reports for _, file in ALLOCATING.findall(report)}
    if any(os.path.realpath(file) == os.path.realpath(library.measured or "") for file in served):
        return
    by = " and ".join(sorted(served)) or "itself: it is linked statically, or allocates nothing"
    raise NotServed(f"malloc of {program} is not served by {library.path} but by {by}")


def _package_version(path: str) -> str | None:
    """"libjemalloc2 5.3.0-1" for a file that a Debian package owns, else None."""
    # Since /usr was merged, a package may own the file under its name without /usr.
    real = os.path.realpath(path)
    names = [real] + ([real[4:]] if real.startswith("/usr/") else [])
    try:
        for name in names:
            owner = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True)
            if owner.returncode == 0:
                package = owner.stdout.split(": ")[0].split(",")[0]
                shown = subprocess.run(["dpkg-query", "--show", package], capture_output=True,
                                       text=True)
                return " ".join(shown.stdout.split()).replace(":amd64", "") or None
    except OSError:
        pass
    return None


def _system() -> Library:
    version = os.confstr("CS_GNU_LIBC_VERSION") or "the C library, version unknown"
    package = _package_version("/lib/x86_64-linux-gnu/libc.so.6")
    return Library(SYSTEM, None, f"{version} ({package})" if package else version, None)


def _named(peer: str) -> str:
    """The file of a malloc that was asked for by name."""
    file, package = PEERS[peer]
    for folder in FOLDERS:
        if found := sorted(glob.glob(f"{folder}/{file}")):
            return found[0]
    raise LibraryError(f"{peer}: there is no {file} below {', '.join(FOLDERS)}; "
                       f"`apt-get install {package}`, or give the path of another build")


def find(argument: str) -> str | None:
    """The path of a library's file, of a path or a name; None for the system's malloc. Raises LibraryError."""
    if argument == SYSTEM:
        return None
    path = _named(argument) if argument in PEERS else argument
    if not os.path.isfile(path):
        names = ", ".join([SYSTEM, *PEERS])
        raise LibraryError(f"{path}: no such file; give the path of a shared library (`scons "
                           "CONFIG=default` builds build/default/libhakmem.so), or one of "
                           f"{names}")
    return os.path.abspath(path)


def _preloadable(path: str) -> str:
    if re.search(r"[\s:]", path):
        raise LibraryError(f"{path}: LD_PRELOAD cannot name a file with a space or a colon in its "
                           "path; copy or link it elsewhere")
    return path


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _options(path: str, identity: str) -> dict[str, str] | None:
    """The options of a library in its build's folder, from the file that it was compiled with;
    None where that is not there or belongs to another build."""
    try:
        with open(os.path.join(os.path.dirname(path), "gen", "autoconf.h"), "rb") as file:
            text = file.read()
    except OSError:
        return None
    if f" config {hashlib.sha256(text).hexdigest()[:12]} " not in identity:
        return None
    return dict(re.findall(r"^#define (CONFIG_\w+) (.*)$", text.decode(), re.MULTILINE))


def _label(path: str) -> str:
    """The folder's name for what the build made there, which is the configuration's; else the
    file's."""
    name = os.path.basename(path).split(".so")[0]
    folder = os.path.basename(os.path.dirname(path))
    return folder if name == "libhakmem" and folder else name.removeprefix("lib")


def check_preloads(path: str, measured: str) -> str:
    """What a program says that gets the library, which includes what the library says it is. Raises LibraryError if
    it cannot be preloaded."""
    said = _probe(["/bin/true"], {"LD_PRELOAD": measured, "HAKMEM_VERSION": "1"})
    refused = re.search(r"from LD_PRELOAD cannot be preloaded \(([^)]*)\)", said)
    if refused:
        raise LibraryError(f"{path} cannot be preloaded: {refused[1]}. It must be a shared library "
                           "for this machine, with all that it needs; `ldd` and `file` tell more")
    return said


def open_library(argument: str, copy: str | None = None) -> Library:
    """The library of that path, or the one of that name; programs get the copy of it, if there is one. Raises
    LibraryError if a program cannot be run with it."""
    path = find(argument)
    if path is None:
        return _system()
    measured = _preloadable(copy or path)
    said = check_preloads(path, measured)
    named = re.search(r"^hakmem .*", said, re.MULTILINE)
    identity = named[0] if named else (_package_version(path)
                                       or f"{os.path.basename(path)}, version unknown")
    library = Library(argument if argument in PEERS else _label(path), path, identity,
                      _digest(measured), _options(path, identity) if named else None, copy)
    try:
        check_served(library, ["/bin/cat", "/dev/null"], {})
    except NotServed as error:
        raise LibraryError(f"{path} is loaded, but takes no effect: {error}. A library built with "
                           "CONFIG_OVERRIDE_LIBC=n cannot be preloaded") from None
    return library


def tell_apart(opened: Sequence[Library]) -> list[Library]:
    """Gives each library a label of its own. Those that share one get the name of their folder, or
    else a number."""
    result = list(opened)
    for again in ("folder", "number"):
        shared = {library.label for library in result
                  if sum(other.label == library.label for other in result) > 1}
        for index, library in enumerate(result):
            folder = os.path.basename(os.path.dirname(library.path or ""))
            if library.label in shared and (again == "number" or folder):
                label = folder if again == "folder" else f"{library.label} ({index + 1})"
                result[index] = replace(library, label=label)
    return result
