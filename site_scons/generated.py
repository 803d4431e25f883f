# SPDX-License-Identifier: MIT
"""The texts of build/<config>/gen/."""

import os
import subprocess
from pathlib import Path

# What the library is made from: a change elsewhere does not make it a modified one.
SOURCES = ["Kconfig", "SConstruct", "backends", "configs", "core", "policies", "site_scons"]


def include_text(parent: str, name: str) -> str:
    """A literal include: SCons follows it to find what depends on the plug-in, but not `#include MACRO`."""
    return f'#include "{parent}/{name}/{name}.h"\n'


def identity_text(macros: "dict[str, str]") -> str:
    """String macros."""
    lines = []
    for name, value in macros.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'#define {name} "{escaped}"\n')
    return "".join(lines)


def revision(root: Path, places: "list[Path]") -> str:
    """The commit of the sources, with "-modified" if they differ from it, or if a plug-in comes from
    elsewhere; "unknown" outside of git."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # `git status` shall not write to the user's index
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        # Sources that were unpacked inside another project's repository have no revision of their own.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"
        commit = git("rev-parse", "--short=12", "HEAD")
        modified = git("status", "--porcelain", "--", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    elsewhere = any(root / place.parent.name != place.parent for place in places)
    return f"{commit}-modified" if modified or elsewhere else commit


def write(target, source, env) -> None:
    """SCons action: puts the text of a Value node into a file, which is never there by half."""
    file = str(target[0])
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(source[0].read())
    os.replace(f"{file}.new", file)
