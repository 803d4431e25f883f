# SPDX-License-Identifier: MIT
"""Runs a program so that it is recorded."""

import datetime
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from . import library, recording
from .library import TraceError


def default_folder():
    name = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    return library.ROOT / "build/recordings" / f"{name}-{os.getpid()}"


def tidy(folder):
    """Cuts off what files were made larger for, and removes the shared ones that hold nothing."""
    for file in recording.files_of(folder):
        with open(file, "r+b") as opened:
            end = recording._data_end(opened.fileno())
            if end < os.fstat(opened.fileno()).st_size:
                os.ftruncate(opened.fileno(), end)
        header = recording.read_bytes(file)[:8192]
        if file.name.endswith("-shared.trace") and len(library.decode(header)[0]) == 0 and file.stat().st_size <= 4096:
            file.unlink()


def record(command, folder, malloc=None):
    """Runs it; its exit status."""
    if not library.RECORDER.exists():
        raise TraceError(f"{library.RECORDER} is not there: `scons workloads` builds it")
    if shutil.which(command[0]) is None:
        raise TraceError(f"{command[0]}: there is no such program")
    if malloc and not Path(malloc).is_file():
        raise TraceError(f"{malloc}: there is no such library")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TraceError(f"{folder}: {error.strerror}") from None
    before = set(Path(folder).iterdir())
    behind = [str(Path(malloc).resolve())] if malloc else []
    preload = ":".join([str(library.RECORDER), *behind, *filter(None, [os.environ.get("LD_PRELOAD")])])
    environment = {**os.environ, "LD_PRELOAD": preload, "HAKMEM_RECORD": str(Path(folder).resolve())}
    # Ctrl-C is for the program; what it has recorded is then tidied here.
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = subprocess.run(command, env=environment,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, old)).returncode
    finally:
        signal.signal(signal.SIGINT, old)
    made = [file for file in set(Path(folder).iterdir()) - before if file.name.endswith(".trace")]
    if not made:
        print(f"bench/record: nothing was recorded: {command[0]} is linked statically, or runs with other rights "
              "(set-user-ID), or clears its environment before it starts the program; CONFIG_RECORD can help",
              file=sys.stderr)
        return status or 1
    tidy(folder)
    size = sum(file.stat().st_size for file in Path(folder).glob("*.trace"))
    print(f"bench/record: {len(list(Path(folder).glob('*.trace')))} files, {size / 1e6:.1f} MB in {folder}; "
          f"`bench/trace show {folder}` looks at them", file=sys.stderr)
    return status
