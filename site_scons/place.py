# SPDX-License-Identifier: MIT
"""Where a build writes, as which user, and the lock that lets one build write at a time.

All output lies in one folder, build/ or the one that O= names. One build at a time may write to it: SCons reads
its database at the start and writes the whole of it at the end, so of two concurrent builds the one that ends last
would call files up to date that the other has built differently.
"""

import contextlib
import fcntl
import os
import pwd
import sys
from pathlib import Path

import SCons.SConsign

from refusal import Refusal


# ── As which user ─────────────────────────────────────────────────────────────────────────────────────────


class Owner:
    """The owner of the sources. When root builds or installs from another user's tree, it acts as that user until it
    installs, so that no file in the tree becomes root's."""

    def __init__(self, root: Path, folder: Path) -> None:
        status = (folder if folder.is_dir() else root).stat()
        self.user, self.group = status.st_uid, status.st_gid
        self.is_acting = False  # root acts as the owner, or has done so until it began to install

    def become(self) -> None:
        """Acts as the owner from now on, if root is another."""
        if os.geteuid() != 0 or self.user == 0:
            return
        try:
            entry = pwd.getpwuid(self.user)
            self.groups, home = os.getgrouplist(entry.pw_name, self.group), entry.pw_dir
        except KeyError:
            self.groups, home = [self.group], "/"
        try:
            self.is_acting = True
            self.leave_root()
        except OSError as error:
            self.is_acting = False
            sys.stderr.write(
                f"scons: root cannot act as the owner of this tree, user {self.user}: {error.strerror}; "
                "what is built will be root's\n"
            )
            return
        # Root's own folders are not for others to read.
        os.environ["HOME"] = home
        if not os.access(os.environ.get("TMPDIR", "/"), os.W_OK):
            os.environ.pop("TMPDIR", None)

    def enter_root(self) -> None:
        """For what is written outside of the tree: the whole process is root's until it leaves that."""
        if self.is_acting:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)

    def leave_root(self) -> None:
        if self.is_acting and os.geteuid() == 0:
            os.setgroups(self.groups)
            os.setresgid(self.group, self.group, 0)
            os.setresuid(self.user, self.user, 0)

    @contextlib.contextmanager
    def as_root(self):
        self.enter_root()
        try:
            yield
        finally:
            self.leave_root()


# ── One build at a time ────────────────────────────────────────────────────────────────────────────────────


class Lock:
    """A lock on the folder of builds. It is held until the process ends, or the process that it was handed to unlocks it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / ".lock"
        self.held = -1

    def acquire(self, command: str) -> None:
        """Waits for another build, and names it. `command` is how other builds name this one."""
        said = ""
        while True:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                held = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise Refusal(f"{self.file.parent}/ cannot be written: {error.strerror}; O=FOLDER builds elsewhere") from None
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(held, 1000, 0).decode(errors="replace").strip() or "another build"
                if said != holder:
                    print(f"scons: waiting for {holder}, which writes to {self.file.parent}/", flush=True)
                    said = holder
                fcntl.flock(held, fcntl.LOCK_EX)
            except OSError as error:
                print(f"scons: {self.file.parent}/ cannot be locked ({error.strerror}): let no other build run", flush=True)
            # `make clean` may have removed the file in the meantime, and another build have made a new one.
            if self.is_at_its_place(held):
                break
            os.close(held)
        os.ftruncate(held, 0)
        os.pwrite(held, f"process {os.getpid()} ({command})\n".encode(), 0)
        self.held = held

    def is_at_its_place(self, held: int) -> bool:
        try:
            there, here = os.stat(self.file), os.fstat(held)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def hand_over(self) -> int:
        """The lock's file descriptor, for a program that unlocks it. What SCons knows is written now, and not once
        more when it ends: the database is another build's then. Nothing may be built after this."""
        SCons.SConsign.write()
        SCons.SConsign.sig_files.clear()
        SCons.SConsign.DB_sync_list.clear()
        return self.held


def command_line() -> str:
    return " ".join(["scons", *sys.argv[1:]])
