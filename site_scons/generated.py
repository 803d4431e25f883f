# SPDX-License-Identifier: MIT
"""The texts of build/<config>/gen/."""

import os
import re
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


# What `git archive` and `scons deb` write into what they pack (.gitattributes).
ARCHIVED = "site_scons/revision"


def archived_revision(root: Path) -> str:
    """The revision that unpacked sources came with; "unknown" if they came from nowhere."""
    try:
        text = (root / ARCHIVED).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
    match = re.fullmatch(r"([0-9a-f]{12})[0-9a-f]*(-modified)?", text)
    return match[1] + (match[2] or "") if match else "unknown"


def revision(root: Path, places: "list[Path]") -> str:
    """The commit of the sources, with "-modified" if they differ from it, or if a plug-in comes from
    elsewhere. Outside of git, what an archive says of itself; what was changed after it was unpacked cannot be
    seen."""
    elsewhere = any(root / place.parent.name != place.parent for place in places)
    found = repository_revision(root) or archived_revision(root)
    known = found != "unknown" and not found.endswith("-modified")
    return f"{found}-modified" if elsewhere and known else found


def repository_revision(root: Path) -> str:
    """That of the git repository whose work tree the sources are; nothing without one."""

    def git(*words: str) -> str:
        done = subprocess.run(
            # Root may read what another user owns.
            ["git", "-c", f"safe.directory={root.resolve()}", "-C", str(root), *words],
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
            return ""
        commit = git("rev-parse", "--short=12", "HEAD")
        modified = git("status", "--porcelain", "--", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}-modified" if modified else commit


def write(target, source, env) -> None:
    """SCons action: puts the text of a Value node into a file, which is never there by half."""
    file = str(target[0])
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(source[0].read())
    os.replace(f"{file}.new", file)
